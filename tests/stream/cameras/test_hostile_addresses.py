"""Random addresses reach the host and the file that the settings show, or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.hooks import network_hooks

CASES = int(os.environ.get("CIDC_FUZZ", "10000"))


@pytest.mark.slow
def test_addresses_reach_no_other_host_and_no_other_file(tmp_path: Path) -> None:
    library = network_hooks(tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.address_fuzz", str(CASES), str(tmp_path / "log")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    counts = dict(line.split() for line in run.stdout.splitlines())
    # The grammar must make addresses of both kinds, and the hooks must see something.
    assert int(counts["accepted"]) > CASES / 10
    assert int(counts["refused"]) > CASES / 10
    assert int(counts["asked"]) > CASES / 50
