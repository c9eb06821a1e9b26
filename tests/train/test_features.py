"""Training on cached maps: the same logits as from clips, a cache that refuses what differs."""

import threading
from pathlib import Path

import pytest
import torch
from rich.progress import Progress

from configs import ConfigError, DataError
from model import ModelConfig, ModelSpec, build_model, load_model, save_model
from model.cidc_network import CIDCConfig
from model.media.preprocess import normalise_clips
from tests.train.runs import SMALL_FRAMES
from train.config import DataConfig, TrainConfig
from train.data.clip_plan import EvaluationViews, PlannedClip
from train.data.loader import batches, open_reader, open_store
from train.data.manifest import read_manifest
from train.engine.run import StoppedError
from train.engine.trainer import dry_run, train
from train.features.cache import FeatureCache
from train.features.config import FeaturesConfig
from train.features.run import FeatureRun

LABELS = ("fall", "get_up", "sit_down", "stand_up")
QUIET = Progress(disable=True)


def write_backbone(path: Path, *, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = ModelConfig(backbone="slow_only", depth=18, width=8, num_classes=3, cidc=None)
    spec = ModelSpec(name="b", model=config, labels=("x", "y", "z"), preprocess=SMALL_FRAMES)
    save_model(build_model(config), path, spec=spec)
    return path


@pytest.fixture
def run_config(scenes: Path, tmp_path: Path) -> TrainConfig:
    """Four classes on a frozen backbone, with a CIDC network that reads three maps."""
    manifest = read_manifest(scenes / "clips/manifest.csv")
    chosen = [next(each for each in manifest.entries if each.label == label) for label in LABELS]
    lists = tmp_path / "list.csv"
    lists.write_text("".join(f"{entry.path},{entry.label}\n" for entry in chosen))
    return TrainConfig(
        name="t",
        out=tmp_path / "run",
        device="cpu",
        precision="float32",
        backbone_from=write_backbone(tmp_path / "backbone.safetensors"),
        features=FeaturesConfig(cache=tmp_path / "features", views=2, batch=2),
        model=ModelConfig(
            backbone="slow_only",
            depth=18,
            width=8,
            num_classes=4,
            cidc=CIDCConfig(columns=1, t_hidden=2),
        ),
        preprocess=SMALL_FRAMES,
        data=DataConfig(
            train=lists,
            validation=lists,
            labels=LABELS,
            workers=0,
            short_side_min=48,
            short_side_max=52,
        ),
        optimiser={"epochs": 3, "batch": 4, "learning_rate": 0.01, "kind": "adamw"},  # type: ignore[arg-type]
    )


def cache_files(config: TrainConfig) -> dict[Path, int]:
    assert config.features is not None
    files = config.features.cache.rglob("*.safetensors")
    return {path: path.stat().st_mtime_ns for path in files}


def test_predictions_from_the_cache_are_those_from_the_clips(run_config: TrainConfig) -> None:
    predictions = train(run_config, quiet=True)
    network = load_model(run_config.out / "model.safetensors")
    store = open_store(run_config.data, 32)
    entries = read_manifest(run_config.data.validation).entries
    planned = EvaluationViews().clip_plan(entries, LABELS)
    reader = open_reader(run_config.data, store, torch.device("cpu"))
    with torch.no_grad():
        logits = torch.cat(
            [
                network(normalise_clips(batch.clips_BTHWC, SMALL_FRAMES))
                for batch in batches(planned, 4, reader=reader, preprocess=SMALL_FRAMES)
            ]
        )
    # The cache holds float16.
    expected = torch.softmax(logits, dim=1)
    torch.testing.assert_close(predictions.probabilities_NK, expected, atol=5e-3, rtol=0)


def test_only_what_is_missing_is_computed_and_only_the_head_is_trained(
    run_config: TrainConfig,
) -> None:
    first = train(run_config, quiet=True)
    files = cache_files(run_config)
    # Two views of four videos, and their middle clip.
    assert len(files) == 12
    again = train(run_config, quiet=True)
    assert torch.equal(first.probabilities_NK, again.probabilities_NK)
    assert cache_files(run_config) == files
    network = load_model(run_config.out / "model.safetensors")
    assert run_config.backbone_from is not None
    source = load_model(run_config.backbone_from).backbone.state_dict()
    assert all(
        torch.equal(tensor, source[name]) for name, tensor in network.backbone.state_dict().items()
    )
    torch.manual_seed(run_config.seed)
    untrained = build_model(run_config.model).classifier.weight
    assert not torch.equal(network.classifier.weight, untrained)
    more = run_config.model_copy(
        update={"features": FeaturesConfig(cache=run_config.features.cache, views=3, batch=2)}
    )  # type: ignore[union-attr]
    train(more, quiet=True)
    assert len(cache_files(run_config)) == 16
    assert {path: cache_files(run_config)[path] for path in files} == files


def test_a_video_that_changes_is_computed_again(run_config: TrainConfig, tmp_path: Path) -> None:
    entry = read_manifest(run_config.data.train).entries[0]
    video = tmp_path / "copy.mp4"
    video.write_bytes(entry.path.read_bytes())
    assert run_config.features is not None
    cache = FeatureCache(run_config.features.cache, {"backbone": "a"})
    plan = EvaluationViews().clip_plan([type(entry)(video, "fall")], LABELS)
    cache.write(plan[0], [torch.ones(2, 3)])
    assert cache.has(plan[0])
    relabelled = EvaluationViews().clip_plan([type(entry)(video, "get_up")], LABELS)
    assert cache.has(relabelled[0])
    video.write_bytes(entry.path.read_bytes() + b"\0")
    assert not cache.has(plan[0])


def test_a_cache_of_something_else_is_refused(run_config: TrainConfig, tmp_path: Path) -> None:
    FeatureRun(run_config, threading.Event()).train(QUIET)
    other = write_backbone(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(ConfigError, match=r"of another kind: backbone is \w{16} there and"):
        train(run_config.model_copy(update={"backbone_from": other}), quiet=True)
    framing = SMALL_FRAMES.model_copy(update={"width": 64})
    with pytest.raises(ConfigError, match=r"preprocess is .*'width': 80.* there and"):
        train(run_config.model_copy(update={"preprocess": framing}), quiet=True)
    single = run_config.model.model_copy(
        update={"cidc": CIDCConfig(columns=1, t_hidden=2, scales="single")}
    )
    with pytest.raises(ConfigError, match="maps is 3 there and 1 here"):
        train(run_config.model_copy(update={"model": single}), quiet=True)
    assert run_config.features is not None
    (run_config.features.cache / "features.json").write_text("{")
    with pytest.raises(ConfigError, match=r"features\.json cannot be used"):
        train(run_config, quiet=True)


def test_unreadable_videos_are_left_out_up_to_the_allowed_fraction(
    run_config: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    lines = run_config.data.train.read_text() + "bad.mp4,fall\n"
    (tmp_path / "with-bad.csv").write_text(lines)
    update = {"train": tmp_path / "with-bad.csv", "max_bad_fraction": 0.1}
    data = run_config.data.model_copy(update=update)
    with pytest.raises(DataError, match=r"1 of 5 videos are unreadable \(first: .*bad\.mp4"):
        train(run_config.model_copy(update={"data": data}), quiet=True)
    data = data.model_copy(update={"max_bad_fraction": 0.3})
    train(run_config.model_copy(update={"data": data}), quiet=True)
    assert "left out: " in caplog.text
    assert len(cache_files(run_config)) == 12
    data = data.model_copy(update={"labels": ("a", "b", "c", "d")})
    with pytest.raises(DataError, match="labels does not name"):
        train(run_config.model_copy(update={"data": data}), quiet=True)


def test_cached_videos_are_not_opened_again(run_config: TrainConfig, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    first = train(run_config, quiet=True)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a video was read")

    monkeypatch.setattr("train.features.extract.batches", fail)
    monkeypatch.setattr("train.data.clip_store.ClipStore.check", fail)
    again = train(run_config, quiet=True)
    assert torch.equal(first.probabilities_NK, again.probabilities_NK)


def test_a_damaged_file_is_named(tmp_path: Path, run_config: TrainConfig) -> None:
    cache = FeatureCache(tmp_path / "c", {})
    entry = read_manifest(run_config.data.train).entries[0]
    clip: PlannedClip = EvaluationViews().clip_plan([entry], LABELS)[0]
    values = torch.tensor([1.5, -1e9, 1e9])
    cache.write(clip, [values])
    limit = torch.finfo(torch.float16).max
    assert cache.read(clip)[0].tolist() == [1.5, -limit, limit]
    (path,) = (tmp_path / "c").rglob("*.safetensors")
    path.write_bytes(b"no")
    with pytest.raises(DataError, match="it will be computed again"):
        cache.read(clip)


def test_a_stopped_run_keeps_its_maps(run_config: TrainConfig) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        train(run_config, quiet=True, stop=stop)
    assert len(cache_files(run_config)) == 2


def test_a_dry_run_writes_nothing(run_config: TrainConfig) -> None:
    facts = dry_run(run_config)
    assert cache_files(run_config) == {}
    # Three maps of 8 time positions; 12 clips of float16 are kept.
    values = 8 * (16 * 6 * 10 + 32 * 3 * 5 + 64 * 2 * 3)
    assert facts["cache_megabytes"] == round(12 * 2 * values / 1e6, 1)


def test_settings_that_do_not_go_together_are_refused(run_config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="leave out --resume"):
        train(run_config, quiet=True, resume=True)
    with pytest.raises(ConfigError, match="needs backbone_from"):
        train(run_config.model_copy(update={"backbone_from": None}), quiet=True)
    tree = run_config.model_dump() | {"regularisation": {"label_smoothing": 0.1}}
    with pytest.raises(ValueError, match="regularisation has no effect with features"):
        TrainConfig.model_validate(tree)
