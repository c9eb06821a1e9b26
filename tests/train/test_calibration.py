"""Calibration, against closed forms, another optimiser, and labels drawn from the probabilities."""

import json
import logging
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from configs import DataError
from model import ModelSpec, load_model, save_model
from model.checkpoints.weights import read_spec, replace_spec
from stream.analysis.config import InferConfig
from stream.analysis.recogniser import Recogniser
from stream.config import StreamConfig, check_settings
from train.__main__ import main
from train.config import TrainConfig
from train.engine.trainer import train
from train.engine.validation import temperature_or_1
from train.evaluation.calibration import Calibration, fit_temperature, negative_log_likelihood
from train.evaluation.clip_accuracy import predictions_of
from train.evaluation.recordings import _probabilities

LABELS = ("a", "b", "c", "d")


def drawn(clips: int, scale: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and labels drawn from their softmax; then the logits are scaled."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(clips, len(LABELS), generator=generator, dtype=torch.float64)
    truth = torch.multinomial(torch.softmax(logits, dim=1), 1, generator=generator).squeeze(1)
    return scale * logits, truth


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_the_temperature_that_spoilt_the_logits_is_found(scale: float) -> None:
    logits, truth = drawn(20000, scale)
    assert fit_temperature(logits, truth) == pytest.approx(scale, rel=0.05)
    spoilt = Calibration.of(torch.softmax(logits, dim=1), truth)
    mended = Calibration.of(torch.softmax(logits / fit_temperature(logits, truth), dim=1), truth)
    assert mended.ece < 0.015
    assert mended.classwise_ece < 0.015
    if scale != 1:
        assert spoilt.ece > 4 * mended.ece
        assert (spoilt.nll, spoilt.brier) > (mended.nll, mended.brier)
        assert (spoilt.confidence > spoilt.accuracy) == (scale > 1)


def test_another_optimiser_finds_the_same_minimum() -> None:
    logits, truth = drawn(400, 2.2, seed=4)
    logarithm = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logarithm], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(logits / logarithm.exp(), truth)
        value.backward()
        return value

    optimiser.step(loss)
    found = fit_temperature(logits, truth)
    assert found == pytest.approx(float(logarithm.detach().exp()), rel=1e-5)
    at_minimum = negative_log_likelihood(logits, truth, found)
    for other in (0.98 * found, 1.02 * found, 1.0):
        assert negative_log_likelihood(logits, truth, other) > at_minimum


def test_without_enough_wrong_clips_nothing_is_fitted(caplog: pytest.LogCaptureFixture) -> None:
    logits, truth = drawn(49, 1.0)
    with pytest.raises(DataError, match="needs 50 clips with 5 wrong ones"):
        fit_temperature(logits, truth)
    right = 3 * torch.eye(4, dtype=torch.float64).repeat(50, 1)
    with pytest.raises(DataError, match=r"200 clips, 0 of them wrong"):
        fit_temperature(right, right.argmax(1))
    caplog.set_level(logging.INFO)
    found = predictions_of(right.unsqueeze(1), right.argmax(1), labels=LABELS, background=None)
    assert temperature_or_1(found) == 1.0
    assert "keep temperature 1" in caplog.text


def test_logits_without_any_information_give_the_largest_temperature() -> None:
    torch.manual_seed(1)
    logits = torch.randn(300, 4)
    assert fit_temperature(logits, logits.argmin(1)) == pytest.approx(20, rel=1e-6)


def test_the_errors_are_those_of_the_definitions() -> None:
    # Confidences 0.5, 0.65 (one right of two) and 0.9, 0.95 (both right), in two bins of 15.
    probabilities = torch.tensor(
        [[0.62, 0.38], [0.65, 0.35], [0.9, 0.1], [0.05, 0.95], [1.0, 0.0]], dtype=torch.float64
    )
    truth = torch.tensor([0, 1, 0, 1, 0])
    found = Calibration.of(probabilities, truth)
    assert sum(each.clips for each in found.bins) == 5
    middle, ninth, last = (found.bins[index] for index in (9, 13, 14))
    assert (middle.clips, ninth.clips, last.clips) == (2, 1, 2)
    assert middle.accuracy == 0.5
    assert middle.confidence == pytest.approx(0.635)
    expected = (2 * 0.135 + 0.1 + 2 * (1 - 0.975)) / 5
    assert found.ece == pytest.approx(expected)
    assert found.accuracy == 0.8
    squares = 2 * (0.38**2 + 0.65**2 + 0.1**2 + 0.05**2) / 5
    assert found.brier == pytest.approx(squares)
    logs = torch.tensor([0.62, 0.35, 0.9, 0.95, 1.0], dtype=torch.float64).log()
    assert found.nll == pytest.approx(float(-logs.mean()))
    assert found.classwise_ece == pytest.approx(_classwise(probabilities, truth))
    json.dumps([found.summary(), found.reliability()], allow_nan=False)
    with pytest.raises(DataError, match="there are no clips"):
        Calibration.of(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))


def _classwise(probabilities: Tensor, truth: Tensor) -> float:
    """The classwise error by loops over classes and bins."""
    total = 0.0
    for index in range(probabilities.shape[1]):
        for low in range(15):
            chosen = [
                (float(row[index]), float(label == index))
                for row, label in zip(probabilities, truth, strict=True)
                if low / 15 < row[index] <= (low + 1) / 15 or (low == 0 and row[index] == 0)
            ]
            total += abs(sum(p - y for p, y in chosen)) / len(truth)
    return total / probabilities.shape[1]


def test_probabilities_of_a_video_are_the_mean_over_its_views() -> None:
    logits = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(2))
    truth = torch.arange(6) % 4
    found = predictions_of(logits, truth, labels=LABELS, background=None, temperature=2.0)
    views = [torch.softmax(logits[:, view] / 2, dim=1) for view in range(3)]
    torch.testing.assert_close(found.probabilities_NK, sum(views) / 3)
    again = found.at_temperature(1.0).probabilities_NK
    torch.testing.assert_close(again, torch.softmax(logits, dim=2).mean(1))


def test_live_and_in_evaluation_the_temperature_divides_the_logits(
    tiny_weights: Path, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    warm = tmp_path / "warm.safetensors"
    replace_spec(tiny_weights, warm, spec=tiny_spec.model_copy(update={"temperature": 40 / 16}))
    generator = torch.Generator().manual_seed(0)
    ring = torch.randint(256, (1, 32, 48, 80, 3), dtype=torch.uint8, generator=generator)
    odds = []
    for weights in (tiny_weights, warm):
        recogniser = Recogniser(
            InferConfig(weights=str(weights), device="cpu", precision="float32")
        )
        live = recogniser.probabilities(recogniser.gather(ring, [(0, 0)]))
        clip = [(0.0, frame) for frame in ring[0]]
        network = load_model(weights)
        offline = _probabilities(network, [clip], recogniser.spec, torch.float32)
        torch.testing.assert_close(live, offline, atol=1e-5, rtol=1e-4)
        odds.append(live.log() - live.log().max())
    visible = odds[0] > -20  # smaller probabilities lose digits
    torch.testing.assert_close(odds[1][visible], odds[0][visible] / 2.5, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_weights_are_calibrated_by_the_command(
    config: TrainConfig, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "train.yaml"
    settings.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    out = tmp_path / "calibrated.safetensors"
    report = tmp_path / "calibration.json"
    network = load_model(tiny_weights)
    assert network.spec is not None
    network.classifier.weight.data.mul_(0.02)  # otherwise every probability is 0 or 1
    weights = tmp_path / "weights.safetensors"
    save_model(network, weights, spec=network.spec)
    arguments = ["calibrate", "--config", str(settings), "--checkpoint", str(weights)]
    arguments += ["--out", str(out)]
    (tmp_path / "few.csv").write_text(f"{next(config.data.train.parent.rglob('*.mp4'))},fall\n")
    assert main([*arguments, "--manifest", str(tmp_path / "few.csv")]) == 2
    assert "cannot be fitted to 1 clips" in capsys.readouterr().err
    many = ["--views", "1x4", "--json", str(report), "--plots", str(tmp_path)]
    assert main([*arguments, *many]) == 0
    said = capsys.readouterr().out
    temperature = read_spec(out).temperature
    assert temperature > 1  # the untrained network is far too sure of itself
    assert f"temperature {temperature:g}, the same tensors" in said
    assert "train tune" in said
    figures = json.loads(report.read_text())
    assert figures["temperature"] == temperature
    assert figures["after"]["nll"] < figures["before"]["nll"]
    assert (tmp_path / "reliability.png").stat().st_size > 5000
    before, after = (load_model(path).state_dict() for path in (weights, out))
    assert all(torch.equal(before[name], after[name]) for name in before)
    evaluated = tmp_path / "evaluated.json"
    evaluate = ["evaluate", *arguments[1:3], "--checkpoint", str(out), "--json", str(evaluated)]
    assert main(evaluate) == 0
    facts = json.loads(evaluated.read_text())
    assert facts["temperature"] == temperature
    assert 0 <= facts["calibration"]["ece"] < figures["before"]["ece"]
    assert sum(each["clips"] for each in facts["reliability"]) == 16
    assert main([*arguments[:3], "--checkpoint", "scenes-r2d18-cidc"]) == 2
    assert "name the file to write with --out" in capsys.readouterr().err


@pytest.mark.slow
def test_training_writes_the_temperature_of_each_epoch(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    temperatures = iter((1.25, 0.8))
    monkeypatch.setattr("train.engine.run.temperature_or_1", lambda predictions: next(temperatures))
    train(config, quiet=True)
    lines = (config.out / "metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in lines]
    assert [line["temperature"] for line in epochs] == [1.25, 0.8]
    assert all("ece" in line["validation"]["calibration"] for line in epochs)
    assert read_spec(config.out / "model.safetensors").temperature == 0.8
    best = max(range(2), key=lambda index: epochs[index]["validation"]["top1"])
    assert read_spec(config.out / "best.safetensors").temperature == (1.25, 0.8)[best]


def test_a_run_says_that_its_thresholds_are_for_another_temperature(
    tiny_weights: Path, tiny_spec: ModelSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warm = tmp_path / "warm.safetensors"
    replace_spec(tiny_weights, warm, spec=tiny_spec.model_copy(update={"temperature": 1.5}))
    tree = {"cameras": [{"id": "a", "url": "rtsp://h/a"}], "http": {"enabled": False}}

    def check(weights: Path, **events: object) -> str:
        caplog.clear()
        infer = {"weights": str(weights)}
        config = StreamConfig.model_validate(tree | {"infer": infer, "events": events})
        check_settings(config)
        return caplog.text

    assert check(tiny_weights, default={"enter": 0.9}) == ""
    assert "run `python -m train tune` again" in check(warm, default={"enter": 0.9})
    assert check(warm, default={"enter": 0.9}, temperature=1.5) == ""
    assert "found at temperature 1.5" in check(tiny_weights, temperature=1.5)
