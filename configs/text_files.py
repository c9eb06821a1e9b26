"""Read text files that people wrote with any editor, and print text that others wrote.

Python represents the bytes of a file name that are not UTF-8 by surrogate characters. They survive
in lists of files, and the files can be opened, but ordinary output refuses them. Names and messages
may also contain control characters, with which they could change a terminal or forge log lines.
"""

from __future__ import annotations

import codecs
import re
import stat
import sys
import unicodedata
from pathlib import Path

from configs.errors import CidcError

__all__ = [
    "MAX_TEXT_BYTES",
    "clean_label",
    "delimiter_of",
    "has_controls",
    "lines_of",
    "no_controls",
    "print_any_name",
    "quoted",
    "read_text",
    "readable",
]

MAX_TEXT_BYTES = 256 << 20  # the path and label of a million videos need about 100 MB
# The marks are tried in this order: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAX_QUOTED = 200  # characters
_LINE_END = re.compile(r"\r\n|\r|\n")
_SURROGATE = re.compile("[\ud800-\udfff]")
# C0, DEL and C1; separators of lines and paragraphs; marks that reverse the direction of text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_READABLE = "readable-names"


def read_text(path: Path, what: str, error: type[CidcError], *, raw_names: bool = False) -> str:
    """Read a text file: UTF-8, or UTF-16 or UTF-32 with a byte-order mark. Line ends stay.

    Args:
        path: the file.
        what: what the file is, such as `manifest`; it begins the error message.
        error: class of the errors to raise.
        raw_names: whether bytes that are not UTF-8 become surrogate characters, as in file names.

    Raises:
        CidcError: of the class `error`; the file is missing, is a pipe or device, is larger than
            `MAX_TEXT_BYTES`, cannot be read, or has another encoding. The message names the file
            and the line.
    """
    data = _read_bytes(path, what, error)
    mark, encoding = next((pair for pair in _MARKS if data.startswith(pair[0])), (b"", "utf-8"))
    content = data[len(mark) :] if encoding == "utf-8" else data
    try:
        text = content.decode(encoding, "surrogateescape" if raw_names else "strict")
    except UnicodeDecodeError as problem:
        line = len(_LINE_END.findall(content[: problem.start].decode("latin-1"))) + 1
        place = f"{what} {readable(path)}" + (f", line {line}" if encoding == "utf-8" else "")
        raise error(
            f"{place}: not {encoding.upper()} text ({problem.reason} at byte {problem.start});"
            " save the file as UTF-8, for example with `iconv -f CP1252 -t UTF-8`"
        ) from None
    if "\0" in text:
        line = len(lines_of(text[: text.index("\0")]))
        raise error(
            f"{what} {readable(path)}, line {line}: it contains a zero byte, so it is not UTF-8"
            " text; if it is UTF-16, save the file as UTF-8"
        )
    return text


def _read_bytes(path: Path, what: str, error: type[CidcError]) -> bytes:
    """Read a regular file of limited size; a pipe may never end, or nobody writes to it."""
    try:
        facts = path.stat()
        other = not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode)
        data = None if other or facts.st_size > MAX_TEXT_BYTES else path.read_bytes()
    except FileNotFoundError:
        raise error(f"{what} not found: {readable(path)}") from None
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{what} {readable(path)} cannot be read: {reason}") from None
    if other:
        raise error(
            f"{what} {readable(path)} is a pipe, socket or device; write its content to a file and"
            " give that file"
        )
    if data is None:
        raise error(
            f"{what} {readable(path)} is larger than {MAX_TEXT_BYTES >> 20} MB; divide it into"
            " several files"
        )
    return data


def lines_of(text: str) -> list[str]:
    """Split text at the line ends of Unix, Windows and old Macs only, not at other characters."""
    return _LINE_END.split(text)


def delimiter_of(line: str) -> str:
    """Return what separates the cells of a table: the first of comma, semicolon, tab in a line."""
    return next((each for each in ",;\t" if each in line), ",")


def clean_label(text: str) -> str:
    """Return a label as data sets, configurations and weights hold it.

    Unicode is normalised (NFC; macOS stores names in another form), line breaks, tabs and control
    characters become blanks, blanks at both ends are removed, and bytes that are not UTF-8 are
    written as `\\xe9`.
    """
    blanks = readable(_CONTROL.sub(" ", text))
    return unicodedata.normalize("NFC", blanks).strip().strip("\ufeff").strip()


def readable(name: object) -> str:
    """Return a name or message as one line that can be printed and cannot change a terminal.

    Control characters are written as `\\n` or `\\x1b`, line separators and marks that reverse the
    direction of text as `\\u2028`, and bytes that are not UTF-8 as `\\xe9`.
    """
    text = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(name))
    return _SURROGATE.sub(lambda found: _escape(found[0]), text)


def has_controls(text: str) -> bool:
    """Whether text contains characters that `readable` replaces, apart from bytes not UTF-8."""
    return _CONTROL.search(text) is not None


def no_controls(text: str) -> str:
    """Return text of a setting as it is.

    Raises:
        ValueError: it contains a control character; the message shows it.
    """
    if has_controls(text):
        raise ValueError(f"'{readable(text)}' contains a control character; remove it")
    return text


def quoted(value: object) -> str:
    """Return a value of a file as a message shows it: quoted, escaped, and not of any length."""
    text = value if isinstance(value, str) else repr(value)
    shown = repr(text[:_MAX_QUOTED]) if isinstance(value, str) else text[:_MAX_QUOTED]
    # Bytes that are not UTF-8 are shown as everywhere else: `\xe9`.
    shown = re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", shown)
    return shown + ("..." if len(text) > _MAX_QUOTED else "")


def print_any_name() -> None:
    """Let standard output and standard error print every name instead of raising an error."""
    codecs.register_error(_READABLE, _escaped)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_READABLE)


def _escaped(problem: UnicodeError) -> tuple[str, int]:
    """Write a raw byte as `\\xe9` and any other character that cannot be encoded as `\\u20ac`."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    return "".join(map(_escape, problem.object[problem.start : problem.end])), problem.end


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("ascii", "backslashreplace").decode()
