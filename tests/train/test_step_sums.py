"""Steps whose results are fetched one step late: nothing waits, and nothing changes."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from configs import TrainingError
from model import ModelConfig, build_model, load_model
from model.backbones import stem
from model.media.preprocess import normalise_clips
from model.network import to_channels_last
from tests.train.runs import steps_of, tiny_run
from tests.train.test_readers import write_vp9
from train.config import TrainConfig
from train.data.clip_plan import TrainingClipPlan
from train.data.loader import batches, open_store
from train.data.manifest import read_manifest
from train.data.readers import InProcessReader
from train.distributed import Ranks
from train.engine import step_sums
from train.engine.run_log import TensorBoardLog
from train.engine.run_state import EpochMeter
from train.engine.step import Stepper, learning_rate_at
from train.engine.step_records import Step, StepRecords
from train.engine.step_sums import PendingSums, StepTime, StepTimer
from train.engine.trainer import train


@pytest.fixture
def run(tmp_path: Path) -> TrainConfig:
    """Two epochs of two steps on four small videos."""
    lines = ["path,label"]
    for number in range(4):
        write_vp9(tmp_path / f"{number}.webm", frames=60 + 9 * number)
        lines.append(f"{number}.webm,{'ab'[number % 2]}")
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join([*lines, ""]))
    config = tiny_run(
        tmp_path / "run", train=manifest, validation=manifest, batch=2, labels=("a", "b")
    )
    optimiser = config.optimiser.model_copy(update={"epochs": 2})
    return config.model_copy(update={"precision": "float32", "optimiser": optimiser})


class Waits(TorchDispatchMode):
    """Notes what would make the host wait for a GPU: values that it reads, and small uploads."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "is_nonzero", "nonzero", "lift_fresh", "_to_cpu"):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def stepper_and_clips(parts: int) -> tuple[Stepper, torch.Tensor, torch.Tensor]:
    model = ModelConfig(depth=18, num_classes=2, width=8)
    config = tiny_run(Path("o"), train=Path("t"), validation=Path("v"), batch=4, labels=("a", "b"))
    optimiser = config.optimiser.model_copy(update={"accumulate": parts, "clip_gradient": 1.0})
    config = config.model_copy(update={"model": model, "optimiser": optimiser})
    device = torch.device("cpu")
    network = build_model(model)
    stepper = Stepper(network, config, device=device, dtype=torch.float32, ranks=Ranks())
    clips = torch.randint(0, 256, (4, 32, 32, 32, 3), dtype=torch.uint8)
    return stepper, clips, torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_reads_no_value_from_the_device_and_uploads_none(
    parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stem, "_stackable", lambda _: False)  # as on a GPU
    stepper, clips, labels = stepper_and_clips(parts)
    timer = StepTimer(torch.device("cpu"))
    stepper(clips, labels, rate=0.01, position=(0, 0))  # afterwards, the statistics are there
    with Waits() as waits:
        timer.start(0.0)
        result_2 = stepper(clips, labels, rate=0.01, position=(0, 1))
        pending = PendingSums(result_2, clips=4, asked_to_stop=False, ranks=Ranks())
        timer.end()
    assert waits.seen == []
    with Waits() as waits:
        float(result_2[0])
        torch.tensor([1.0])
    assert waits.seen == ["_local_scalar_dense", "lift_fresh"]  # it does notice them
    sums = pending.fetch()
    assert (sums.clips, sums.asked_to_stop) == (4, False)
    assert sums.loss == pytest.approx(float(result_2[0]), rel=1e-15)


@pytest.mark.slow
def test_a_run_is_a_plain_loop_bit_for_bit(run: TrainConfig) -> None:
    """The loop here fetches each loss at once, and shares only the network and the clip plan."""
    torch.set_num_threads(1)
    train(run, quiet=True)
    torch.manual_seed(run.seed)
    network = build_model(run.model)
    to_channels_last(network)
    network.train()
    optimiser = torch.optim.SGD(
        network.parameters(), lr=run.optimiser.learning_rate, momentum=0.9, weight_decay=1e-4
    )
    reader = InProcessReader(open_store(run.data, run.model.frames))
    plan = TrainingClipPlan(read_manifest(run.data.train).entries, run.data, run.seed)
    losses = []
    for epoch in range(2):
        feed = batches(plan.epoch(epoch), 2, reader=reader, preprocess=run.preprocess)
        for step, batch in enumerate(feed):
            optimiser.param_groups[0]["lr"] = learning_rate_at(epoch + step / 2, run.optimiser)
            optimiser.zero_grad()
            # the seed of dropout
            seeds = np.random.SeedSequence([run.seed, epoch, step]).generate_state(1)
            torch.manual_seed(int(seeds[0]))
            logits = network(normalise_clips(batch.clips_BTHWC, run.preprocess))
            loss = nn.functional.cross_entropy(logits, batch.labels_B)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()))
    assert [line["loss"] for line in steps_of(run.out)] == losses
    trained = load_model(run.out / "model.safetensors").state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, trained[name]), name


class Unfinished:
    """Sums of a step that must not be fetched before the next step was queued."""

    def __init__(self, loss: float, asked_to_stop: bool = False) -> None:
        self.loss = loss
        self.asked_to_stop = asked_to_stop
        self.may_be_fetched = False

    def fetch(self) -> step_sums.StepSums:
        assert self.may_be_fetched
        return step_sums.StepSums(self.loss, 1, 2, self.asked_to_stop)


def step_of(number: int, sums: Any) -> Step:
    return Step(1, number, number, 0.1, StepTime(0.0, None, None), sums)


@pytest.mark.parametrize("saved_before", [False, True])
def test_a_step_is_recorded_when_the_next_one_was_queued(
    tmp_path: Path, saved_before: bool
) -> None:
    meter, log = EpochMeter(), io.StringIO()
    records = StepRecords(meter, log, TensorBoardLog(tmp_path, None))
    sums = [Unfinished(1.0), Unfinished(2.0, asked_to_stop=True), Unfinished(3.0)]
    assert not records.add(step_of(1, sums[0]))
    assert meter.line() == ""
    sums[0].may_be_fetched = True
    assert not records.add(step_of(2, sums[1]))
    assert (meter.clips, meter.loss) == (2, 2.0)
    sums[1].may_be_fetched = True
    if saved_before:  # by one rank, whose clock is ahead: it must stop when the others stop
        records.finish()
    assert records.add(step_of(3, sums[2]))
    sums[2].may_be_fetched = True
    records.finish()
    records.finish()  # nothing is recorded twice
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert (meter.clips, meter.correct, meter.loss) == (6, 3, 12.0)


@pytest.mark.slow
def test_a_network_that_a_loss_has_spoilt_is_not_saved(run: TrainConfig) -> None:
    """Every step is saved here, and the step after the last saved one is not finite."""
    optimiser = run.optimiser.model_copy(update={"learning_rate": 1e30, "epochs": 5})
    broken = run.model_copy(update={"optimiser": optimiser, "checkpoint_minutes": 0.0})
    with pytest.raises(TrainingError, match=r"the loss became .*optimiser\.learning_rate"):
        train(broken, quiet=True)
    lines = steps_of(run.out)
    assert lines
    assert all(line["loss"] == line["loss"] < float("inf") for line in lines)
    with safe_open(run.out / "last.safetensors", "pt") as file:
        facts = str(file.metadata())
    assert f'"step": {lines[-1]["step"]}' in facts.replace("\\", "")


class Event:
    """A CUDA event whose time on the device is known."""

    def __init__(self, milliseconds: float) -> None:
        self.milliseconds = milliseconds

    def elapsed_time(self, other: "Event") -> float:
        return other.milliseconds - self.milliseconds


@pytest.mark.parametrize(
    ("host", "ended", "started", "expected"),
    [
        (0.5, 1000.0, 1000.0, 0.0),  # the GPU was still busy when the batch came
        (0.5, 1000.0, 1100.0, 0.1),  # it was idle for a part of the time
        (0.5, 1000.0, 1700.0, 0.5),  # it was idle for longer, but not for want of data
    ],
)
def test_a_gpu_waits_for_data_only_while_it_is_idle(
    host: float, ended: float, started: float, expected: float
) -> None:
    times = StepTime(host, Event(ended), Event(started))
    assert times.waited() == pytest.approx(expected)
    assert StepTime(host, None, Event(started)).waited() == host  # the first step
    assert StepTime(host, None, None).waited() == host  # a CPU


def test_the_sums_of_a_gpu_are_copied_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Recorded:
        def record(self) -> None:
            done.append("record")

        def synchronize(self) -> None:
            done.append("synchronize")

    class OnGPU(torch.Tensor):
        is_cuda = True  # type: ignore[assignment]

    stacked = torch.stack
    monkeypatch.setattr(torch.cuda, "Event", Recorded)
    monkeypatch.setattr(torch, "stack", lambda parts: stacked(parts).as_subclass(OnGPU))
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, dtype, pin_memory: empty(*size, dtype=dtype))
    result_2 = torch.tensor([0.25, 3.0], dtype=torch.float64)
    pending = PendingSums(result_2, clips=4, asked_to_stop=True, ranks=Ranks())
    assert done == ["record"]
    assert pending.fetch() == step_sums.StepSums(0.25, 3, 4, True)
    assert done == ["record", "synchronize"]
