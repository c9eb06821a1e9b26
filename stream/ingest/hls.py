"""HLS playlists (RFC 8216): what they say about a stream before FFmpeg reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from urllib.parse import urljoin

from configs import MediaError

__all__ = ["START_SEGMENTS", "Playlist", "is_playlist", "load_playlist"]

# Players begin this many segments before the end of a live playlist.
START_SEGMENTS = 3
_HEADER = "#EXTM3U"
_MAX_REDIRECTIONS = 3  # a master playlist names media playlists


@dataclasses.dataclass(frozen=True)
class Playlist:
    """A media playlist. `segments` are the durations of its segments in seconds."""

    target_seconds: float
    segments: tuple[float, ...]
    has_end: bool

    @property
    def longest_seconds(self) -> float:
        """The longest duration of a segment."""
        return max(self.target_seconds, *self.segments, 0.0)

    @property
    def behind_seconds(self) -> float:
        """How long before the end of the playlist a player begins."""
        return sum(self.segments[-START_SEGMENTS:])


def is_playlist(text: bytes) -> bool:
    """Tell whether an HTTP body begins like a playlist."""
    return text.lstrip(b"\xef\xbb\xbf \r\n").startswith(_HEADER.encode())


def load_playlist(url: str, fetch: Callable[[str], bytes]) -> Playlist:
    """Load the playlist at an address; of a master playlist, load the first media playlist.

    Raises:
        MediaError: the answer is not a playlist.
    """
    for _ in range(_MAX_REDIRECTIONS):
        text = fetch(url).decode("utf-8-sig", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines or not lines[0].startswith(_HEADER):
            raise MediaError("cannot open: the server's answer is not an HLS playlist")
        variant = _first_variant(lines)
        if variant is None:
            return _parse(lines)
        url = urljoin(url, variant)
    raise MediaError("cannot open: the HLS playlists only name each other")


def _first_variant(lines: list[str]) -> str | None:
    for index, line in enumerate(lines):
        if line.startswith("#EXT-X-STREAM-INF"):
            return next((each for each in lines[index:] if not each.startswith("#")), None)
    return None


def _parse(lines: list[str]) -> Playlist:
    target = 0.0
    segments: list[float] = []
    for line in lines:
        tag, _, value = line.partition(":")
        if tag == "#EXT-X-TARGETDURATION":
            target = _seconds(value)
        elif tag == "#EXTINF":
            segments.append(_seconds(value.partition(",")[0]))
    return Playlist(target, tuple(segments), "#EXT-X-ENDLIST" in lines)


def _seconds(text: str) -> float:
    try:
        return max(0.0, min(float(text), 3600.0))
    except ValueError:
        return 0.0
