"""What all programs of this project share: streams, error messages and exit status."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TextIO

from configs.errors import CidcError
from configs.text_files import print_any_name, readable

__all__ = ["exit_status", "prepare_streams", "program_name"]


def exit_status(run: Callable[[], int]) -> int:
    """Run a program and return its exit status.

    An error becomes one line on standard error. Text that the terminal cannot show is escaped. A
    program whose reader goes away, as in `| head`, ends without a message.

    Returns:
        The status that `run` returned; 2 after invalid input, or if a file or standard output
        cannot be read or written; 130 after Ctrl-C.
    """
    prepare_streams()
    try:
        status = _run(run)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except CidcError as error:
        _say(f"error: {error}")
    except BrokenPipeError:
        _discard(sys.stdout)
        return 0
    except UnicodeEncodeError as error:
        _say(f"error: {_describe_text(error)}")
    except OSError as error:
        _say(f"error: {_describe(error)}")
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    return 2


def program_name(package: str) -> str:
    """Return what the user called: a console script such as `cidc-train`, or `python -m train`."""
    script = os.path.basename(sys.argv[0]) if sys.argv else ""  # noqa: PTH119 - no pathlib needed
    return script if script.startswith("cidc-") else f"python -m {package}"


def _run(run: Callable[[], int]) -> int:
    """Call `run`; a command line that only asks for help must also reach standard output."""
    try:
        return run()
    except SystemExit as ended:
        if ended.code in (0, None):
            return 0
        raise


def prepare_streams() -> None:
    r"""Make standard output and standard error accept every text.

    Characters outside their encoding are written as escape sequences such as `\u63e1`. A stream
    that the caller has closed leads to /dev/null; otherwise the first file that the program opens
    would take its number, and would receive what libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))
    print_any_name()


def _describe(error: OSError) -> str:
    """Describe an error; one of standard output, like some of files, does not say its name."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{error.filename}: {reason}; check the path and the free space"
    try:
        sys.stdout.flush()  # text that could not be written may wait, and would fail again
    except OSError:
        _discard(sys.stdout)
    return f"standard output or a file: {reason}; check the path and the free space"


def _describe_text(error: UnicodeEncodeError) -> str:
    text = ascii(error.object[max(0, error.start - 40) : error.end + 40])
    if error.encoding.replace("-", "").lower() == "utf8":
        return f"{text} holds bytes that are not UTF-8; rename the file"
    return (
        f"{text} cannot be used in this locale, whose encoding is {error.encoding}; set"
        " PYTHONUTF8=1, or a UTF-8 locale such as LC_ALL=C.UTF-8"
    )


def _say(message: str) -> None:
    """Write one line to standard error, if that is possible."""
    try:
        print(readable(message), file=sys.stderr)
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Send what is left of a stream, and all that follows, to /dev/null."""
    with contextlib.suppress(OSError, ValueError):
        target = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, target)
        os.close(null)
