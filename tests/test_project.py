"""Rules that the project keeps for itself."""

import ast
import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch

from configs import example_path, load_config
from model import load_model
from model.checkpoints.weights import ModelSpec
from stream.analysis.config import InferConfig, weights_path
from stream.metrics import Metrics
from tests import ROOT
from train.config import TrainConfig

PACKAGES = ("configs", "model", "stream", "train")
MAY_IMPORT = {
    "configs": {"configs"},
    "model": {"model", "configs"},
    "stream": {"stream", "model", "configs"},
    "train": {"train", "model", "configs"},
}
# Inside `stream`: what every room may know, beside its own files and the settings of others.
VALUES = {
    "stream.backoff",
    "stream.batch_times",
    "stream.http_client",
    "stream.types",
    "stream.metrics",
    "stream.metric_registry",
    "stream.old_metric_names",
    "stream.stage",
    "stream.verify_metrics",
    "stream.sink_metrics",
    "stream.worker_metrics",
    "stream.events.event",
    "stream.events.event_store",
    "stream.events.verification",
}
# The connection to Kafka: the rooms of the events and of many machines have one between them.
CONNECTION = {"stream.events.broker_addresses", "stream.events.kafka"}
# The wiring, and what stands above it: these alone know the rooms.
WIRING = {
    "stream",
    "stream.__main__",
    "stream.assembly",
    "stream.camera_assembly",
    "stream.cameras_actions",
    "stream.cameras_command",
    "stream.config",
    "stream.discover_actions",
    "stream.discover_command",
    "stream.draining",
    "stream.events_command",
    "stream.file_locks",
    "stream.fleet_assembly",
    "stream.verify_assembly",
    "stream.frame_entry",
    "stream.local.dealing",
    "stream.local.moves",
    "stream.local.run",
    "stream.local.worker_process",
    "stream.outbox_command",
    "stream.pipeline",
    "stream.pipeline_report",
    "stream.runtime_report",
    "stream.sink_assembly",
    "stream.sinks.assembly",
    "stream.start_check",
    "stream.tracing_assembly",
    "stream.reader",
}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in sources(package):
        bad = {name for name in imports(path) if name.split(".")[0] not in MAY_IMPORT[package]}
        assert not bad, f"{path} imports {bad}"


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_rooms_know_only_what_they_may() -> None:
    """A room may import value types and the settings of others, never another room's parts."""
    for path in sources("stream"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module in WIRING:
            continue
        for name in imports(path):
            is_settings = name.endswith(".config") and name != "stream.config"
            if not name.startswith("stream") or name in VALUES or is_settings:
                continue
            if name in CONNECTION and room_of(module) == "stream.fleet":
                continue
            assert room_of(name) == room_of(module), f"{module} imports {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_those_of_all(package: str) -> None:
    for path in sources(package):
        if path.name == "__init__.py" and not path.read_text().strip():
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        module = importlib.import_module(name)
        assert hasattr(module, "__all__"), f"{name} has no __all__"
        for public in module.__all__:
            assert hasattr(module, public), f"{name}.{public}"


def test_public_things_are_described() -> None:
    for package in PACKAGES:
        for path in sources(package):
            tree = ast.parse(path.read_text())
            for node in tree.body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith(
                    "_"
                ):
                    assert ast.get_docstring(node), f"{path}: {node.name} has no docstring"


def test_the_map_of_files_in_the_docs_is_true() -> None:
    text = (ROOT / "docs/explanation/architecture.md").read_text()
    for package in PACKAGES:
        for path in sources(package):
            if path.stem not in ("__init__", "__main__"):
                name = path.relative_to(ROOT)
                assert f"`{name}`" in text, f"the map of files does not name {name}"
    for named in re.findall(r"`((?:configs|model|stream|train)/[\w/.-]+\.\w+)`", text):
        assert (ROOT / named).exists(), f"the map of files names {named}, which does not exist"


def test_links_in_the_docs_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_metrics_in_the_docs_are_those_that_exist() -> None:
    existing = {
        family.name
        for family in Metrics().registry.collect()
        if not family.name.startswith("process_")
    }
    text = (ROOT / "docs/reference/metrics.md").read_text()
    named = {re.sub(r"_total$", "", name) for name in re.findall(r"`(cidc_\w+)`", text)}
    assert named == existing


def test_nothing_names_a_machine_or_a_registry() -> None:
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not files:
        pytest.skip("not a git checkout")
    for name in files:
        path = ROOT / name
        if not path.is_file() or path == Path(__file__).resolve():
            continue
        data = path.read_bytes()
        if path.suffix not in (".safetensors", ".png", ".jpg", ".db", ".xz"):
            data.decode("utf-8")
        for word in ("/" + "work/", "/" + "root/", "pypi" + ".org", "download.pytorch" + ".org"):
            assert word.encode() not in data, f"{name} names {word}"


def test_pins_cover_what_is_required() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {
        re.split(r"==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    extras = project["optional-dependencies"]
    for requirement in project["dependencies"] + extras["dev"] + extras["train"]:
        name = re.split(r"[><=\[]", requirement)[0].lower().replace("_", "-")
        assert name in pinned, f"{name} is not pinned in constraints.txt"


def test_the_weights_that_ship_fit_their_configuration_and_size() -> None:
    path = weights_path(InferConfig())
    assert path.stat().st_size <= 12_000_000
    network = load_model(path)
    assert isinstance(network.spec, ModelSpec)
    config = load_config(example_path("scenes-cidc-recordings.yaml"), TrainConfig)
    assert network.spec.model == config.model
    assert network.spec.labels == config.data.labels
    assert network.spec.preprocess == config.preprocess
    assert torch.isfinite(
        network(torch.zeros(1, 3, 32, config.preprocess.height, config.preprocess.width))
    ).all()
    card = path.with_name(path.stem + ".md").read_text()
    assert "top-1" in card


def test_the_version_is_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_links_between_documents_lead_somewhere() -> None:
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("model/pretrained/*.md"),
    ]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), (
                f"{path.relative_to(ROOT)} links to {target}, which is not there"
            )
