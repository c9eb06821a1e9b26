"""Writes the page of results as Markdown; every figure in it comes from a result of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from configs import CidcError, load_config
from train.config import TrainConfig
from train.results.config import EventSet, NetworkConfig, ResultsPlan, TrainedSet
from train.results.fingerprint import hash_of_weights
from train.results.table import Statuses, event_table, markdown_table, set_table

__all__ = ["results_page"]

_SHORT_HASH = 8


def results_page(plan: ResultsPlan, statuses: Statuses, *, command: str) -> str:
    """Return the page of a plan.

    Args:
        statuses: where every run of the plan stands.
        command: command that wrote the page.

    Raises:
        ConfigError: the plan's configuration, or the changes of a network, are malformed.
    """
    clips, crops = plan.views.split("x")
    lines = [
        "# Sets by networks",
        "",
        f"<!-- Written by `{command}`: what is changed here is lost. -->",
        "",
        f"`{command}` trains every network on every set and writes this page from the results of"
        " the runs; no figure is typed by hand. What was learnt from single runs is in"
        " [Training and accuracy](results/training.md).",
        "",
        "Accuracies are top-1 in per cent on videos that training has not seen: the mean over"
        " seeds and folds ± the standard deviation. In parentheses: the number of runs, and of"
        f" test videos in the folds that were held out. Each test video counts with {clips} clips"
        f" x {crops} crops. The weights of the last epoch are measured. *Not run* means"
        " that the present recipe has no result. Where a class has fewer training clips than a"
        " column says, all are taken.",
        "",
        "## Networks",
        "",
        *markdown_table(_network_rows(plan)),
        "",
    ]
    for found in plan.sets:
        lines += [f"## {found.title}", "", *_section(plan, found, statuses), ""]
    lines += ["## Machines and versions", "", *_machines(statuses)]
    return "\n".join(lines).rstrip() + "\n"


def _network_rows(plan: ResultsPlan) -> list[list[str]]:
    rows = [["", "row of the paper", f"differs from `{plan.config.name}` in", "starts from"]]
    used = {network.id for found in _trained(plan) for network in plan.networks_of(found)}
    for network in plan.networks:
        if network.id not in used:
            continue
        changes = ", ".join(f"`{change}`" for change in network.changes) or "nothing"
        paper = network.paper
        row = "" if paper is None else f"table {paper.table}, {paper.row}"
        rows.append([network.title, row, changes, _start(plan, network)])
    return rows


def _trained(plan: ResultsPlan) -> list[TrainedSet]:
    return [found for found in plan.sets if not isinstance(found, EventSet)]


def _start(plan: ResultsPlan, network: NetworkConfig) -> str:
    """Describe the weights that a network starts from, with the start of their SHA-256."""
    if network.weights_of is not None:
        source = next(each for each in plan.sets if each.id == network.weights_of.set)
        name = next(each for each in plan.networks if each.id == network.weights_of.network)
        return f"{name.title}, trained on: {source.title}; the same fold and seed"
    config = load_config(plan.config, TrainConfig, network.changes)
    parts = []
    for kind, path in (("backbone of", config.backbone_from), ("all of", config.weights_from)):
        if path is not None:
            parts.append(f"{kind} {_weights(path.stem, str(path))}")
    return ", ".join(parts) or "random weights"


def _weights(name: str, path: str) -> str:
    try:
        return f"`{name}` ({hash_of_weights(path)[:_SHORT_HASH]})"
    except CidcError:
        return f"`{name}` (not there)"


def _section(plan: ResultsPlan, found: TrainedSet | EventSet, statuses: Statuses) -> list[str]:
    mine = {run: status for run, status in statuses.items() if run.set == found}
    left_out = [status.reason for status in mine.values() if status.state == "left out"]
    if left_out:
        return [f"This set is left out: {left_out[0]}."]
    if isinstance(found, EventSet):
        table = event_table(plan, found, statuses)
        recipe = _event_recipe(found)
    else:
        table = set_table(plan, found, statuses)
        recipe = _recipe(plan, found)
    failures = [
        f"- `{run.name}` failed: {status.reason}"
        for run, status in mine.items()
        if status.state == "failed"
    ]
    return [*markdown_table(table), "", recipe, *([""] if failures else []), *failures]


def _recipe(plan: ResultsPlan, found: TrainedSet) -> str:
    config = load_config(plan.config, TrainConfig, found.changes)
    changes = ", ".join(f"`{change}`" for change in found.changes)
    optimiser = config.optimiser
    folds = found.fold_numbers
    return (
        f"Recipe: `{plan.config.name}`"
        + (f" with {changes}" if changes else "")
        + f", {optimiser.epochs} epoch{'s' * (optimiser.epochs > 1)} in batches of"
        f" {optimiser.batch}; seeds {', '.join(map(str, plan.seeds))}; held out: "
        + (f"folds {', '.join(map(str, folds))}" if len(folds) > 1 else f"fold {folds[0]}")
        + "."
    )


def _event_recipe(found: EventSet) -> str:
    only = f" of {', '.join(found.only)}" if found.only else ""
    weights = "; ".join(
        f"{row.title}: {_weights(row.weights, row.weights)}"
        + (f", events of `{row.stream.name}`" if row.stream is not None else "")
        for row in found.weights
    )
    return (
        f"Events{only} whose start is within {found.tolerance_seconds:g} s of the true start."
        f" {weights}."
    )


def _machines(statuses: Statuses) -> Sequence[str]:
    """Return a line for each kind of machine and set of versions, with its number of runs."""
    found = Counter(
        _machine(status.result["environment"])
        for status in statuses.values()
        if status.result is not None
    )
    if not found:
        return ["Nothing was run."]
    return [f"- {count} of the results: {machine}" for machine, count in sorted(found.items())]


def _machine(environment: dict[str, object]) -> str:
    packages = environment["packages"]
    assert isinstance(packages, dict)
    versions = ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))
    gpu = environment["gpu"]
    device = f"{environment['cores']} CPU cores, no GPU" if gpu == "none" else f"GPU {gpu}"
    return f"{environment['machine']}, {device}; Python {environment['python']}, {versions}"
