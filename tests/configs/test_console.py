"""Tables and log lines: aligned, one line each, whatever the terminal can show."""

from __future__ import annotations

import errno
import io
import logging
import re
import sys

import pytest

from configs.console import LineHandler, log_handler, printable, table_lines


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("Händeschütteln", "utf-8", "Händeschütteln"),
        ("Händeschütteln", "latin-1", "Händeschütteln"),
        ("Händeschütteln", "ascii", "H\\xe4ndesch\\xfctteln"),
        ("握手", "latin-1", "\\u63e1\\u624b"),
        ("🤝", "ascii", "\\U0001f91d"),
        ("a\udcffb", "utf-8", "a\\xffb"),
        ("a\nb\x1b[31m\t", "utf-8", "a\\nb\\x1b[31m\\t"),
        ("a\u2028b\u202e", "utf-8", "a\\u2028b\\u202e"),
        ("[bold]x[/y]", "utf-8", "[bold]x[/y]"),
    ],
)
def test_what_cannot_be_shown_is_escaped(text: str, encoding: str, shown: str) -> None:
    assert printable(text, encoding) == shown


def test_columns_are_aligned_by_their_width_in_a_terminal() -> None:
    lines = table_lines(("a", "b"), [("握手", "1"), ("x", "2")], title="t", encoding="utf-8")
    assert lines == ["t", "a     b", "----  -", "握手  1", "x     2"]
    lines = table_lines(("a", "b"), [("握手", "1"), ("x", "2")], encoding="ascii")
    assert lines == [
        "a             b",
        "------------  -",
        "\\u63e1\\u624b  1",
        "x             2",
    ]
    assert table_lines(("a",), []) == ["a", "-"]


def test_a_log_line_is_one_line_however_long() -> None:
    stream = io.StringIO()
    handler = log_handler(stream)
    assert handler.formatter is not None
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", ("word " * 100,), None)
    handler.emit(record)
    [line] = stream.getvalue().splitlines()
    assert line.endswith("INFO     " + "word " * 100)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


FORGED = "2026-01-02T03:04:05Z ERROR    forged"


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028"])
def test_no_text_can_forge_a_log_line_or_change_a_terminal(
    kind: type[io.StringIO], line_end: str
) -> None:
    stream = kind()
    handler = log_handler(stream)
    attack = f"[/b] \x1b[2J\x9b2J\x7f\u202e{line_end}{FORGED}"
    logger = logging.Logger("x")
    logger.addHandler(handler)
    logger.warning("camera %s", attack)
    try:
        raise ValueError(attack)
    except ValueError:
        logger.exception("failed: %s", attack, stack_info=True)
    printed = re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())  # without colours of our own
    assert "[/b]" in printed
    assert "ValueError" in printed
    assert not set("\x1b\r\x0b\x0c\x7f\x85\x9b\u2028\u202e") & set(printed)
    assert not any(line.startswith(FORGED[:10]) for line in printed.split("\n"))


def test_a_traceback_that_another_handler_formatted_is_not_taken_over() -> None:
    stream = io.StringIO()
    record = logging.LogRecord("x", logging.INFO, "", 0, "m", (), None)
    try:
        raise ValueError(f"\n{FORGED}")
    except ValueError:
        record.exc_info = sys.exc_info()
    logging.Formatter().format(record)
    log_handler(stream).emit(record)
    assert f"\n    {FORGED}" in stream.getvalue()
    assert f"\n{FORGED}" not in stream.getvalue()


def test_a_log_that_cannot_be_written_is_reported_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Programs that other tests ran have left handlers with closed streams.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    handler = LineHandler(Full())
    logger = logging.getLogger()
    logger.addHandler(handler)
    logger.warning("one")
    assert handler not in logger.handlers
    logger.warning("two")
    error = capsys.readouterr().err
    assert error.count("log lines cannot be written any more") == 1
    assert "Traceback" not in error
