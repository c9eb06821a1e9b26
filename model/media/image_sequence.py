"""Image sequences: folders such as `v_x/00001.jpg, 00002.jpg, ...`, one image per frame.

Images are sorted by the number at the end of their names. Frame n of a sequence has the
presentation time n / fps, where n counts the images from 0; a missing number makes no pause.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from configs import MediaError
from model.media.container import explain
from model.media.source_rules import DEFAULT_MAX_PIXELS, decoder_options

__all__ = [
    "DEFAULT_IMAGE_FPS",
    "MAX_IMAGE_FPS",
    "MIN_IMAGES",
    "MIN_IMAGE_FPS",
    "ImageSequence",
    "find_sequence",
    "is_image",
    "numbered_images",
    "size_and_mtime",
]

DEFAULT_IMAGE_FPS = 25.0
MIN_IMAGE_FPS = 0.1
MAX_IMAGE_FPS = 1000.0
MIN_IMAGES = 2  # fewer numbered images in a folder are not taken for a video

_MAX_IMAGE_BYTES = 256 << 20  # an uncompressed image of 7680 x 4320 needs half of it
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>\d+)\.\w+", re.S)
# Optical flow lies beside the frames in the folders of some tools: flow_x_00001.jpg, y_00001.jpg.
_FLOW = re.compile(r"(?:flow[ _-]?)?[xyuv][ _-]|flow", re.I)
_CODECS = (
    (b"\xff\xd8", "mjpeg"),
    (b"\x89PNG", "png"),
    (b"RIFF", "webp"),
    (b"BM", "bmp"),
)


def is_image(name: str) -> bool:
    """Tell whether a file name has the extension of an image that a sequence may consist of."""
    return name.lower().endswith(_IMAGE_ENDINGS)


def numbered_images(names: Iterable[str]) -> list[str]:
    """Return the images of a sequence among the file names of a folder, in presentation order.

    Hidden files and optical flow are left out. If the names have several beginnings, such as
    `img_` and `mask_`, return the names with the beginning `img`, `image` or `frame`, or with no
    beginning; otherwise those with the most frequent one.
    """
    groups: dict[str, dict[int, str]] = {}
    for name in sorted(names):
        match = _NUMBERED.fullmatch(name) if is_image(name) else None
        if match and not name.startswith(".") and not _FLOW.match(name):
            # One image per number: of 1.jpg and 1.png, or 1.jpg and 01.jpg, the first counts.
            groups.setdefault(match["stem"].lower(), {}).setdefault(int(match["number"]), name)
    if not groups:
        return []
    best = max(groups, key=lambda stem: (_is_usual(stem), len(groups[stem]), stem))
    return [groups[best][number] for number in sorted(groups[best])]


def find_sequence(video: str | Path | ImageSequence) -> ImageSequence | None:
    """Return the image sequence that a video is, or None if the video is a file."""
    if isinstance(video, ImageSequence):
        return video
    is_folder = os.path.isdir(video)  # noqa: PTH112 - it also answers for invalid paths
    return ImageSequence(Path(video)) if is_folder else None


def size_and_mtime(path: Path) -> tuple[int, int]:
    """Return the size in bytes and the latest modification time in ns of a file or image sequence.

    Raises:
        OSError: the file or folder does not exist or cannot be read.
    """
    facts = [path.stat()]
    if not path.is_dir():
        return facts[0].st_size, facts[0].st_mtime_ns
    images = [(path / name).stat() for name in numbered_images(_names(path))]
    latest = max(each.st_mtime_ns for each in [*facts, *images])
    return sum(image.st_size for image in images), latest


@dataclasses.dataclass(frozen=True)
class ImageSequence:
    """A folder of numbered images and the number of images per second."""

    folder: Path
    fps: float = DEFAULT_IMAGE_FPS

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def stem(self) -> str:
        """The name of the folder without its ending, as `Path.stem`."""
        return self.folder.stem

    @property
    def time_base(self) -> Fraction:
        """The duration of a frame in seconds; the time of frame n is n times this."""
        return 1 / Fraction(self.fps).limit_denominator(1001)

    def images(self) -> list[Path]:
        """List the images in presentation order.

        Raises:
            MediaError: the folder cannot be read or has no numbered images.
        """
        try:
            names = _names(self.folder)
        except OSError as error:
            raise MediaError(f"cannot open: {error.strerror}") from error
        images = numbered_images(names)
        if not images:
            raise MediaError(
                "cannot open: the folder has no numbered images such as 00001.jpg or img_1.png"
            )
        return [self.folder / name for name in images]

    def frames(self, *, strict: bool = False, from_seconds: float | None = None) -> Iterator[Any]:
        """Decode the images from a presentation time on; skip broken images.

        Raises:
            MediaError: there are no images, none of them decodes, or `strict` is True and an image
                does not decode.
        """
        images = list(enumerate(self.images()))
        first = min(int((from_seconds or 0.0) / self.time_base), len(images) - 1)
        count = 0
        for frame in self._decoded(images[first:], strict=strict):
            count += 1
            yield frame
        if count == 0:
            raise MediaError("no frame could be decoded")

    def frames_at(self, places: Iterable[int]) -> Iterator[Any]:
        """Decode only the images with these indices; skip indices out of range, and broken images.

        Raises:
            MediaError: there are no images.
        """
        images = self.images()
        yield from self._decoded(
            [(place, images[place]) for place in sorted(places) if 0 <= place < len(images)],
            strict=False,
        )

    def _decoded(self, images: Iterable[tuple[int, Path]], *, strict: bool) -> Iterator[Any]:
        decode = _ImageDecoder()
        for place, path in images:
            try:
                frame = decode(path)
            except MediaError:
                if strict:
                    raise
                continue
            frame.pts = place
            frame.time_base = self.time_base
            yield frame


class _ImageDecoder:
    """Decodes image files; it keeps one codec of each format, so only one thread may use it."""

    def __init__(self) -> None:
        self._codecs: dict[str, Any] = {}

    def __call__(self, path: Path) -> Any:
        try:
            data = _image_bytes(path)
            packet = av.Packet(data)
            packet.is_keyframe = True  # otherwise a PNG is added to the one before it
            frames = self._codec(data).decode(packet)
        except (FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"image {path.name} does not decode: {explain(error)}") from error
        if not frames:
            raise MediaError(f"image {path.name} does not decode: it is incomplete")
        return frames[0]

    def _codec(self, data: bytes) -> Any:
        name = next((name for magic, name in _CODECS if data.startswith(magic)), None)
        if name is None:
            raise ValueError("not a JPEG, PNG, WebP or BMP image" if data else "the file is empty")
        if name not in self._codecs:
            codec: Any = av.CodecContext.create(name, "r")
            codec.thread_count = 1  # frame threads would delay the frame
            codec.options = {
                "err_detect": "explode",  # otherwise a cut JPEG decodes to half grey
                **decoder_options(DEFAULT_MAX_PIXELS),
            }
            self._codecs[name] = codec
        return self._codecs[name]


def _image_bytes(path: Path) -> bytes:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("it is a folder, pipe, socket or device, not a file")
    if facts.st_size > _MAX_IMAGE_BYTES:
        raise ValueError(f"the file has more than {_MAX_IMAGE_BYTES >> 20} MB")
    return path.read_bytes()


def _names(folder: Path) -> list[str]:
    return os.listdir(folder)  # noqa: PTH208 - a folder may hold thousands of images


def _is_usual(stem: str) -> bool:
    return stem.strip(" _-.") in ("", "img", "image", "frame", "frames", "im", "i")
