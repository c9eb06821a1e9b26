"""Generated video: reproducible, labelled truly, and reversible in time."""

import csv
import hashlib
import itertools
import json
from pathlib import Path

import av
import numpy as np
import pytest

from configs import ConfigError
from train.data.manifest import read_manifest
from train.evaluation.quiet_hours import measure_quiet_hours
from train.synthetic import (
    ACTIONS,
    ALL_LABELS,
    INTERACTIONS,
    LABELS,
    PAIRS,
    ScenesOptions,
    write_scenes,
)
from train.synthetic.actions import draw_motion, reverse
from train.synthetic.film import Look, film, frame_times
from train.synthetic.motions.motion import Place
from train.synthetic.script import clip_script, quiet_script, recording_script
from train.synthetic.truth import CLIP_SECONDS, training_segments
from train.synthetic.view.render import render
from train.synthetic.view.room_painting import draw_room

PLACE = Place(0.0, 4.5, 0.5, 5.5)
PLAIN = Look(15.0, False, 1.0, 1.0, (0.0, 1.0), (0.0, 1.0), 0.0, 24, "ultrafast", 2.0, 0)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_with_any_number_of_processes(tmp_path: Path) -> None:
    for name, jobs, seed in (("one", 1, 3), ("two", 2, 3), ("other", 2, 4)):
        options = ScenesOptions(
            out=tmp_path / name,
            seed=seed,
            clips_per_action=1,
            background_ratio=1,
            recordings=1,
            minutes=0.1,
            jobs=jobs,
        )
        write_scenes(options, quiet=True)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    one = digest(tmp_path / "one")
    other = digest(tmp_path / "other")
    assert all(one[name] != other[name] for name in one if name.endswith(".mp4"))


def test_files_are_real_h264_listed_with_their_labels(scenes: Path) -> None:
    manifest = read_manifest(scenes / "clips/manifest.csv")
    assert set(manifest.counts) == set(LABELS)
    for entry in manifest.entries:
        with av.open(str(entry.path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert 360 <= stream.height <= 720
            times = [frame.time for frame in container.decode(video=0)]
            assert all(step > 0 for step in np.diff(times))
            assert times[-1] >= CLIP_SECONDS - 0.25


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_pairs_are_each_others_time_reversal(first: str, second: str) -> None:
    forward = draw_motion(first, np.random.default_rng(8), PLACE)
    backward = draw_motion(second, np.random.default_rng(8), PLACE)
    assert (forward.label, backward.label) == (first, second)
    for u in np.linspace(0, 1, 23):
        one = forward.at(float(u))
        other = backward.at(1.0 - float(u))
        np.testing.assert_allclose(one.angles, other.angles, atol=1e-9)
        np.testing.assert_allclose(
            (one.x, one.z, one.yaw), (other.x, other.z, other.yaw), atol=1e-9
        )
        if abs(u - 0.5) > 1e-6:
            assert one.carried == other.carried
    assert reverse(reverse(forward)).label == first


def test_the_frames_of_a_pair_are_the_same_in_the_other_order() -> None:
    """Both actions of a pair show the same frames when all else is drawn alike and stands still."""
    for first, second in PAIRS:
        rng = np.random.default_rng(2)
        script = clip_script(first, rng)
        background = draw_room(script.room, script.camera)
        forward = draw_motion(first, np.random.default_rng(5), PLACE)
        backward = draw_motion(second, np.random.default_rng(5), PLACE)
        body = script.people(script.seconds / 2)[0].body
        for u in (0.2, 0.5, 0.9):
            frames = [
                render(
                    background,
                    script.room,
                    script.camera,
                    [type(script.people(0.0)[0])(motion.at(t), body)],
                )
                for motion, t in ((forward, u), (backward, 1 - u))
            ]
            np.testing.assert_array_equal(*frames)


@pytest.mark.slow
@pytest.mark.parametrize("label", ACTIONS)
def test_truth_is_where_the_frames_change(label: str, tmp_path: Path) -> None:
    """Decoded frames change more inside the true interval of a video than outside it."""
    inside = []
    outside = []
    for seed in range(4):
        rng = np.random.default_rng([seed, 99])
        script = clip_script(label, rng)
        film(script, tmp_path / "a.mp4", rng, PLAIN)
        with av.open(str(tmp_path / "a.mp4")) as container:
            frames = [
                (frame.time, frame.to_ndarray(format="gray").astype(float))
                for frame in container.decode(video=0)
            ]
        (interval,) = script.intervals
        for (_, before), (time, after) in itertools.pairwise(frames):
            moving = interval.start_seconds < time <= interval.end_seconds
            (inside if moving else outside).append(float(np.abs(after - before).mean()))
    assert np.mean(inside) > 2 * np.mean(outside)


def test_recordings_list_what_happens_without_overlap() -> None:
    seen: set[str] = set()
    for seed in range(6):
        script = recording_script(150.0, np.random.default_rng([seed, 7]))
        for one, other in itertools.pairwise(script.intervals):
            assert one.end_seconds + 2.0 < other.start_seconds
        assert all(0 <= one.start_seconds < one.end_seconds <= 150.0 for one in script.intervals)
        seen |= {interval.label for interval in script.intervals}
    assert seen == set(ACTIONS)


def test_the_truth_file_has_the_intervals(scenes: Path) -> None:
    with (scenes / "recordings/truth.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} <= {"camera-1.mp4", "camera-2.mp4"}
    assert {row["label"] for row in rows} <= set(ACTIONS)


def test_every_clip_of_a_training_segment_deserves_its_label() -> None:
    for seed in range(5):
        intervals = recording_script(120.0, np.random.default_rng([seed, 7])).intervals
        segments = training_segments(intervals, 120.0)
        assert sum(segment.label != "background" for segment in segments) == len(intervals)
        for segment in segments:
            for start in np.linspace(
                segment.start_seconds,
                max(segment.start_seconds, segment.end_seconds - CLIP_SECONDS),
                9,
            ):
                shown = {
                    interval: min(interval.end_seconds, start + CLIP_SECONDS)
                    - max(interval.start_seconds, start)
                    for interval in intervals
                }
                fractions = {
                    i: max(0.0, s) / min(i.end_seconds - i.start_seconds, CLIP_SECONDS)
                    for i, s in shown.items()
                }
                best = max(fractions, key=lambda interval: fractions[interval])
                if segment.label == "background":
                    assert sum(fractions.values()) <= 0.36 + 1e-6
                elif segment.start_seconds > 0 and segment.end_seconds < 120:
                    assert best.label == segment.label
                    assert fractions[best] >= 0.62 - 1e-6


def test_variable_rate_cameras_wander_between_12_and_30() -> None:
    look = Look(15.0, True, 1.0, 1.0, (0.0, 1.0), (0.0, 1.0), 0.0, 24, "ultrafast", 2.0, 0)
    steps = np.diff(frame_times(look, 20.0, np.random.default_rng(0)))
    assert steps.min() >= 1 / 30 - 1e-9
    assert steps.max() <= 1 / 12 + 1e-9
    assert steps.std() > 0.01


def test_interactions_are_added_and_change_no_other_file(tmp_path: Path) -> None:
    for name, interactions in (("a", 0), ("b", 1)):
        options = ScenesOptions(
            tmp_path / name,
            clips_per_action=0,
            clips_per_interaction=interactions,
            recordings=1,
            minutes=0.1,
            jobs=1,
        )
        write_scenes(options, quiet=True)
    first, second = (digest(tmp_path / name / "recordings") for name in ("a", "b"))
    assert first == second
    assert not (tmp_path / "a/clips").exists()
    assert set(read_manifest(tmp_path / "b/clips/manifest.csv").counts) == set(INTERACTIONS)
    facts = [json.loads((tmp_path / name / "scenes.json").read_text()) for name in ("a", "b")]
    assert [tuple(fact["labels"]) for fact in facts] == [LABELS, ALL_LABELS]
    assert [fact["clips_per_interaction"] for fact in facts] == [0, 1]


@pytest.mark.parametrize("fields", [{"minutes": 0}, {"clips_per_action": -1}, {"seed": -2}])
def test_options_out_of_range_are_refused(fields: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        ScenesOptions(out=tmp_path, **fields)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_scenes(
            ScenesOptions(out=tmp_path / "file", clips_per_action=0, recordings=1, minutes=0.1),
            quiet=True,
        )


def test_in_a_quiet_recording_nobody_acts() -> None:
    people = set()
    for seed in range(8, 20):
        script = quiet_script(40.0, np.random.default_rng(seed))
        assert script.intervals == ()
        shown = [script.people(t) for t in np.arange(0.0, 40.0, 0.5)]
        inside = [
            [person.figure for person in frame if person.figure.z < script.room.wall_z]
            for frame in shown
        ]
        people.add(len(inside[0]))
        for figures in inside:
            assert len(figures) == len(inside[0])
            for figure, first in zip(figures, inside[0], strict=True):
                assert (figure.x, figure.z) == (first.x, first.z)
                # Nobody falls or gets up: the body leans, but it does not turn to lying.
                assert np.abs(figure.angles - first.angles)[:2].max() < 0.7
    assert people == {0, 1}


@pytest.mark.slow
def test_quiet_recordings_are_listed_without_times_and_change_no_other_file(tmp_path: Path) -> None:
    for name, quiet in (("a", 0), ("b", 1)):
        options = ScenesOptions(
            tmp_path / name, clips_per_action=0, recordings=1, quiet_recordings=quiet, minutes=0.1
        )
        write_scenes(options, quiet=True)
    first, second = (digest(tmp_path / name / "recordings") for name in ("a", "b"))
    assert first["camera-1.mp4"] == second["camera-1.mp4"]
    truth = read_manifest(tmp_path / "b/recordings/truth.csv")
    last = truth.entries[-1]
    assert (last.path.name, last.label, last.start_seconds) == ("quiet-1.mp4", "background", None)
    found = measure_quiet_hours(truth, ())
    assert found is not None
    assert (found.recordings, found.false_alarms) == (1, 0)
    assert found.camera_hours == pytest.approx(0.1 / 60, rel=0.05)
