"""The graphs for a GPU are checked without one; what they cut is compared with PyAV's frames."""

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from model.media import dali_graph
from model.media.preprocess import CropSpec, EncodedClip, PreprocessConfig, Preprocessor

CONFIG = PreprocessConfig(short_side=32, height=32, width=48)
OPERATORS = ("ExternalSource", "decoders__Video", "Slice", "Resize", "Crop", "Flip")
ON_GPU = [("Crop", "gpu"), ("Flip", "gpu")]
RESIZED = [("Resize", "gpu"), *ON_GPU]


def graph(name: str, **arguments: Any) -> Any:
    return getattr(dali_graph, name)(
        "gpu",
        32,
        48,
        **arguments,
        batch_size=4,
        num_threads=1,
        device_id=None,
        prefetch_queue_depth=1,
        exec_dynamic=True,
    )


def operators(serialised: bytes) -> list[tuple[str, str]]:
    """Name and device of each operator; of inputs that come from the host nothing."""
    texts = [text.decode().rstrip("@") for text in re.findall(rb"[ -~]{3,}", serialised)]
    found = []
    for index, text in enumerate(texts):
        if text in OPERATORS:
            device = texts[texts.index("device", index) + 2]
            found.append((text, device))
    return [each for each in found if each != ("ExternalSource", "cpu")]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clip_graph", {}, [("ExternalSource", "gpu"), *RESIZED]),
        ("sized_clip_graph", {}, [("ExternalSource", "gpu"), *ON_GPU]),
        ("encoded_clip_graph", {}, [("decoders__Video", "mixed"), *RESIZED]),
        (
            "encoded_clip_graph",
            {"cuts_rows": True},
            [("decoders__Video", "mixed"), ("Slice", "gpu"), *RESIZED],
        ),
    ],
)
def test_a_graph_for_a_gpu_is_whole_and_stays_there(
    name: str, arguments: dict[str, bool], expected: list[tuple[str, str]]
) -> None:
    """DALI checks operators, arguments and devices when it serialises a graph."""
    assert operators(graph(name, **arguments).serialize()) == expected


def test_the_graph_of_live_decoding_is_whole() -> None:
    pipeline = dali_graph.gop_graph("gpu", batch_size=4, num_threads=1, device_id=None)
    assert operators(pipeline.serialize()) == [("decoders__Video", "mixed")]


def test_serialising_finds_an_operator_on_the_wrong_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resized = dali_graph._resized
    monkeypatch.setattr(dali_graph, "_resized", lambda frames: resized(frames.gpu()).cpu())
    assert operators(graph("clip_graph").serialize()) != [("ExternalSource", "gpu"), *RESIZED]


def test_every_graph_is_checked() -> None:
    graphs = {"clip_graph", "sized_clip_graph", "encoded_clip_graph", "gop_graph"}
    assert set(dali_graph.__all__) == graphs


def coded_video(path: Path, height: int) -> EncodedClip:
    """A lossless VP9 file; its lowest rows are white, as padding would show."""
    rng = np.random.default_rng(height)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=15, options={"lossless": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, height, "yuv420p"
        for _ in range(3):
            frame_HWC = np.kron(
                rng.integers(0, 200, (height // 4, 24, 1), dtype=np.uint8),
                np.ones((4, 4, 3), np.uint8),
            )
            frame_HWC[64:] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(stream.encode())
    return EncodedClip(np.fromfile(path, np.uint8), np.arange(3, dtype=np.int32))


def software(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_rows_below_the_shown_frame_are_cut(tmp_path: Path) -> None:
    """Files of 72 rows with 64 shown, of 64 rows, and of 72 rows that are all shown, together."""
    tall, exact = coded_video(tmp_path / "72.webm", 72), coded_video(tmp_path / "64.webm", 64)
    cut = EncodedClip(tall.data, tall.places, rows=64)
    ours = Preprocessor(CONFIG, max_batch=3).decode([cut, exact, tall], [CropSpec(0)] * 3)
    pixels = [software(tmp_path / f"{height}.webm") for height in (72, 64)]
    expected = Preprocessor(CONFIG, max_batch=3)([pixels[0][:, :64], pixels[1], pixels[0]])
    # The two conversions to RGB may round differently.
    assert (ours.int() - expected.int()).abs().max() <= 2
    lowest = ours[:, :, -1, 20:28]
    assert int(lowest[0].max()) < 250 < int(lowest[2].min())


def test_without_rows_to_cut_the_graph_has_no_slice() -> None:
    assert ("Slice", "gpu") not in operators(graph("encoded_clip_graph").serialize())
