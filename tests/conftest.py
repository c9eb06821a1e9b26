"""Fixtures that many test files share: real clips, generated scenes, a small network."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests import ROOT

# Fixtures import what they need beyond PyTorch themselves: tests of the kernels run without it.
if TYPE_CHECKING:
    from model import ModelSpec

SHARED = ROOT.parent / "shared" / "data"

# A busy machine generates inputs slowly, which is not a fault. Tests of the kernels run without
# this package, too.
with contextlib.suppress(ImportError):
    from hypothesis import HealthCheck, settings

    settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")

# A failed assertion in a helper shows its values, as one in a test does.
pytest.register_assert_rewrite("tests.support")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips beside the project."""
    if not SHARED.is_dir():
        pytest.skip("no real clips: ../shared/data is not beside the project")
    return SHARED


@pytest.fixture(scope="session")
def shared_files(shared_data: Path) -> list[dict[str, str]]:
    """The rows of MANIFEST.tsv beside the real clips."""
    with (shared_data / "MANIFEST.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder of scenes.

    It holds one clip per action, four of background, and two recordings of 18 seconds. Parallel
    workers share it, because writing it takes seconds of every core.
    """
    from train.synthetic import ScenesOptions, write_scenes

    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    out = run / "scenes"
    finished = run / "scenes-finished"
    with (run / "scenes-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            options = ScenesOptions(out=out, seed=5, clips_per_action=1, recordings=2, minutes=0.3)
            write_scenes(options, quiet=True)
            finished.touch()
    return out


@pytest.fixture(scope="session")
def tiny_spec() -> ModelSpec:
    """The description of a network small enough for tests."""
    from model import ModelConfig, ModelSpec
    from model.media.preprocess import PreprocessConfig
    from train.synthetic import LABELS

    return ModelSpec(
        name="tiny",
        model=ModelConfig(depth=18, num_classes=len(LABELS), width=8),
        labels=LABELS,
        background="background",
        fps=15,
        preprocess=PreprocessConfig(short_side=48, height=48, width=80),
    )


@pytest.fixture(scope="session")
def tiny_weights(tiny_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights of that network; its strong last layer gives every label sometimes."""
    from model import build_model, save_model

    torch.manual_seed(3)
    network = build_model(tiny_spec.model)
    torch.nn.init.normal_(network.classifier.weight, std=8.0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_model(network, path, spec=tiny_spec)
    return path


@pytest.fixture
def never() -> threading.Event:
    """A stop event that is never set."""
    return threading.Event()
