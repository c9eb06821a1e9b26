"""Activation maps: the numbers against the formula, the files as a viewer would open them."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from configs import MediaError
from model import load_model
from model.__main__ import main
from model.activation import (
    ClipMaps,
    analyse_video,
    titled_frame,
    write_overlay,
    write_sheet,
)
from model.media.preprocess import Preprocessor, normalise_clips
from model.media.video import sampled_frames


def test_the_maps_are_those_of_the_formulas(scenes: Path, tiny_weights: Path) -> None:
    network = load_model(tiny_weights)
    path = scenes / "recordings/camera-1.mp4"
    (clip,) = analyse_video(network, path, start_seconds=2.0)
    assert clip.start_seconds == pytest.approx(2.0, abs=0.1)
    assert network.spec is not None
    frames = np.stack(sampled_frames(path, 15.0, start_seconds=2.0)[:32])
    seen = Preprocessor(network.spec.preprocess, max_batch=1)([frames])
    with torch.no_grad():
        maps = network.backbone(normalise_clips(seen, network.spec.preprocess))
        mixed = network.cidc(maps)  # type: ignore[misc]
    backbone, cidc, evidence = clip.maps.values()
    np.testing.assert_allclose(backbone, 1 / (1 + np.exp(-maps[-1][0].mean(0).numpy())), atol=1e-6)
    rows = mixed[0].abs().mean(0).numpy()
    # Forward rows 0, 1 and backward rows 2, 3: the first sub-clip is seen by the first forward and
    # the last backward row.
    np.testing.assert_allclose(cidc[0], (rows[0] + rows[3]) / 2, atol=1e-6)
    np.testing.assert_allclose(cidc[3], (rows[1] + rows[2]) / 2, atol=1e-6)
    assert list(clip.maps)[2] == f"what speaks for {clip.label}"
    assert (evidence.min(), evidence.max()) == (0, 1)


def made_up(shape: tuple[int, int] = (3, 5)) -> ClipMaps:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (32, 240, 432, 3), dtype=np.uint8)
    maps = {name: rng.random((4, *shape), dtype=np.float32) for name in ("without", "with")}
    maps["flat"] = np.full((4, *shape), 0.5, np.float32)
    return ClipMaps(0.0, frames, maps, "fall", 0.9)


def test_a_sheet_has_a_column_for_each_sub_clip_and_a_row_for_each_map(tmp_path: Path) -> None:
    clip = made_up()
    write_sheet(clip, tmp_path / "s.png")
    sheet = cv2.imread(str(tmp_path / "s.png"))[..., ::-1]
    assert sheet.shape == (4 * 270, 4 * 432, 3)
    np.testing.assert_array_equal(sheet[30:270, 432:864], clip.frames_THWC[12])
    strongest = np.unravel_index(clip.maps["without"].argmax(), (4, 3, 5))
    row = 300 + int((strongest[1] + 0.5) * 80)
    column = int(strongest[0]) * 432 + int((strongest[2] + 0.5) * 86.4)
    frame = clip.frames_THWC[8 * strongest[0] + 4, row - 300, column - int(strongest[0]) * 432]
    overlay = 2 * sheet[row, column].astype(int) - frame
    assert overlay[0] > max(overlay[1], overlay[2])  # the top of the colour map is red


def test_a_title_covers_only_a_corner_and_takes_any_text() -> None:
    frame = np.full((360, 640, 3), 90, np.uint8)
    titled = titled_frame(frame, "fall 93%")
    assert titled.shape == frame.shape
    rows, columns = np.nonzero((titled != frame).any(axis=2))
    assert rows.max() < 40
    assert columns.max() < 200
    assert titled.max() > 200  # white letters
    assert (titled_frame(frame, "跌倒 93%") != frame).any()


@pytest.mark.slow
def test_an_overlay_video_plays_and_has_every_frame(tmp_path: Path) -> None:
    write_overlay([made_up(), made_up()], tmp_path / "o.mp4", fps=15)
    with av.open(str(tmp_path / "o.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 64
    assert (frames[0].width, frames[0].height) == (4 * 432, 270)
    assert float(frames[-1].time or 0) == pytest.approx(63 / 15, abs=0.01)


@pytest.mark.slow
def test_the_command_draws_a_real_video(
    scenes: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = scenes / "recordings/camera-1.mp4"
    outputs = ["--out", str(tmp_path / "s.jpg"), "--out", str(tmp_path / "o.mkv")]
    assert main(["maps", "--checkpoint", str(tiny_weights), "--video", str(video), *outputs]) == 0
    assert (tmp_path / "s.jpg").stat().st_size > 10_000
    assert (tmp_path / "o.mkv").stat().st_size > 10_000
    assert "8 clips" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--video": "absent.mp4"}, "absent.mp4"),
        ({"--checkpoint": "absent.safetensors"}, "absent.safetensors"),
        ({"--out": "maps.gif"}, "ending must be one of"),
        ({"--out": "no/such/folder/s.png"}, "cannot write the picture"),
        ({"--start": "-3"}, "from 0, got -3"),
        ({"--start": "nan"}, "from 0, got nan"),
        ({"--start": "500"}, "no frame from 500 s on"),
    ],
)
def test_bad_input_is_one_clear_error(
    change: dict[str, str], says: str, scenes: Path, tiny_weights: Path, tmp_path: Path, capsys
) -> None:  # type: ignore[no-untyped-def]
    options = {
        "--checkpoint": str(tiny_weights),
        "--video": str(scenes / "recordings/camera-1.mp4"),
        "--out": str(tmp_path / "s.png"),
    } | change
    assert main(["maps", *(part for pair in options.items() for part in pair)]) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert "Traceback" not in printed
    assert printed.count("\n") == 1


def test_a_sound_file_has_no_maps(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    assert (
        main(
            [
                "maps",
                "--checkpoint",
                str(tiny_weights),
                "--video",
                str(tmp_path / "noise.mp4"),
                "--out",
                str(tmp_path / "s.png"),
            ]
        )
        == 2
    )
    assert "noise.mp4" in capsys.readouterr().err


def test_pictures_and_videos_may_have_names_that_are_not_utf8(tmp_path: Path) -> None:
    """OpenCV's own file functions end the process for such a name."""
    frames = np.zeros((32, 48, 80, 3), np.uint8)
    maps = {"backbone": np.zeros((4, 3, 5), np.float32)}
    clip = ClipMaps(0.0, frames, maps, "x", 0.5)
    folder = tmp_path / "\udcff"
    folder.mkdir()
    write_sheet(clip, folder / "s.png")
    assert (folder / "s.png").read_bytes().startswith(b"\x89PNG")
    for name in ("none/s.png", "s.unknown"):
        with pytest.raises(MediaError, match="cannot write the picture"):
            write_sheet(clip, folder / name)


def test_a_device_that_is_not_there_is_one_clear_error(
    scenes: Path,
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    video = str(scenes / "recordings/camera-1.mp4")
    options = ["--checkpoint", str(tiny_weights), "--video", video, "--out", f"{tmp_path}/a.png"]
    assert main(["maps", *options, "--device", "cuda"]) == 2
    assert "finds no CUDA device" in capsys.readouterr().err
