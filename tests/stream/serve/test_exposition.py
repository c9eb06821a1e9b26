"""Which format `/metrics` has, by the header `Accept`."""

from __future__ import annotations

import pytest

from stream.serve.exposition import accepts_openmetrics

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; version=1.0.0", True),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.5", True),
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("text/plain, application/openmetrics-text;q=0.5", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=much", False),
    ],
)
def test_openmetrics_is_sent_to_those_who_ask_for_it(accept: str, expected: bool) -> None:
    assert accepts_openmetrics(accept) is expected
