"""What may be skipped or missing in a GPU check; everything else that is skipped is a failure."""

from __future__ import annotations

import re
import xml.etree.ElementTree
from collections.abc import Sequence
from pathlib import Path

__all__ = ["EXPECTED_SKIPS", "HINT", "PACKAGES_OF", "is_expected", "missing_module", "skips_in"]

# What `--without` may name, and the modules that are missing then.
PACKAGES_OF = {
    "dali": ("nvidia",),
    "nvdec": ("PyNvVideoCodec",),
    "pyav": ("av",),
    "pydantic": ("pydantic", "pydantic_core"),
    "others": ("safetensors", "rich", "yaml", "cv2"),
}
_MISSING = re.compile(r"ModuleNotFoundError: No module named '([\w]+)[\w.]*'")
# Skips that do not fail a part: a part of the reason that is given, and why it is accepted.
EXPECTED_SKIPS = {
    "needs 24 GiB of free GPU memory": "smaller GPUs cannot hold the map",
    "the GPU's decoder does not support": "no GPU decodes every format: an H100 has no AV1",
    "are outside the limits of the GPU's decoder": "each format has a smallest size",
    "TensorRT is not installed": "the extra tensorrt is optional",
    "PyCUDA cannot be used": "it is optional, and only its sources are published",
    "compute-sanitizer is not on the PATH": "it comes with the CUDA toolkit, not with packages",
}
# Reasons of skips because a package is missing; `--without` accepts them.
_SKIPS_OF = {
    "dali": ("DALI is not installed",),
    "nvdec": ("PyNvVideoCodec",),
    "pyav": ("PyAV is not installed",),
    "pydantic": ("could not import 'pydantic'",),
}
HINT = (
    "`make gpu-wheels`, on a machine with a network, downloads packages; `--without` accepts that"
    " they are missing"
)


def skips_in(results: Path) -> list[str]:
    """Return the reasons of all skips in pytest's file of results."""
    if not results.is_file():
        return []
    found = xml.etree.ElementTree.parse(results).iter("skipped")
    return [f"{item.get('message') or ''} {item.text or ''}".strip() for item in found]


def is_expected(reason: str, without: Sequence[str]) -> bool:
    """Tell whether a skip is expected, or explained by a package that `--without` names."""
    accepted = [*EXPECTED_SKIPS, *(part for name in without for part in _SKIPS_OF.get(name, ()))]
    return any(part in reason for part in accepted)


def missing_module(line: str) -> str | None:
    """Return the module that is missing according to the last line of a part's output."""
    found = _MISSING.match(line)
    return None if found is None else found[1]
