"""Whole pipelines whose cameras NVDEC (a fake) decodes, beside the same ones in software."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs import ConfigError
from stream import camera_assembly
from stream.ingest.decoder_pool import DecoderPool
from stream.pipeline import Pipeline
from stream.start_check import check_start
from stream.types import View
from tests.support.coded_video import write_video
from tests.support.fake_nvc import FakeNvc
from tests.support.pipelines import ResultTap, config_for
from tests.support.waiting import until

SIZE = (176, 144)


@pytest.fixture
def nvc(monkeypatch: pytest.MonkeyPatch) -> FakeNvc:
    """Take the place of the GPU's decoders in every pipeline of the test."""
    nvc = FakeNvc()
    use(monkeypatch, nvc)
    return nvc


def use(monkeypatch: pytest.MonkeyPatch, nvc: FakeNvc, **options: Any) -> None:
    def open_pool(device: torch.device) -> DecoderPool:
        return DecoderPool(nvc, device, **options)

    monkeypatch.setattr(camera_assembly, "open_pool", open_pool)


def h264(path: Path, frames: int = 70, **options: Any) -> Path:
    return write_video(path, "libx264", range(frames), size=SIZE, gop=12, **options)


def request(pipeline: Pipeline, method: str, path: str, body: object = None) -> int:
    assert pipeline.http is not None
    data = None if body is None else json.dumps(body).encode()
    url = f"{pipeline.http.address}{path}"
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read()) from None


@pytest.mark.slow
def test_clips_and_probabilities_are_those_of_the_software_decoder(
    tiny_weights: Path, tmp_path: Path, nvc: FakeNvc
) -> None:
    urls = {
        "b-frames": h264(tmp_path / "a.mp4", bf="2"),
        "ts": h264(tmp_path / "b.ts", 53, bf="0"),
        "vp9": write_video(tmp_path / "c.webm", "libvpx-vp9", range(60), size=SIZE),
        "jpeg": write_video(tmp_path / "d.avi", "mjpeg", range(53), size=SIZE),
    }
    found: dict[str, dict[View, list[list[float]]]] = {}
    for decoder in ("software", "auto"):
        folder = tmp_path / decoder
        folder.mkdir()
        pictures = {"enabled": True, "path": folder / "pictures"}
        config = config_for(
            tiny_weights, folder, urls, source={"decoder": decoder}, snapshots=pictures
        )
        with Pipeline(config) as pipeline:
            tap = ResultTap(pipeline)
            summary = pipeline.run(threading.Event())
            text = pipeline.metrics.exposition().decode()
        found[decoder] = tap.seen
        assert {each["state"] for each in summary["cameras"].values()} == {"ended"}
        assert ('cidc_decoder_fallbacks_total{reason="codec"} 1.0' in text) is (decoder == "auto")
    assert set(found["auto"]) == set(found["software"]) == {View(name) for name in urls}
    for view, expected in found["software"].items():
        assert len(found["auto"][view]) == len(expected) > 3
        # Frames differ by a grey level, from the rounding of the conversion.
        np.testing.assert_allclose(found["auto"][view], expected, atol=0.01)
    assert nvc.created == 3
    assert nvc.open == 0


@pytest.mark.slow
def test_sixty_four_cameras_share_a_few_threads(
    tiny_weights: Path, tmp_path: Path, nvc: FakeNvc
) -> None:
    paths = [h264(tmp_path / f"{index}.mp4", 40, bf=str(index)) for index in range(3)]
    urls = {f"c{index}": paths[index % 3] for index in range(64)}
    config = config_for(tiny_weights, tmp_path, urls, clip={"hop": 16})
    with Pipeline(config) as pipeline:
        summary = pipeline.run(threading.Event())
    assert all(each["frames_decoded"] == 40 for each in summary["cameras"].values()), summary[
        "cameras"
    ]
    assert nvc.created == nvc.closed == 64
    assert nvc.decoded == 64 * 40
    threads = [next(iter(names)) for names in nvc.threads.values() if len(names) == 1]
    assert len(threads) == 64
    assert len(set(threads)) == 7


@pytest.mark.slow
def test_a_camera_that_is_removed_gives_its_decoder_back(
    tiny_weights: Path, tmp_path: Path, nvc: FakeNvc
) -> None:
    path = h264(tmp_path / "a.mp4", bf="0")
    http = {"port": 0, "changes": tmp_path / "changes.json", "files": [str(tmp_path)]}
    cameras = [{"id": name, "url": str(path), "loop": True} for name in ("a", "b")]
    sections = {"cameras": cameras, "source": {"decoder": "nvdec"}, "http": http}
    config = config_for(tiny_weights, tmp_path, {}, **sections)
    stop = threading.Event()
    with Pipeline(config) as pipeline:
        runner = threading.Thread(target=pipeline.run, args=(stop,))
        runner.start()
        try:
            assert until(lambda: nvc.open == 2, 30)
            assert request(pipeline, "DELETE", "/cameras/a") in (200, 204)
            assert until(lambda: nvc.open == 1, 30)
            camera = {"id": "c", "url": str(path), "loop": True}
            assert request(pipeline, "POST", "/cameras", camera) == 201
            assert until(lambda: nvc.open == 2, 30)
            text = pipeline.metrics.exposition().decode()
            assert 'cidc_open_decoders{kind="nvdec"} 2.0' in text
        finally:
            stop.set()
            runner.join(60)
        assert not runner.is_alive()
    assert nvc.created == 3
    assert nvc.open == 0


@pytest.mark.slow
def test_a_run_ends_in_time_though_a_decoder_hangs(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    class Hanging(FakeNvc):
        def enter_decode(self, decoder: Any, packet: Any) -> None:
            if decoder.number == 1 and packet.pts == 10:
                release.wait()
            super().enter_decode(decoder, packet)

    nvc = Hanging()
    use(monkeypatch, nvc, lanes=2, patience_seconds=0.5)
    path = h264(tmp_path / "a.mp4", 40, bf="0")
    config = config_for(tiny_weights, tmp_path, {"a": path, "b": path, "c": path})
    started_at = time.monotonic()
    with Pipeline(config) as pipeline:
        summary = pipeline.run(threading.Event())
        text = pipeline.metrics.exposition().decode()
    assert time.monotonic() - started_at < 60
    release.set()
    assert all(each["frames_decoded"] == 40 for each in summary["cameras"].values()), summary[
        "cameras"
    ]
    assert "cidc_decoder_threads_abandoned 1.0" in text
    assert 'cidc_decoder_fallbacks_total{reason="hung"}' in text
    assert until(lambda: nvc.open == 0, 30)


def test_nvdec_by_name_is_an_error_where_it_cannot_be_used(
    tiny_weights: Path, tmp_path: Path
) -> None:
    path = h264(tmp_path / "a.mp4", 10)
    of_all = config_for(tiny_weights, tmp_path, {"a": path}, source={"decoder": "nvdec"})
    of_one = of_all.model_copy(
        update={
            "source": of_all.source.model_copy(update={"decoder": "auto"}),
            "cameras": [of_all.cameras[0].model_copy(update={"source": of_all.source})],
        }
    )
    said = r"source.decoder: nvdec cannot be used: .* the device cpu.*cidc-stream\[gpu\].*auto"
    for config, place in ((of_all, ""), (of_one, "camera a: ")):
        with pytest.raises(ConfigError, match=place + said):
            check_start(config)
        with pytest.raises(ConfigError, match=place + said), Pipeline(config):
            pass
