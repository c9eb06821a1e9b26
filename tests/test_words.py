"""The project's words: one word for one thing, the field's own terms, plain current English."""

from __future__ import annotations

import re

import pytest

from tests import ROOT

# What is not written here, and what is written instead.
WORDS = {
    r"\b(?:anew|begun)\b": "again, restarted, started",
    r"\b(?:surest|useless|elders|spoke)\b": "best, invalid, waiting_longer, has_emitted",
    r"\bset[_ -]aside\b": "dead letter",
    r"\brescu(?:e|ed|es|ing)\b": "recover, recovery",
    r"\b_?(?:most|least)_(?!important|confused)[a-z_]+\b": "max_, min_",
    r"\bmax_bad_share\b": "max_bad_fraction",
    r"\bwithin pairs\b": "pairwise accuracy",
    r"(?<!there )\bis no (?!longer|more than|less than)[a-z]": "is not a",
    r"\bof which\b": "two sentences",
    r"\bso that it be\b": "so that it is",
    r"\b(?:picture_HWC|pictures_THWC)\b": "frame_HWC, frames_THWC",
}
# Old names that must still be read or shown; what SQL and files call things; JPEGs kept of events.
ALLOWED = re.compile(
    r"most_body_bytes|most_connections|most_views|most_things|max_bad_share|backoff_most|\.rescu|\"rescued\"|renamed"
    r"|snapshots\.py: .*picture_HWC"
)
FOLDERS = ("configs", "model", "stream", "train", "scripts", "benchmarks", "tests", "docs")
ENDINGS = (".py", ".md", ".yaml", ".cu", ".cuh", ".sh")
# Files of earlier releases, and this list.
LEFT_OUT = ("tests/compatibility", "tests/test_words.py", "docs/reference")


def lines() -> list[tuple[str, int, str]]:
    """Every line of the project, with its file and number."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))]
    paths += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    found = []
    for path in paths:
        name = str(path.relative_to(ROOT))
        if path.suffix in ENDINGS and not name.startswith(LEFT_OUT):
            text = path.read_text(encoding="utf-8")
            found += [(name, number, line) for number, line in enumerate(text.splitlines(), 1)]
    return found


@pytest.mark.parametrize(("word", "instead"), WORDS.items())
def test_words_of_the_list_are_not_used(word: str, instead: str) -> None:
    pattern = re.compile(word)
    hits = [
        f"{name}:{number}: {line.strip()}"
        for name, number, line in lines()
        if pattern.search(line) and not ALLOWED.search(f"{name}: {line}")
    ]
    assert not hits, f"write {instead!r}:\n" + "\n".join(hits)


def test_every_pattern_finds_what_it_is_for() -> None:
    examples = (
        "begun",
        "surest",
        "set aside",
        "rescued",
        "most_views",
        "max_bad_share",
        "within pairs",
        "is no camera",
        "of which",
        "so that it be",
        "picture_HWC",
    )
    for pattern, example in zip(WORDS, examples, strict=True):
        assert re.search(pattern, example), pattern
    (inverted,) = (pattern for pattern in WORDS if "is no" in pattern)
    assert not re.search(inverted, "is no longer there, and there is no other")
