"""Cameras that a fake of NVDEC decodes on the CPU, and the same ones in software."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from stream.ingest.config import SourceConfig
from stream.ingest.decoder_pool import DecoderPool
from stream.ingest.prepared_packets import prepared_packets
from stream.types import CodedPacket, PacketClock, SampledFrame, StreamBreak
from tests.support.fake_nvc import FakeNvc
from tests.support.live_cameras import QUICK, Seen, seen
from tests.support.waiting import until

__all__ = ["NVDEC", "assert_same", "coded_file", "fallbacks", "pool_on_cpu", "read_to_end"]

NVDEC = QUICK.model_copy(update={"decoder": "nvdec"})
# Both convert the same samples with the same filter; the rest is rounding.
_MAX_LEVELS = 1


@contextlib.contextmanager
def pool_on_cpu(
    nvc: FakeNvc | None = None, *, lanes: int = 2, patience_seconds: float = 30.0
) -> Iterator[DecoderPool]:
    """Open decoders of a fake for as long as the block lasts; then all must be closed."""
    nvc = nvc or FakeNvc()
    pool = DecoderPool(nvc, torch.device("cpu"), lanes=lanes, patience_seconds=patience_seconds)
    try:
        yield pool
    finally:
        pool.close()
    gc.collect()  # exceptions that the fake raises refer to its decoders
    assert pool.abandoned > 0 or nvc.open == 0


def coded_file(
    path: Path, clock: PacketClock = "stream", start: float = 100.0
) -> list[CodedPacket]:
    """Return the packets of a file as a camera's: one arrives every 0.1 s, the empty one last."""
    container = av.open(str(path))  # the packets keep it open
    packets = [
        CodedPacket(packet, start + index / 10, 1e9 + index / 10, clock=clock)
        for index, packet in enumerate(container.demux(container.streams.video[0]))
    ]
    return list(prepared_packets(packets, lambda: True))


def read_to_end(
    path: Path, config: SourceConfig = QUICK, pool: DecoderPool | None = None, **camera: object
) -> Seen:
    """Read a file as fast as possible, to its end."""
    with seen(str(path), config, pool=pool, **({"pace": "fast"} | camera)) as watched:
        assert until(lambda: "ended" in watched.breaks, 60)
    return watched


def shapes(items: Sequence[SampledFrame | StreamBreak]) -> list[Any]:
    """Return the shape of each frame and the reason of each break, in order."""
    return [
        item.frame_HWC.shape if isinstance(item, SampledFrame) else item.reason for item in items
    ]


def assert_same(one: Seen, other: Seen) -> None:
    """The same items at the same times; pictures differ by rounding only."""
    assert shapes(one.items) == shapes(other.items)
    for frame, expected in zip(one.frames, other.frames, strict=True):
        assert frame.pts_seconds == pytest.approx(expected.pts_seconds, abs=1e-6)
        difference = np.abs(frame.frame_HWC.astype(int) - expected.frame_HWC.astype(int))
        assert difference.max() <= _MAX_LEVELS
    for name in ("repeated", "decoded", "sampled"):
        counts = [watched.metrics.total(getattr(watched.metrics, name)) for watched in (one, other)]
        assert counts[0] == counts[1], name


def fallbacks(watched: Seen) -> dict[str, int]:
    """Return how often a camera was left to the software decoder, by reason."""
    return watched.metrics.by_label(watched.metrics.decoder_fallbacks, "reason")
