"""Where a network looks: boxes against what is drawn, figures of maps that are made up."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from model.media.preprocess import PreprocessConfig
from train.__main__ import main
from train.evaluation.attention import map_figures
from train.evaluation.channel_facts import channel_facts
from train.synthetic.attention_clips import AttentionClip, attention_clips
from train.synthetic.boxes import Box, person_box, write_boxes
from train.synthetic.script import clip_script
from train.synthetic.view.render import render
from train.synthetic.view.room_painting import draw_room

FRAMING = PreprocessConfig(short_side=80, height=80, width=144)


@pytest.mark.parametrize("label", ["fall", "raise_arm", "walk_left"])
def test_the_box_is_where_the_person_is_drawn(label: str) -> None:
    script = clip_script(label, np.random.default_rng(4))
    background = draw_room(script.room, script.camera)
    for time in (0.2, script.seconds / 2):
        person = script.people(time)[0]
        with_person = render(background, script.room, script.camera, [person])
        changed = (with_person != background).any(axis=2)
        box = person_box(person, script.camera)
        rows, columns = np.mgrid[: changed.shape[0], : changed.shape[1]]
        inside = (rows >= box.top) & (rows <= box.bottom)
        inside &= (columns >= box.left) & (columns <= box.right)
        # The shadow on the floor is not part of the box.
        assert (changed & inside).sum() > 0.8 * changed.sum()
        assert (changed & inside).sum() > 0.15 * inside.sum()


def test_written_boxes_follow_the_person(tmp_path: Path) -> None:
    script = clip_script("walk_right", np.random.default_rng(1))
    write_boxes(script, tmp_path / "a.boxes.csv")
    rows = list(csv.DictReader((tmp_path / "a.boxes.csv").read_text().splitlines()))
    lefts = [float(row["left"]) for row in rows if row["behind_wall"] == "0"]
    assert len(lefts) == int(script.seconds * 15)
    # Where the camera stands decides nothing: to the right of the scene is to the right here.
    assert lefts[-1] > lefts[0] + 50


def made_up(actor: Box, other: Box | None) -> AttentionClip:
    frames = np.zeros((32, 160, 288, 3), np.uint8)  # twice the size of the network's input
    return AttentionClip("fall", frames, (actor,) * 32, other)


def test_figures_of_made_up_maps() -> None:
    left, right = Box(0, 0, 144, 160), Box(144, 0, 288, 160)
    map_SHW = np.zeros((4, 8, 16), np.float32)
    map_SHW[:, :, :8] = 3.0
    map_SHW[:, :, 8:] = 1.0
    map_SHW[0, 4, 3] = 9.0
    at_left = map_figures(map_SHW, made_up(left, right), FRAMING)
    assert (at_left.pointing, at_left.above_other) == (1.0, True)
    assert at_left.energy == pytest.approx(0.75, abs=0.02)
    at_right = map_figures(map_SHW, made_up(right, left), FRAMING)
    assert (at_right.pointing, at_right.above_other) == (0.0, False)
    assert at_right.energy == pytest.approx(0.25, abs=0.02)


def test_a_flat_map_has_the_figures_of_chance() -> None:
    clip = made_up(Box(0, 0, 72, 160), None)
    flat = map_figures(np.ones((4, 8, 16), np.float32), clip, FRAMING)
    assert flat.energy == pytest.approx(0.25, abs=0.01)
    # The box is enlarged by half a cell, which is 5 of 144 pixels here.
    assert flat.pointing == pytest.approx((36 + 5) / 144, abs=0.01)
    assert flat.above_other is None


def test_channels_that_fall_at_the_person_are_counted() -> None:
    import torch

    person = np.zeros((80, 144), np.bool_)
    person[:, :48] = True
    map_CTHW = torch.zeros(4, 2, 2, 3)
    map_CTHW[0, :, :, 0], map_CTHW[1, :, :, 0], map_CTHW[2, :, :, 0] = -3.0, -1.0, 2.0
    facts = channel_facts(map_CTHW, person)
    assert facts is not None
    assert facts.lower == 0.5
    assert facts.dead == 0.25
    assert facts.negative == pytest.approx(2 / 4 / 3)
    assert facts.change == pytest.approx(6 / 4)
    assert facts.mean_at_person == pytest.approx(-2 / 4)
    assert channel_facts(map_CTHW, np.zeros_like(person)) is None


@pytest.mark.slow
def test_conditions_differ_only_in_the_distractor() -> None:
    clips = {
        name: next(iter(attention_clips(["pick_up"], 1, seed=2, distractor=name)))
        for name in ("none", "person", "flicker")
    }
    plain = clips["none"]
    centre = np.mean([(box.left + box.right) / 2 for box in plain.actor])
    assert 0.15 < centre / plain.frames_THWC.shape[2] < 0.35
    for name in ("person", "flicker"):
        assert clips[name].actor == plain.actor
        other = clips[name].other
        assert other is not None
        assert other.left > plain.frames_THWC.shape[2] / 2
        left = int(other.left)
        width = plain.frames_THWC.shape[2] // 3
        assert (clips[name].frames_THWC[:, :, left:] != plain.frames_THWC[:, :, left:]).any()
        apart = clips[name].frames_THWC[:, :, :width].astype(int) - plain.frames_THWC[:, :, :width]
        assert np.abs(apart).mean() < 12  # noise differs, the scene does not


@pytest.mark.slow
def test_the_command_writes_figures_a_page_and_a_picture(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("train.commands.attention._EXAMPLES", ("fall",))
    monkeypatch.setattr("train.synthetic.actions.LABELS", ("background", "fall", "leave"))
    outputs = [
        f"--{name}={tmp_path}/a.{end}"
        for name, end in (("json", "json"), ("report", "md"), ("picture", "png"))
    ]
    assert main(["attention", "--checkpoint", str(tiny_weights), "--clips", "1", *outputs]) == 0
    assert "class activation" in capsys.readouterr().out
    figures = json.loads((tmp_path / "a.json").read_text())
    row = figures["person"]["maps"]["class activation"]
    assert row["clips"] == 2
    assert 0 <= row["energy"] <= 1
    assert "| flicker | the same everywhere |" in (tmp_path / "a.md").read_text()
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_weights_with_other_labels_are_refused(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from model import load_model, save_model

    network = load_model(tiny_weights)
    assert network.spec is not None
    labels = tuple(f"class {number}" for number in range(len(network.spec.labels)))
    spec = network.spec.model_copy(update={"labels": labels, "background": None})
    save_model(network, tmp_path / "other.safetensors", spec=spec)
    assert main(["attention", "--checkpoint", str(tmp_path / "other.safetensors")]) == 2
    assert "knows none of the actions" in capsys.readouterr().err
    assert main(["attention", "--checkpoint", str(tiny_weights), "--clips", "0"]) == 2
