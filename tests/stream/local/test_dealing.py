"""Which worker has which camera, and what its configuration is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from configs import ConfigError
from stream.config import StreamConfig, overrides_path
from stream.load import usable_cores
from stream.local.dealing import deal, owner_of, parse_devices

IDS = [f"camera-{number}" for number in range(2000)]


def config(tmp_path: Path, **sections: object) -> StreamConfig:
    fields: dict[str, object] = {
        "cameras": [{"id": name, "url": "push:"} for name in IDS[:40]],
        "outbox": {"path": tmp_path / "outbox.db"},
        "http": {"port": 0, "token": "secret", "probe_port": 9200, "hosts": ["example.org"]},
        "snapshots": {"enabled": True, "path": tmp_path / "pictures", "keep_megabytes": 900},
    }
    return StreamConfig.model_validate(fields | sections)


def test_cameras_are_dealt_evenly_and_move_only_to_an_added_worker() -> None:
    before = {name: owner_of(name, 4) for name in IDS}
    after = {name: owner_of(name, 5) for name in IDS}
    counts = Counter(before.values())
    assert set(counts) == {0, 1, 2, 3}
    # Binomial with n = 2000 and p = 1/4: a deviation of 100 is more than five standard deviations.
    assert all(abs(count - 500) < 100 for count in counts.values())
    moved = [name for name in IDS if before[name] != after[name]]
    assert {after[name] for name in moved} == {4}
    assert 300 < len(moved) < 500  # a fifth


def test_the_owner_of_a_camera_never_changes_between_releases() -> None:
    # Recorded once: files of workers on disk depend on it.
    assert [owner_of(name, 3) for name in ("a", "b", "c", "front-door")] == [0, 0, 1, 1]


def test_cameras_of_a_topic_are_not_dealt_again(tmp_path: Path) -> None:
    shared = {"topic": "cameras", "bootstrap": "127.0.0.1:9092"}
    of_topic = config(tmp_path, cameras=(), cameras_from=shared)
    with pytest.raises(ConfigError, match="start one worker for each device by hand"):
        deal(of_topic, ("cpu", "cpu"))


def test_every_worker_has_its_own_files_and_together_they_have_all_cameras(tmp_path: Path) -> None:
    workers = deal(config(tmp_path), ("cpu", "cpu", "cuda:1"))
    assert sorted(camera.id for each in workers for camera in each.config.cameras) == sorted(
        IDS[:40]
    )
    assert [each.config.outbox.path.name for each in workers] == [
        "outbox-0.db",
        "outbox-1.db",
        "outbox-2.db",
    ]
    assert len({each.config.snapshots.path for each in workers}) == 3
    assert {each.config.snapshots.keep_megabytes for each in workers} == {300}
    assert [overrides_path(each.config) for each in workers] == [
        tmp_path / f"outbox-{number}.db.cameras.json" for number in range(3)
    ]
    for each in workers:
        http = each.config.http
        assert (http.host, http.port, http.probe_port, http.hosts) == ("127.0.0.1", 0, None, ())
        assert http.secret() == each.token != "secret"
        assert each.token not in repr(each)
    assert [each.config.infer.device for each in workers] == ["cpu", "cpu", "cuda"]
    assert workers[0].config.infer.threads == max(1, int(usable_cores() / 2))
    assert workers[2].config.infer.threads == 0
    named = config(tmp_path, http={"changes": tmp_path / "changes.json"})
    assert [each.config.http.changes for each in deal(named, ("cpu", "cpu"))] == [
        tmp_path / "changes-0.json",
        tmp_path / "changes-1.json",
    ]


def test_a_worker_sees_only_its_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cpu, gpu = deal(config(tmp_path), ("cpu", "cuda:3"))
    assert (cpu.environment, gpu.environment) == ({}, {"CUDA_VISIBLE_DEVICES": "3"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-aa")
    assert deal(config(tmp_path), ("cuda:1",))[0].environment == {"CUDA_VISIBLE_DEVICES": "GPU-aa"}
    with pytest.raises(ConfigError, match="cuda:2 is not there: CUDA_VISIBLE_DEVICES names 2 GPUs"):
        deal(config(tmp_path), ("cuda:2",))


def test_devices_are_read_from_a_list_and_others_are_refused() -> None:
    assert parse_devices("cuda:0, CPU") == ("cuda:0", "cpu")
    for text in ("", "cpu,", "cuda", "gpu:0", "cuda:-1"):
        with pytest.raises(ConfigError, match="is not a device"):
            parse_devices(text)
