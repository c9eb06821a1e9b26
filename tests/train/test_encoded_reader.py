"""Encoded files for DALI: threads that read ahead, and the threads of DALI's decoder."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train.data.batch_maker
import train.data.readers
from configs import MediaError
from model.media.preprocess import CropSpec, EncodedClip
from tests.train.runs import SMALL_FRAMES
from tests.train.test_readers import write_vp9
from train.config import DataConfig
from train.data.batch_maker import BatchMaker
from train.data.clip_plan import PlannedClip
from train.data.clip_store import ClipRequest, ClipStore
from train.data.loader import batches, open_reader
from train.data.manifest import ManifestEntry
from train.data.readers import EncodedReader


def store() -> ClipStore:
    return ClipStore(fps=15, frames=32, short_side=None, cache=None)


@pytest.fixture
def requests(tmp_path: Path) -> list[ClipRequest]:
    """Clips of three files; the second file is broken, and each file comes several times."""
    paths = [write_vp9(tmp_path / "a.webm"), tmp_path / "bad.webm", write_vp9(tmp_path / "c.webm")]
    paths[1].write_bytes(b"no video")
    return [ClipRequest(ManifestEntry(paths[number % 3], "x"), number / 11) for number in range(12)]


def test_threads_read_the_same_in_the_same_order(requests: list[ClipRequest]) -> None:
    expected = list(EncodedReader(store()).read(requests))
    reader = EncodedReader(store(), threads=4)
    try:
        for wanted in (requests, requests[5:]):
            found = list(reader.read(wanted))
            assert len(found) == len(wanted)
            for ours, theirs in zip(found, expected[-len(wanted) :], strict=True):
                if isinstance(theirs, EncodedClip):
                    assert isinstance(ours, EncodedClip)
                    np.testing.assert_array_equal(ours.data, theirs.data)
                    np.testing.assert_array_equal(ours.places, theirs.places)
                else:
                    assert isinstance(theirs, MediaError)
                    assert str(ours) == str(theirs)
    finally:
        reader.close()


def test_reading_overlaps_with_dali(
    requests: list[ClipRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the graph decodes the first batch, threads read the clips of the second."""
    planned = [
        PlannedClip(request.entry, request.start, CropSpec(48), 0)
        for request in requests
        if "bad" not in str(request.entry.path)
    ]
    read: list[str] = []
    second_was_read = threading.Event()
    from_file = np.fromfile

    def noting(path: Any, dtype: Any) -> Any:
        read.append(threading.current_thread().name)
        if len(read) > 2:
            second_was_read.set()
        return from_file(path, dtype)

    run_graph = BatchMaker._graph_output

    def waiting(self: BatchMaker, sources: Any) -> torch.Tensor:
        assert second_was_read.wait(10)
        return run_graph(self, sources)

    monkeypatch.setattr(train.data.readers.np, "fromfile", noting)
    monkeypatch.setattr(BatchMaker, "_graph_output", waiting)
    reader = EncodedReader(store(), threads=2)
    found = list(batches(planned, 2, reader=reader, preprocess=SMALL_FRAMES))
    reader.close()
    assert len(found) == 4
    assert all(name.startswith("read-ahead") for name in read)


def test_what_was_read_before_dali_failed_is_decoded_in_software(
    requests: list[ClipRequest],
) -> None:
    good = requests[0]
    reader = EncodedReader(store(), threads=2)
    items = reader.read([good, good, good])
    assert isinstance(next(items), EncodedClip)
    reader.leave_to_software(good.entry.path)
    expected = store().clip(good)
    for item in items:
        np.testing.assert_array_equal(item, expected)  # type: ignore[arg-type]
    reader.close()


def settings(tmp_path: Path, **fields: object) -> DataConfig:
    lists = {"train": tmp_path / "t", "validation": tmp_path / "v", "labels": ("a", "b")}
    return DataConfig.model_validate(lists | fields)


@pytest.mark.parametrize(
    ("device", "wanted", "expected"),
    [("cpu", None, 2), ("cpu", 5, 5), ("cuda", None, 7), ("cuda", 3, 3)],
)
def test_dalis_decoder_has_the_threads_of_the_setting_or_of_the_device(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    wanted: int | None,
    expected: int,
) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(train.data.batch_maker, "decoder_engines", lambda _: 7)
    monkeypatch.setattr(
        train.data.batch_maker, "Preprocessor", lambda *_, **given: made.update(given)
    )
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: None)
    data = settings(tmp_path, decoder="dali", decoder_threads=wanted)
    reader = open_reader(data, store(), torch.device(device))
    BatchMaker(
        [],
        reader=reader,
        preprocess=SMALL_FRAMES,
        max_batch=2,
        device=torch.device(device),
        quarantine=None,
    )
    reader.close()
    assert made["threads"] == expected


def test_dalis_decoder_pins_no_threads_to_cores() -> None:
    """Each process of a machine would pin them to the same cores."""
    from model.media.dali_graph import encoded_clip_graph

    graph = encoded_clip_graph("gpu", 48, 80, batch_size=2, num_threads=7, device_id=None)
    written = graph.serialize()
    place = written.index(b"affine")
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(batch_size=2, num_threads=7, device_id=None)  # type: ignore[untyped-decorator]
    def pinned() -> Any:
        encoded = fn.external_source(name="encoded", no_copy=True)
        return fn.decoders.video(encoded, device="mixed", affine=True)

    other = pinned().serialize()
    after = other.index(b"affine")
    assert written[place : place + 20] != other[after : after + 20]
