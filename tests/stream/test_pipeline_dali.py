"""A whole pipeline whose cameras DALI decodes, beside the same one in software."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from stream.pipeline import Pipeline
from stream.types import View
from tests.support.coded_video import write_video
from tests.support.pipelines import ResultTap, config_for


@pytest.mark.slow
def test_clips_and_probabilities_are_those_of_the_software_decoder(
    tiny_weights: Path, tmp_path: Path
) -> None:
    """Up to the last clip of a file, which is not a whole stride after the one before."""
    urls = {
        "vp9": write_video(tmp_path / "a.webm", "libvpx-vp9", range(70), gop=12),
        "jpeg": write_video(tmp_path / "b.avi", "mjpeg", range(53)),
    }
    seen: dict[str, dict[View, list[list[float]]]] = {}
    for decoder in ("software", "dali"):
        folder = tmp_path / decoder
        folder.mkdir()
        config = config_for(tiny_weights, folder, urls, source={"decoder": decoder})
        with Pipeline(config) as pipeline:
            tap = ResultTap(pipeline)
            summary = pipeline.run(threading.Event())
        seen[decoder] = tap.seen
        metrics = pipeline.metrics
        groups = metrics.by_label(metrics.gops, "decoder", camera="vp9")
        assert set(groups) == ({"dali"} if decoder == "dali" else set())
        assert {each["state"] for each in summary["cameras"].values()} == {"ended"}
    assert set(seen["dali"]) == set(seen["software"]) == {View("vp9"), View("jpeg")}
    for view, expected in seen["software"].items():
        assert len(seen["dali"][view]) == len(expected) > 3
        # Frames differ by up to three grey levels, from the conversion to RGB.
        np.testing.assert_allclose(seen["dali"][view], expected, atol=0.02)
