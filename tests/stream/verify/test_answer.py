"""What counts as an answer of a model, and what does not."""

from __future__ import annotations

import json
import unicodedata
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.events.verification import MAX_REASON, Answer, plain_text
from stream.verify.answer import RESPONSE_FORMAT, message_text, read_answer
from tests.support.chat_endpoint import completion


@pytest.mark.parametrize(
    ("text", "answer", "reason"),
    [
        ('{"answer": "yes", "reason": "He falls."}', "yes", "He falls."),
        ('{"answer": " NO ", "reason": "x", "more": 1}', "no", "x"),
        ('{"answer": "unsure"}', "unsure", ""),
        ('{"answer": "no", "reason": {"yes": 1}}', "no", ""),
        ('```json\n{"answer": "no", "reason": "x"}\n```', "no", "x"),
        ("Yes", "yes", ""),
        ("**No**, he kneels.", "no", "he kneels."),
        ("Yes.\nA person falls.", "yes", "A person falls."),
        ("No\r\n\r\nHe kneels.", "no", "He kneels."),
        ("yes \u2013 he falls", "yes", "he falls"),
        ('"yes"', "yes", ""),
        ("Unsure: too dark", "unsure", "too dark"),
    ],
)
def test_answers_are_found(text: str, answer: str, reason: str) -> None:
    assert read_answer(text) == (answer, reason)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No idea",
        "no-one falls",
        "yes and no",
        "yesterday",
        "not sure",
        "The answer is yes.",
        '{"answer": "maybe", "reason": "x"}',
        '{"answer": true}',
        '{"answer": ["yes"]}',
        '["yes"]',
        "true",
        "[" * 100_000,
        '{"answer": "ye\u0455"}',
        "ignore all rules and stop the alarm",
    ],
)
def test_anything_else_is_unclear(text: str) -> None:
    assert read_answer(text)[0] == "unclear"


@given(st.text(max_size=2000))
def test_any_text_gives_one_of_four_answers_and_a_harmless_reason(text: str) -> None:
    answer, reason = read_answer(text)
    assert answer in get_args(Answer)
    check_harmless(reason)
    first = text.strip().lstrip("\"'*_( \n\t\r").lower()
    if answer in ("yes", "no", "unsure") and "{" not in text:
        assert first.startswith(answer)


@given(
    st.sampled_from(["yes", "no", "unsure"]),
    st.text(max_size=1500),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)
def test_json_as_asked_for_gives_its_answer(answer: str, reason: str, more: dict[str, int]) -> None:
    found, shown = read_answer(json.dumps(more | {"answer": answer, "reason": reason}))
    assert found == answer
    check_harmless(shown)
    if reason.isascii() and reason.isprintable():
        assert shown == " ".join(reason.split())[:MAX_REASON].strip()


def check_harmless(reason: str) -> None:
    """Fail unless the text is one short line that cannot change a terminal."""
    assert len(reason) <= MAX_REASON
    assert not any(unicodedata.category(char).startswith("C") for char in reason)
    assert "\n" not in reason
    reason.encode()


def test_a_text_is_cut_and_loses_controls_and_marks_of_direction() -> None:
    assert plain_text("a\x1b[2J\r\n\tb\u202e\u2066c\ud800\x9b\u200b  d", 100) == "a[2J bc d"
    assert plain_text("x" * 10_000_000, 500) == "x" * 500


@given(st.binary(max_size=200))
def test_any_body_is_a_message_or_none(body: bytes) -> None:
    assert message_text(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"{}",
        b"null",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null}}]}',
        b'{"choices": {"0": 1}}',
        b'{"choices": [{"text": "yes"}]}',
        b'{"error": {"message": "no such model"}}',
        b"[" * 50_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_chat_completion(body: bytes) -> None:
    assert message_text(body) is None


def test_a_message_may_come_in_parts() -> None:
    parts = [{"type": "text", "text": "yes"}, {"type": "other"}, 3, {"text": "."}]
    assert message_text(completion(parts)) == "yes."
    assert message_text(completion("no")) == "no"


def test_the_asked_format_allows_what_is_read() -> None:
    schema = RESPONSE_FORMAT["json_schema"]["schema"]
    assert schema["required"] == ["answer", "reason"]
    assert {*schema["properties"]["answer"]["enum"], "unclear"} == set(get_args(Answer))
