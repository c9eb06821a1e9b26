"""Names that operating systems, programs and network drives leave in folders of videos."""

from __future__ import annotations

from pathlib import Path

__all__ = ["VIDEO_ENDINGS", "ending_of", "is_hidden", "is_litter", "is_video"]

VIDEO_ENDINGS = frozenset(
    {
        ".264",
        ".265",
        ".3g2",
        ".3gp",
        ".amv",
        ".asf",
        ".avi",
        ".dav",
        ".divx",
        ".dv",
        ".f4v",
        ".flv",
        ".h264",
        ".h265",
        ".hevc",
        ".m1v",
        ".m2t",
        ".m2ts",
        ".m2v",
        ".m4v",
        ".mjpeg",
        ".mjpg",
        ".mkv",
        ".mod",
        ".mov",
        ".mp4",
        ".mpe",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".nut",
        ".ogm",
        ".ogv",
        ".qt",
        ".rm",
        ".rmvb",
        ".tod",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
        ".y4m",
    }
)
_LITTER = frozenset(
    {
        "$recycle.bin",
        "#recycle",
        "#snapshot",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "@tmp",
        "__macosx",
        "__pycache__",
        "desktop.ini",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "found.000",
        "icon\r",
        "lost+found",
        "msocache",
        "network trash folder",
        "recycled",
        "recycler",
        "system volume information",
        "temporary items",
        "thumbs.db",
    }
)
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp", ".temp", ".!ut", ".aria2")


def is_hidden(name: str) -> bool:
    """Tell whether a name is hidden: it begins with a dot, as `.DS_Store` and `._clip.mp4` do."""
    return name.startswith(".")


def is_litter(name: str) -> bool:
    """Tell whether a name belongs to a system's own files, a backup or an unfinished download."""
    lower = name.lower()
    return lower in _LITTER or lower.startswith("~$") or lower.endswith(("~", *_UNFINISHED))


def is_video(name: str) -> bool:
    """Tell whether a file name has the extension of a video, in upper or lower case."""
    return ending_of(name) in VIDEO_ENDINGS


def ending_of(name: str) -> str:
    """Return the extension of a file name in lower case, or an empty string."""
    return Path(name).suffix.lower().strip()
