"""Image sequences for tests: folders of small grey images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def write_images(
    folder: Path,
    greys: Sequence[int],
    name: str = "{:05d}.jpg",
    *,
    first: int = 1,
    size: tuple[int, int] = (48, 64),
) -> Path:
    """Write one image per grey level; `size` is height and width."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, grey in enumerate(greys, first):
        path = folder / name.format(number)
        done, data = cv2.imencode(path.suffix.lower(), np.full((*size, 3), grey, np.uint8))
        assert done
        path.write_bytes(data.tobytes())
    return folder


def grey_of(frame: Any) -> float:
    """Return the mean grey level of a decoded frame."""
    return float(frame.to_ndarray(format="rgb24").mean())
