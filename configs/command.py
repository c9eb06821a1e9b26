"""Error handling of all commands: one line on standard error and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable

from configs.errors import CidcError
from configs.text_files import print_any_name

__all__ = ["exit_status"]


def exit_status(run: Callable[[], int]) -> int:
    """Run a command and return its exit status.

    The status is 2 after invalid input, or if a file cannot be read or written.
    """
    print_any_name()
    try:
        return run()
    except CidcError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(
            f"error: {error.filename or 'a file'}: {error.strerror or error}; check the path and"
            " the free space",
            file=sys.stderr,
        )
    return 2
