"""Compare ways to make scaled RGB of decoded surfaces.

    python -m benchmarks.surfaces [--device auto]

On a GPU, `kernel` is the CUDA kernel and `reference` is its sibling in plain PyTorch. On the CPU
the kernel cannot run; `reference` is compared with FFmpeg's converter of software frames, both on
one thread. Every way is checked before it is timed: against float64 matrices, and FFmpeg's
converter within its own rounding. The ways run in turns. Bytes are those of the surface that is
read and of the picture that is written. On a GPU, successive calls use different surfaces, 256 MB
in total, so that no cache can hold them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.timing import copy_bytes_per_second, take_turns
from model.media.nv12 import SurfaceColours, SurfaceConverter
from model.media.scale_weights import scaled_size
from model.mixing import mixing_choice
from model.runtime import keep_freed_memory, pick_device
from tests.support.surfaces import expected_rgb, frame_of, noise, surface_of

__all__ = ["main"]

# Width, height, short side: HD cameras for networks of 224 and 112, and one that is not scaled.
SIZES = ((1920, 1080, 448), (1280, 720, 448), (1280, 720, 224), (640, 360, None))
COLOURS = SurfaceColours((0.2126, 0.0722), is_left_sited=False)
Way = Callable[[int], object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a picture is wrong, else 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    device = pick_device(parser.parse_args(arguments).device)
    reason = mixing_choice("auto", device)[1]
    if device.type == "cpu":
        keep_freed_memory()
        torch.set_num_threads(1)
        print("the kernel needs a CUDA device; its sibling in plain PyTorch is measured instead")
    elif reason:
        print(f"the kernel does not run here: {reason}")
    table = Table("surface", "way", "median ms", "p20 to p80", "GB/s", "of copy", "ratio")
    copied = copy_bytes_per_second(device)
    for width, height, short_side in SIZES:
        for dtype in (torch.uint8, torch.uint16):
            ways, moved = _ways(width, height, short_side, dtype, device, has_kernel=not reason)
            if not ways:
                return 1
            timed = take_turns(list(ways.values()), device, 5 if device.type == "cuda" else 1)
            _add_rows(
                table,
                (width, height, short_side, dtype),
                dict(zip(ways, timed, strict=True)),
                moved,
                copied,
            )
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, 1 thread"
    print(f"{place}; a copy moves {copied / 1e9:.0f} GB/s; ratio: time divided by the first way's")
    Console(width=100).print(table)
    return 0


def _add_rows(
    table: Table,
    case: tuple[int, int, int | None, torch.dtype],
    timed: dict[str, list[float]],
    moved: int,
    copied: float,
) -> None:
    width, height, short_side, dtype = case
    first = 0.0
    for name, seconds in timed.items():
        p20, median, p80 = np.quantile(seconds, (0.2, 0.5, 0.8))
        first = first or median
        cells = [f"{width}x{height} to {short_side}, {str(dtype)[6:]}", name]
        cells += [f"{1e3 * median:.3f}", f"{1e3 * p20:.3f} to {1e3 * p80:.3f}"]
        rate = moved / median
        table.add_row(*cells, f"{rate / 1e9:.2f}", f"{rate / copied:.3f}", f"{median / first:.2f}")


def _ways(
    width: int,
    height: int,
    short_side: int | None,
    dtype: torch.dtype,
    device: torch.device,
    *,
    has_kernel: bool,
) -> tuple[dict[str, Way], int]:
    """Return the checked ways, none if one is wrong; and the bytes that a call moves."""
    bits = 8 if dtype == torch.uint8 else 10
    planes = noise(width, height, max_level=2**bits - 1)
    surface = surface_of(planes, dtype)
    expected = expected_rgb(planes, COLOURS, short_side=short_side, bits=bits)
    count = 1 if device.type == "cpu" else max(2, (256 << 20) // (surface.numel() * dtype.itemsize))
    surfaces = [surface.to(device, copy=True) for _ in range(count)]
    ways: dict[str, Way] = {}
    for path in ("cuda", "reference") if has_kernel else ("reference",):
        convert = SurfaceConverter(short_side=short_side, path=path)  # type: ignore[arg-type]

        def run(index: int, convert: SurfaceConverter = convert) -> Tensor:
            samples = surfaces[index % count]
            return convert(samples, width=width, height=height, colours=COLOURS)

        if not _is_right(path, run(0).cpu().numpy(), expected, 0.51):
            return {}, 0
        ways["kernel" if path == "cuda" else path] = run
    if device.type == "cpu" and dtype == torch.uint8:
        from model.media.conversion import FrameConverter

        frame, software = frame_of(planes), FrameConverter(short_side, is_exact=True)
        # Noise has colours at which FFmpeg overflows; most of the picture must still be right.
        if not _is_right("FFmpeg", software(frame), expected, 2.0, fraction=0.98):
            return {}, 0
        ways["FFmpeg"] = lambda _: software(frame)
    columns, rows = scaled_size(width, height, short_side)
    return ways, surface.numel() * dtype.itemsize + 3 * columns * rows


def _is_right(
    name: str, found: object, expected: object, tolerance: float, fraction: float = 1.0
) -> bool:
    difference = np.abs(np.asarray(found, float) - np.asarray(expected))
    right = bool((difference <= tolerance).mean() >= fraction)
    if not right:
        print(f"error: {name} is wrong by up to {difference.max():.1f} levels", file=sys.stderr)
    return right


if __name__ == "__main__":
    sys.exit(main())
