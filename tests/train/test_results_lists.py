"""The lists of the sets of results: clips drawn by seed, hashes, and lists that are written."""

from collections import Counter
from pathlib import Path

import pytest

from configs import DataError
from train.config import labels_in
from train.data.manifest import ManifestEntry, read_manifest
from train.results.config import ScenesSet
from train.results.lists import draw_clips, hash_of_videos, set_lists, write_entries

ENTRIES = [
    ManifestEntry(Path(f"videos/{label}/take{take}_{number}.mp4"), label)
    for label in ("one", "two")
    for take in range(4)
    for number in range(6 if take == 0 else 2)
]


def test_drawn_clips_are_spread_over_groups_and_grow() -> None:
    draws = [draw_clips(ENTRIES, clips, seed=3, group="(take[0-9])_") for clips in (1, 4, 8, 99)]
    for clips, drawn in zip((1, 4, 8, 12), draws, strict=True):
        assert Counter(entry.label for entry in drawn) == {"one": clips, "two": clips}
    takes = Counter((entry.label, entry.path.name[:5]) for entry in draws[1])
    assert set(takes.values()) == {1}
    assert set(Counter((entry.label, entry.path.name[:5]) for entry in draws[2]).values()) == {2}
    assert set(draws[0]) < set(draws[1]) < set(draws[2]) < set(draws[3]) == set(ENTRIES)


def test_draws_depend_on_the_seed_and_not_on_the_order() -> None:
    first = draw_clips(ENTRIES, 4, seed=0, group=None)
    assert draw_clips(ENTRIES[::-1], 4, seed=0, group=None) == first
    others = [set(draw_clips(ENTRIES, 4, seed=seed, group=None)) for seed in range(1, 6)]
    assert any(other != set(first) for other in others)
    with pytest.raises(DataError, match="finds nothing"):
        draw_clips(ENTRIES, 4, seed=0, group="(room)")


def test_written_entries_are_read_back(tmp_path: Path) -> None:
    entries = [
        ManifestEntry(tmp_path / "a, b.mp4", "one"),
        ManifestEntry(tmp_path / "c.mp4", "two", 0.1 + 0.2, 1.5),
        ManifestEntry(tmp_path / "d", "two", fps=12.5),
    ]
    write_entries(tmp_path / "list.csv", entries)
    assert list(read_manifest(tmp_path / "list.csv").entries) == entries


def test_the_hash_of_videos_is_that_of_content_and_not_of_place(tmp_path: Path) -> None:
    hashes = {}
    for name, size, label in (
        ("here", 3, "one"),
        ("there", 3, "one"),
        ("larger", 4, "one"),
        ("label", 3, "two"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.mp4").write_bytes(b"x" * size)
        write_entries(tmp_path / f"{name}.csv", [ManifestEntry(folder / "a.mp4", label)])
        hashes[name] = hash_of_videos(folder, tmp_path / f"{name}.csv")
    assert hashes["here"] == hashes["there"]
    assert len(set(hashes.values())) == 3


@pytest.mark.slow
def test_scenes_are_written_once(tmp_path: Path) -> None:
    found = ScenesSet(kind="scenes", id="s", title="S", clips=1, validation_clips=1)
    nothing = set_lists(found, 1, data_root=tmp_path, out=tmp_path / "out", make=False)
    assert nothing is None
    lists = set_lists(found, 1, data_root=tmp_path, out=tmp_path / "out")
    assert lists is not None
    clip = read_manifest(lists.train).entries[0].path
    written = clip.stat().st_mtime_ns
    labels = labels_in(lists.labels_from)
    assert len(labels) == 12
    assert set(read_manifest(lists.validation).counts) == set(labels)
    again = set_lists(found, 1, data_root=tmp_path, out=tmp_path / "out", make=False)
    assert again == lists
    assert clip.stat().st_mtime_ns == written
    other = found.model_copy(update={"seed": 5})
    assert set_lists(other, 1, data_root=tmp_path, out=tmp_path / "out", make=False) is None
