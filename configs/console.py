"""Prints log lines, text and tables on any terminal, into a file or into a pipe."""

from __future__ import annotations

import copy
import importlib.util
import logging
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from configs.text_files import lines_of, readable

__all__ = [
    "LineHandler",
    "OneLineFormatter",
    "is_terminal",
    "log_handler",
    "print_table",
    "printable",
    "shows_progress",
    "table_lines",
]


def log_handler(stream: TextIO) -> logging.Handler:
    """Return a handler that writes log lines as text: coloured and wrapped only in a terminal."""
    if is_terminal(stream) and importlib.util.find_spec("rich") is not None:
        from rich.console import Console
        from rich.logging import RichHandler

        # On standard output the log shares the console of progress bars.
        console = None if stream is sys.stdout else Console(file=stream)
        handler: logging.Handler = RichHandler(console=console, show_path=False)
        handler.setFormatter(OneLineFormatter("%(message)s"))
        return handler
    handler = LineHandler(stream)
    formatter = OneLineFormatter("%(asctime)s %(levelname)-8s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    return handler


class OneLineFormatter(logging.Formatter):
    """Formats log records such that nobody's text can forge a line or change a terminal.

    A message is one line, with control characters escaped. Lines of a traceback are indented, so
    that none of them looks like a log line, whatever the message of the exception contains.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, and the indented lines of its traceback."""
        record = copy.copy(record)  # its cached traceback may come from another formatter
        record.exc_text = None
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line without the traceback."""
        record.message = readable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return the indented lines of a traceback."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        """Return the indented lines of a stack."""
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    return "\n".join(f"    {readable(line)}" for line in lines_of(text))


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes log lines until the stream fails, and reports that once instead of for each line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Stop after an error of the stream; the program goes on."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logging.getLogger().removeHandler(self)
        if self.stream is not sys.stderr:
            print(f"log lines cannot be written any more: {error.strerror}", file=sys.stderr)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether the stream writes to a terminal; it may be closed or missing."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def shows_progress() -> bool:
    """Return whether progress bars make sense: only where they can redraw themselves."""
    return is_terminal(sys.stdout)


def printable(text: str, encoding: str | None = None) -> str:
    r"""Replace each character that the output cannot show by an escape sequence such as `\u63e1`.

    These are the characters that `readable` replaces, and those outside the encoding, which by
    default is the encoding of standard output.
    """
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    return readable(text).encode(encoding, errors="backslashreplace").decode(encoding)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None
) -> None:
    """Print a table to standard output: one line per row, columns aligned, nothing cut off."""
    for line in table_lines(columns, rows, title=title):
        print(line)


def table_lines(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str | None = None,
    encoding: str | None = None,
) -> list[str]:
    """Return the lines of a table: the title, the names of the columns, a rule, and each row."""
    cells = [[printable(cell, encoding) for cell in row] for row in (columns, *rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = [
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]
    return lines if title is None else [printable(title, encoding), *lines]


def _width(text: str) -> int:
    """Return the width of text in a terminal, where some characters take two columns or none."""
    return sum(
        0
        if unicodedata.category(character) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(character) in ("W", "F"))
        for character in text
    )
