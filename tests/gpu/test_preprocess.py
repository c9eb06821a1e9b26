"""Preprocessing on a GPU against software and the CPU: frames, colours, rows, streams."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("pydantic")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")
pytest.importorskip("av", reason="PyAV is not installed")
import av

from model.device_streams import DeviceStream
from model.media.preprocess import CropSpec, PreprocessConfig, Preprocessor
from train.data.clip_store import ClipRequest, ClipStore
from train.data.manifest import ManifestEntry
from train.data.readers import EncodedClip, EncodedReader

CONFIG = PreprocessConfig(short_side=48, height=48, width=80)
SLEEP_CYCLES = 4_000_000_000  # more than a second on any GPU


def smooth_clip(height: int, width: int, shade: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [rows * 200 // height, columns * 200 // width, np.full_like(rows, shade)]
    return np.stack(channels, axis=-1).astype(np.uint8)[None]


def test_arrays_and_tensors_give_the_same_frames_as_the_cpu() -> None:
    clips = [smooth_clip(360, 640, 10), smooth_clip(48, 90, 20), smooth_clip(300, 200, 30)]
    on_cpu = Preprocessor(CONFIG, max_batch=3)(clips).clone()
    graph = Preprocessor(CONFIG, max_batch=3, device="gpu")
    on_gpu = [torch.from_numpy(clip).cuda() for clip in clips]
    for given in (clips, on_gpu, [clips[0], on_gpu[1], clips[2]], on_gpu[:1], clips[:1]):
        found = graph(given).cpu()
        assert (found.int() - on_cpu[: len(given)].int()).abs().max() <= 1


def test_preprocessing_does_not_wait_for_another_stream_and_results_stay() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    graph = Preprocessor(CONFIG, max_batch=4, device="gpu")
    network, analysis = DeviceStream(device), DeviceStream(device)
    expected = [graph([smooth_clip(360, 640, shade)] * 4).clone() for shade in range(0, 250, 25)]
    with analysis:
        # All page-locked buffers are allocated here: allocating them may wait for the device.
        torch.cuda._sleep(SLEEP_CYCLES // 8)
        for _ in range(3):
            graph([smooth_clip(360, 640, 0)] * 4)
    torch.cuda.synchronize()
    with network:
        torch.cuda._sleep(SLEEP_CYCLES)
        busy = network.record()
    with analysis:
        results = [graph([smooth_clip(360, 640, shade)] * 4) for shade in range(0, 250, 25)]
        ready = analysis.record()
    assert ready is not None
    assert busy is not None
    ready.synchronize()
    assert not busy.query()
    torch.cuda.synchronize()
    assert all(torch.equal(one, other) for one, other in zip(results, expected, strict=True))


def h264(path: Path, *, height: int, width: int, matrix: int) -> None:
    """Write 34 frames of three flat colours side by side, tagged with a matrix."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 1
        for number in range(34):
            frame = av.VideoFrame(width, height, "yuv420p")
            for plane, values in zip(
                frame.planes, ((120, 90, 160), (100, 140, 118), (150, 120, 110)), strict=True
            ):
                columns = np.repeat(np.array(values, np.uint8), -(-plane.line_size // 3))
                plane.update(np.tile(columns[: plane.line_size], (plane.height, 1)).tobytes())
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize(("height", "width"), [(96, 160), (1080, 1920)])
def test_dali_gives_the_colours_and_rows_of_software(
    tmp_path: Path, matrix: int, height: int, width: int
) -> None:
    path = tmp_path / "tagged.mp4"
    h264(path, height=height, width=width, matrix=matrix)
    store = ClipStore(fps=15, frames=32, short_side=None, cache=None)
    request = ClipRequest(ManifestEntry(path, "x"), 0.0)
    (clip,) = EncodedReader(store).read([request])
    assert isinstance(clip, EncodedClip)
    graph = Preprocessor(CONFIG, max_batch=2, device="gpu")
    cut = EncodedClip(clip.data, clip.places, clip.correction, rows=height)
    ours = graph.decode([clip, cut], [CropSpec(0)] * 2).cpu().float()
    theirs = Preprocessor(CONFIG, max_batch=1)([store.clip(request)])[0].float()
    for found in ours:
        assert (found - theirs).abs().mean() < 2
        assert (found.mean(dim=(0, 1, 2)) - theirs.mean(dim=(0, 1, 2))).abs().max() < 2
