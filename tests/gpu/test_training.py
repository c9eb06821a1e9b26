"""Training on a GPU: the host queues a step and does not wait for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("pydantic")
pytest.importorskip("av", reason="PyAV is not installed")
from model import ModelConfig, build_model
from model.network import to_channels_last
from tests.train.runs import tiny_run
from train.distributed import Ranks
from train.engine.step import Stepper
from train.engine.step_sums import PendingSums, StepTimer


@pytest.fixture
def no_waiting() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_does_not_wait_for_the_gpu(parts: int) -> None:
    """PyTorch raises an error for every call that makes the host wait."""
    device = torch.device("cuda", torch.cuda.current_device())
    model = ModelConfig(backbone="i3d", depth=18, num_classes=2, width=16)
    config = tiny_run(Path("o"), train=Path("t"), validation=Path("v"), batch=4, labels=("a", "b"))
    optimiser = config.optimiser.model_copy(update={"accumulate": parts, "clip_gradient": 1.0})
    config = config.model_copy(update={"model": model, "optimiser": optimiser})
    network = build_model(model).to(device)
    to_channels_last(network)
    stepper = Stepper(network, config, device=device, dtype=torch.bfloat16, ranks=Ranks())
    clips = torch.randint(0, 256, (4, 32, 64, 64, 3), dtype=torch.uint8, device=device)
    labels = torch.tensor([0, 1, 0, 1], device=device)
    timer = StepTimer(device)
    for step in range(3):
        if step == 2:  # kernels are compiled and constants uploaded by now
            torch.cuda.set_sync_debug_mode("error")
        times = timer.start(0.0)
        result_2 = stepper(clips, labels, rate=0.01, position=(0, step))
        pending = PendingSums(result_2, clips=4, asked_to_stop=False, ranks=Ranks())
        timer.end()
    torch.cuda.set_sync_debug_mode("default")
    sums = pending.fetch()
    assert sums.loss == pytest.approx(float(result_2[0]), rel=1e-12)
    assert (sums.correct, sums.clips) == (int(result_2[1]), 4)
    assert times.waited() == 0.0
