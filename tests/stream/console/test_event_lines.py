"""Events as lines of text, whoever wrote them."""

from __future__ import annotations

import dataclasses

from stream.console.event_lines import event_line
from tests.support.factory import make_event

ATTACK = "a[/x]\x1b[2J\r\n\x9b\u202e"
SHOWN = "a[/x]\\x1b[2J\\r\\n\\x9b\\u202e"


def test_every_text_of_an_event_stays_on_its_line() -> None:
    for kind in ("started", "ended"):
        texts = {"camera_id": ATTACK, "region": ATTACK, "action": ATTACK}
        if kind == "ended":
            texts["reason"] = ATTACK
        line = event_line(dataclasses.replace(make_event(1, kind=kind), **texts))
        assert line.isprintable()
        assert line.count(SHOWN) == len(texts)


def test_a_line_names_place_kind_action_and_seconds() -> None:
    line = event_line(make_event(1, kind="ended"))
    assert line == "03:04:07  cam          ended    fall         5.0 to 7.0 s (over)"
