"""What DALI's error messages mean.

DALI raises RuntimeError for everything; only the text tells a full device from a damaged video.
"""

from __future__ import annotations

import re

__all__ = ["is_out_of_memory", "reason_of"]

# Texts of DALI 2.4, of CUDA, of NVIDIA's libraries and of the C++ library. FFmpeg's own texts are
# left out ("Cannot allocate memory", "Could not allocate av packet"): it says so of damaged files
# that claim a huge size, and one of them must not end a training run.
_OUT_OF_MEMORY = re.compile(
    r"out[ _]of[ _]memory|bad_alloc|insufficient memory|CUDA allocation|memory[ _]?allocation"
    r"|can't allocate \d+ bytes|could not allocate virtual address space|no memory is mapped"
    r"|failed to allocate (?:\d|memory)|unable to allocate",
    re.IGNORECASE,
)
# The first lines say only that a pipeline failed, and where the graph was defined.
_HEADING = re.compile(
    r"(?:Unknown )?critical error.*:?$|Current pipeline object is no longer", re.I
)
_ASSERTION = re.compile(r'^Assert on ".*" failed:? ?')


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether DALI or CUDA could not get memory, on the device or on the host."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def reason_of(error: BaseException) -> str:
    """Return DALI's reason in one line, without headings, tracebacks and places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    if "encountered:" in lines:
        lines = lines[lines.index("encountered:") + 1 :]
    found = []
    for line in lines:
        if line.startswith(("C++ context:", "Stacktrace", "Backtrace")):
            break
        if line and not _HEADING.match(line):
            found.append(_ASSERTION.sub("", line))
    return " ".join(part for part in found if part) or type(error).__name__
