"""What all programs share: streams that accept every text, one line for an error, the status."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from configs import CidcError, exit_status
from tests import ROOT

LABELS = "Händeschütteln 握手 🤝 \\udcff"


def program(
    body: str, *, shell: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a program whose command has this body; `shell` redirects its streams."""
    text = (
        "import sys\nfrom configs import exit_status, print_table\n"
        f"def run():\n    {body}\n    return 0\n"
        "sys.exit(exit_status(run))\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {shell}', sys.executable, text],
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        timeout=60,
        check=False,
    )


ENCODINGS = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "ascii:strict"},
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "C.UTF-8"},
]


@pytest.mark.parametrize("environment", ENCODINGS, ids=str)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_every_text_can_be_printed(environment: dict[str, str], unbuffered: str) -> None:
    body = f"text = {ascii(LABELS)!s}; print(text); print_table(['name'], [[text]])"
    done = program(body.replace("\\\\udcff", "\\udcff"), PYTHONUNBUFFERED=unbuffered, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"ndesch") == 2
    assert done.stdout.count(b"\\xff") == 2


@pytest.mark.parametrize(
    ("shell", "status", "says"),
    [
        (">/dev/full", 2, b"error: standard output or a file: No space left"),
        (">&-", 0, b""),
        ("2>&-", 0, b""),
        ("<&- >&- 2>&-", 0, b""),
        ("2>/dev/full", 0, b""),
        ("| true", 0, b""),
    ],
)
def test_output_that_nobody_takes(shell: str, status: int, says: bytes) -> None:
    done = program("print('x' * 100_000)", shell=shell)
    assert done.returncode == status
    assert says in done.stderr
    assert done.stderr.count(b"\n") == (status > 0)


def test_a_closed_stream_gives_its_number_to_no_file() -> None:
    body = "file = open('/dev/zero'); sys.exit(3 if file.fileno() < 3 else 0)"
    assert program(body, shell=">&- 2>&-").returncode == 0


def test_help_into_a_full_disk_is_an_error() -> None:
    body = "import argparse; argparse.ArgumentParser().parse_args(['--help'])"
    done = program(body, shell=">/dev/full")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("open('/nowhere/x')", 2, b"error: /nowhere/x: No such file or directory"),
        ("raise KeyboardInterrupt", 130, b"interrupted"),
        ("sys.exit(5)", 5, b""),
        (r"'\udcff.mp4'.encode('utf-8')", 2, b"not UTF-8; rename the file"),
        ("'k\\u00fcche'.encode('ascii')", 2, b"set PYTHONUTF8=1"),
    ],
)
def test_an_error_is_one_line_and_a_status(body: str, status: int, says: bytes) -> None:
    done = program(body)
    assert done.returncode == status
    assert says in done.stderr
    assert done.stderr.count(b"\n") == (1 if says else 0)


def test_an_error_is_one_line_whatever_others_wrote_into_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run() -> int:
        raise CidcError("bad name a\nerror: forged \x1b[2J\x9b[/x]")

    assert exit_status(run) == 2
    assert capsys.readouterr().err == "error: bad name a\\nerror: forged \\x1b[2J\\x9b[/x]\n"
