"""Random configurations against the loader: it answers or gives one clear error, and never hangs.

CIDC_FUZZ says how many are tried.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs import CidcError, example_path, parse_config
from stream.config import StreamConfig, check_settings

COUNT = int(os.environ.get("CIDC_FUZZ", "1500"))
JUNK: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**63,
    -(2**70),
    0.0,
    -0.5,
    1e308,
    float("inf"),
    float("nan"),
    "",
    " ",
    "x" * 300,
    "\x00",
    "ünïcödé",
    "../..",
    "/",
    "null",
    "rtsp://",
    "rtsp://u:p@h:99999/x",
    "http://[::1",
    "udp://@:5000",
    "file:///etc/passwd",
    "auto",
    "cuda",
    [],
    [[]],
    {},
    {"a": {"b": []}},
    [1, "a", None],
    {"enter": 0.5},
    {"id": "a", "url": "x"},
    [{"id": "a", "url": "x"}] * 2,
    "2026-01-01",
    "0x10",
    "1e3",
    "yes",
    3.0,
    "[1",
    "{",
    b"\xff",
]

# What is put into the middle of a text.
FRAGMENTS = ["\t", ":", "- ", "&a *a", "{", "\x07", "!!python/object:os.system", "\n? ", "%", "|"]
# What dotted paths are made of.
NAMES = ["cameras", "clip", "hop", "kafka", "bootstrap", "url", "events", "actions"]


def answer(attempt: Callable[[], object]) -> str | None:
    """Return the error about a configuration, or None if it is accepted.

    Any exception that is not our own fails the test.
    """
    try:
        attempt()
    except CidcError as error:
        return str(error)
    return None


def mutated(tree: Any, rng: random.Random, rate: float) -> Any:
    """A copy with things changed at this rate: values, names, kinds, order."""
    if rng.random() < rate:
        return rng.choice(JUNK)
    if isinstance(tree, dict):
        items = [
            (key, mutated(value, rng, rate))
            for key, value in tree.items()
            if rng.random() > 2 * rate
        ]
        if rng.random() < rate:
            key = rng.choice(["", "camera", "idd", 3, None, "__class__", "x" * 50])
            items.append((key, rng.choice(JUNK)))
        rng.shuffle(items)
        return dict(items)
    if isinstance(tree, list):
        return [
            mutated(value, rng, rate)
            for value in tree
            for _ in range(rng.choice((0, 2)) if rng.random() < rate else 1)
        ]
    return rng.choice(JUNK) if rng.random() < rate else tree


def torn(text: str, rng: random.Random) -> str:
    """The text as an editor may leave it: cut, doubled, with other characters in it."""
    at = rng.randrange(len(text) + 1)
    kind = rng.randrange(4)
    if kind == 0:
        return text[:at]
    if kind == 1:
        return text[:at] + rng.choice(FRAGMENTS) + text[at:]
    return text[:at] + text[rng.randrange(len(text) + 1) :]


@pytest.mark.slow
def test_random_configurations_are_taken_or_refused_in_one_sentence(tmp_path: Path) -> None:
    rng = random.Random(20)
    taken = 0
    longest = 0.0
    whole = yaml.safe_load(example_path("stream.yaml").read_text())
    video = tmp_path / "a.mp4"
    video.touch()
    whole["cameras"] = [
        {"id": f"c{n}", "url": str(video), "hop": 3, "regions": [{"id": "r", "right": 0.5}]}
        for n in range(2)
    ]
    for number in range(COUNT):
        text = yaml.safe_dump(mutated(whole, rng, rng.choice((0.003, 0.01, 0.05))), sort_keys=False)
        if number % 3 == 0:
            text = torn(text, rng)
        started_at = time.monotonic()
        complaint = answer(
            lambda source=text: check_settings(
                parse_config(source, StreamConfig, name="random.yaml")
            )
        )
        taken += complaint is None
        assert complaint is None or (complaint and "\n" not in complaint)
        longest = max(longest, time.monotonic() - started_at)
    print(f"{COUNT} configurations: {taken} taken, the others refused; longest {longest:.2f} s")
    assert 0 < taken < COUNT
    assert longest < 20


def test_random_overrides_are_taken_or_refused() -> None:
    rng = random.Random(3)
    text = example_path("stream.yaml").read_text()
    small = yaml.safe_dump({"cameras": yaml.safe_load(text)["cameras"]})
    for _ in range(COUNT // 5):
        path = ".".join(rng.choice([*NAMES, "", "0", "9", "x"]) for _ in range(3))
        override = f"{path}{rng.choice(['=', '', '=='])}{rng.choice([str(junk) for junk in JUNK])}"
        answer(lambda given=override: parse_config(small, StreamConfig, [given]))  # type: ignore[misc]
