"""FLOPs and parameters: against closed forms, and within 5 % of the paper."""

import json
from pathlib import Path

import pytest

from model import CIDCConfig, ModelConfig
from model.__main__ import main
from model.complexity import NOT_COMPARED, PAPER_NETWORKS, RIVALS, measure, measure_paper
from model.complexity_table import facts


def test_the_count_is_that_of_a_net_counted_by_hand() -> None:
    """r2d-18, width 8, 32 x 224 x 224: twice kernel times channels times places, layer by layer."""
    places = {0: 8 * 56**2, 1: 4 * 28**2, 2: 4 * 14**2, 3: 4 * 7**2}
    macs = 16 * 112**2 * 3 * 8 * 49 + 64 * 10
    for stage, places_out in places.items():
        width = 8 * 2**stage
        macs += places_out * width * 9 * (3 * width + (width if stage == 0 else width // 2))
        macs += 0 if stage == 0 else places_out * width * width // 2
    cost = measure(ModelConfig(depth=18, width=8, cidc=None, num_classes=10))
    assert cost.flops == 2 * macs
    parameters = 3 * 8 * 49 + 2 * 8 + 64 * 10 + 10
    for stage in range(4):
        width = 8 * 2**stage
        narrow = width if stage == 0 else width // 2
        parameters += 9 * width * (3 * width + narrow) + 4 * 2 * width
        parameters += 0 if stage == 0 else width * narrow + 2 * width
    assert cost.parameters == parameters


@pytest.mark.slow
def test_public_parameter_counts() -> None:
    """Counts of the public packages' own networks with 400 classes; see tests/support."""
    counts = {
        row.name: cost.parameters for row, cost in measure_paper([*PAPER_NETWORKS, *NOT_COMPARED])
    }
    assert counts["R2D"] == counts["TSN"] == 24_327_632
    assert counts["I3D"] == 28_043_472
    assert counts["I3D-NL"] == 35_401_936
    assert counts["SlowOnly"] == 32_454_096


@pytest.mark.parametrize("row", PAPER_NETWORKS, ids=lambda row: row.name)
def test_every_row_costs_what_the_paper_says(row) -> None:  # type: ignore[no-untyped-def]
    cost = measure(row.model)
    assert cost.flops == pytest.approx(row.gflops * 1e9, rel=0.05)
    if row.mparameters is not None and cost.parameters != pytest.approx(
        row.mparameters * 1e6, rel=0.05
    ):
        assert row.note, "a row whose parameters differ says why"


@pytest.mark.parametrize("row", RIVALS, ids=lambda row: row.name)
def test_every_rival_costs_what_was_published(row) -> None:  # type: ignore[no-untyped-def]
    """Within 1 %; SlowFast to the last digit; 3.5 % where a branch is left out."""
    cost = measure(row.model, side=row.side)
    known = facts(row, cost, compared=True)
    assert known["flops"] == (cost.flops if row.unit == "FLOPs" else cost.flops // 2)
    assert known["compared"] == (row.gflops is not None)
    tolerance = 0.001 if row.name.startswith("SlowFast") else 0.01
    tolerance = 0.035 if "without" in row.note else tolerance
    if row.gflops is not None:
        assert known["flops"] == pytest.approx(row.gflops * 1e9, rel=tolerance)
    if row.mparameters is not None:
        assert cost.parameters == pytest.approx(row.mparameters * 1e6, rel=0.005)


def test_the_cidc_network_costs_what_the_papers_rows_imply() -> None:
    """27 to 30 GFLOPs and 41M to 61M parameters, in whole units as the paper prints them."""
    plain = measure(ModelConfig(backbone="i3d", cidc=None))
    whole = measure(ModelConfig(backbone="i3d", cidc=CIDCConfig()))
    assert 27 <= round((whole.flops - plain.flops) / 1e9) <= 30
    assert 41 <= round(whole.cidc_parameters / 1e6) <= 61


@pytest.mark.slow
def test_the_command_writes_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["complexity", "--json", str(tmp_path / "c.json")]) == 0
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / "c.json").read_text())
    wanted = {"R2D", "I3D", "CIDC on I3D-NL", "TSN", "SlowFast 4x16", "TRN, multi-scale"}
    assert {row["network"] for row in rows} >= wanted
    for row in rows:
        assert row["network"] in printed
        assert row["compared"] == (row["flops_difference"] is not None)
        if row["compared"] and row["paper_parameters"]:
            assert row["parameters_difference"] == pytest.approx(
                row["parameters"] / row["paper_parameters"] - 1
            )
    assert next(row for row in rows if row["network"] == "R2D")["flops"] == 40_874_606_592
