"""Renamed settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import ClassVar

import pytest

from configs import (
    ConfigError,
    StrictModel,
    check_tree,
    parse_config,
    with_current_names,
)


class Inner(StrictModel):
    """A section with a renamed setting."""

    max_things: int = 1
    renamed: ClassVar[Mapping[str, str]] = {"most_things": "max_things"}


class Outer(StrictModel):
    """A section that holds others."""

    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()


def test_an_old_name_works_and_is_reported_once_a_file(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        first = check_tree({"inner": {"most_things": 7}}, Outer, name="file")
        second = check_tree({"many": [{"most_things": 8}, {"most_things": 8}]}, Outer, name="f")
    assert first.inner.max_things == 7
    assert second.many[0].max_things == 8
    lines = [line for line in caplog.messages if "most_things" in line]
    expected = (
        "setting most_things is now called max_things; the old name works until version 0.3.0"
    )
    assert lines == [expected] * 2


def test_old_and_new_name_together_are_an_error() -> None:
    with pytest.raises(ConfigError, match="inner: most_things is the old name of max_things"):
        check_tree({"inner": {"most_things": 7, "max_things": 7}}, Outer, name="file")
    with pytest.raises(ConfigError, match="most_things is the old name of max_things"):
        with_current_names({"inner": {"most_things": 7, "max_things": 7}}, Outer)


def test_an_override_may_use_the_old_name_over_a_file_with_the_new_one_and_the_reverse(
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = ("inner: {max_things: 2}", "inner: {most_things: 2}")
    for text in both:
        for name in ("max_things", "most_things"):
            assert parse_config(text, Outer, [f"inner.{name}=9"]).inner.max_things == 9
    many = parse_config("many: [{most_things: 3}]", Outer, ["many.0.most_things=5"])
    assert many.many[0].max_things == 5
    with pytest.raises(ConfigError, match="inner: most_things is the old name of max_things"):
        parse_config("inner: {most_things: 7, max_things: 7}", Outer, ["inner.max_things=1"])
    assert "most_things" in caplog.text


def test_names_are_made_current_at_any_depth() -> None:
    tree = {"inner": {"most_things": 2}, "many": [{"most_things": 3}, {"max_things": 4}]}
    expected = {"inner": {"max_things": 2}, "many": [{"max_things": 3}, {"max_things": 4}]}
    assert with_current_names(tree, Outer) == expected
    assert tree["inner"] == {"most_things": 2}
