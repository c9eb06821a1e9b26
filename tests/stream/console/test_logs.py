"""Log lines as JSON and as text, printed by a real process."""

import json
import logging
import subprocess
import sys

SCRIPT = """
import logging
from stream.console.logs import LogConfig, set_up_logs
set_up_logs(LogConfig(format="FORMAT", level="info"))
log = logging.getLogger("stream.x")
log.debug("not shown")
log.warning("camera %s is away, %s", "a" * 100, "long line " * 20, extra={"camera": "a"})
try:
    1 / 0
except ZeroDivisionError:
    log.exception("bad")
log.warning("camera %s", "[/b]\\r\\n2026-01-02 ERROR forged \\x1b[2J\\x7f\\x9b")
"""


def printed(form: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("FORMAT", form)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_lines_carry_the_camera_and_the_error() -> None:
    warning, error, odd = (json.loads(line) for line in printed("json"))
    assert (warning["level"], warning["logger"], warning["camera"]) == ("warning", "stream.x", "a")
    assert warning["time"].endswith("Z")
    assert "camera" not in error
    assert "ZeroDivisionError" in error["error"]
    assert odd["message"] == "camera [/b]\r\n2026-01-02 ERROR forged \x1b[2J\x7f\x9b"
    assert all(line.isascii() and line.isprintable() for line in printed("json"))


def test_lines_in_a_file_are_not_wrapped_and_carry_a_date() -> None:
    lines = printed("text")
    assert lines[0].endswith("long line " * 20)
    assert lines[0][10] == "T"
    assert " WARNING " in lines[0]
    assert logging.getLevelName(logging.ERROR) in lines[1]
    assert lines[-2].startswith("    ZeroDivisionError")
    assert lines[-1].endswith(r"camera [/b]\r\n2026-01-02 ERROR forged \x1b[2J\x7f\x9b")
