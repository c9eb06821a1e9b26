"""The metrics of second looks at events."""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["FailureReason", "VerifyMetrics"]

# Why an action got no answer. Not sent: `circuit_open`: the endpoint failed often; `queue_full`;
# `max_per_minute`; `shutdown`: the run ended first. Sent: `timeout`; `unreachable`; `redirect`;
# `unauthorised` (401, 403); `rate_limited` (429); `refused` (other 4xx); `server_error` (5xx);
# `too_large`: the answer; `invalid`: the answer is not one of a chat. `camera_gone`: the answer
# came, and this pipeline no longer has the camera. `failed`: an error of this program.
FailureReason = Literal[
    "circuit_open",
    "queue_full",
    "max_per_minute",
    "shutdown",
    "timeout",
    "unreachable",
    "redirect",
    "unauthorised",
    "rate_limited",
    "refused",
    "server_error",
    "too_large",
    "invalid",
    "camera_gone",
    "failed",
]
_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)


class VerifyMetrics:
    """Attributes are metrics; all stay zero while `verify.endpoint` is not set."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers = Counter(
            "cidc_verifications",
            "Second looks that became an event, by answer",
            ["answer"],
            registry=registry,
        )
        self.failures = Counter(
            "cidc_verification_failures",
            "Second looks without an event, by reason",
            ["reason"],
            registry=registry,
        )
        for answer in ("yes", "no", "unsure", "unclear"):
            self.answers.labels(answer)
        for reason in get_args(FailureReason):
            self.failures.labels(reason)
        self.waiting = Gauge(
            "cidc_verifications_waiting",
            "Second looks that wait for the endpoint or are being answered",
            registry=registry,
        )
        self.seconds = Histogram(
            "cidc_verification_seconds",
            "From the started event of an action to the answer of its second look",
            registry=registry,
            buckets=_SECONDS,
        )
