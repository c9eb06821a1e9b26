"""A real Prometheus that scrapes one address, and its answers."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.broker import free_port
from tests.support.waiting import until

MISSING = "{} is missing: apt-get install {}"


def tool(name: str, package: str = "prometheus") -> str:
    """The path of a program; the test skips where it is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(MISSING.format(name, package))
    return path


class Prometheus:
    """The answers of a server."""

    def __init__(self, address: str) -> None:
        self.address = address

    def query(self, query: str) -> list[dict[str, Any]]:
        """The samples that a query gives now; fails with Prometheus's own words."""
        found: dict[str, Any] = self.get("query", query=query)
        result = found["result"]
        return result if isinstance(result, list) else []

    def get(self, path: str, **parameters: str) -> Any:
        """What the HTTP interface answers."""
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def is_ready(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{self.address}/-/ready", timeout=2).close()
            return True
        return False


@contextlib.contextmanager
def running_prometheus(folder: Path, target: str, rules: dict[str, Any]) -> Iterator[Prometheus]:
    """Run Prometheus with its data below `folder`; it scrapes `target` every second.

    Args:
        target: host and port.
        rules: content of a file of rules.
    """
    program = tool("prometheus")
    folder.mkdir(exist_ok=True)
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    scraped = {"job_name": "cidc-stream", "static_configs": [{"targets": [target]}]}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [scraped],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        assert until(server.is_ready, 30), (folder / "log").read_text()
        yield server
    finally:
        process.terminate()
        process.wait(30)
