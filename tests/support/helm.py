"""Renders the Helm chart with the real helm, and looks up what it rendered."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT

CHART = ROOT / "deploy/helm/cidc-stream"
TOOLS = ROOT / ".kube-tools"
HELM = TOOLS / "helm"
VALUES = {path.stem: path for path in sorted((CHART / "values").glob("*.yaml"))}
NAMESPACE = "video"
# The loader in C, where PyYAML has it, is ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
needs_helm = pytest.mark.skipif(
    not HELM.is_file(), reason="helm is missing: scripts/kube_tools.sh fetches it"
)


class RefusedError(Exception):
    """helm refused the values; the text is its message."""


def run_helm(*arguments: str | Path, values: Mapping[str, Any] | None = None) -> str:
    """Run helm and return its output.

    Args:
        values: values that come after those of files, as JSON on standard input.

    Raises:
        RefusedError: helm's exit status is not 0.
    """
    command = [str(HELM), *map(str, arguments)]
    if values is not None:
        command += ["--values", "-"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        input=None if values is None else json.dumps(values),
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode != 0:
        raise RefusedError(done.stderr + done.stdout)
    return done.stdout


def render(
    values: Mapping[str, Any] | None = None,
    *,
    example: str | None = None,
    release: str = "cidc-stream",
) -> list[dict[str, Any]]:
    """Return the objects that `helm install` would create.

    Args:
        values: values on top of those of the example.
        example: name of a file in the chart's folder `values`.

    Raises:
        RefusedError: helm refused the values.
    """
    rendered: list[dict[str, Any]] = json.loads(
        _rendered(json.dumps(values or {}), example, release)
    )
    return rendered


@functools.cache
def _rendered(values: str, example: str | None, release: str) -> str:
    files = [] if example is None else ["--values", str(VALUES[example])]
    command = ["template", release, CHART, "--namespace", NAMESPACE, *files]
    text = run_helm(*command, values=json.loads(values))
    # As one list, so that the cache holds text and every caller gets objects of its own.
    return json.dumps([each for each in yaml.load_all(text, _LOADER) if each is not None])


def of_kind(objects: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the objects of a kind."""
    return [each for each in objects if each["kind"] == kind]


def only(objects: Iterable[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the only object of a kind."""
    (found,) = of_kind(objects, kind)
    return found


def pod_specs(objects: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the specification of every pod that the objects start."""
    return [each["spec"]["template"]["spec"] for each in with_pods(objects)]


def with_pods(objects: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the objects that start pods."""
    return [each for each in objects if "template" in each.get("spec", {})]


def labels_fit(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return whether an object with these labels is selected."""
    return selector.items() <= labels.items()


def container(objects: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the container of the StatefulSet."""
    (found,) = only(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    return found
