"""The metrics of a pipeline as a worker beside others: how full it is, and what it cannot take."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["NotTakenReason", "WorkerMetrics"]

# Why a camera is not taken. `no_slot`: the ring has no room for its views; `load`: the pipeline is
# too busy; `unusable`: its settings cannot be used here; `secret`: a secret of its address cannot
# be read; `twice`: another camera has its id; `hanging`: too many readers of cameras hang;
# `stopping`: the pipeline stops.
NotTakenReason = Literal["no_slot", "load", "unusable", "secret", "twice", "hanging", "stopping"]


class WorkerMetrics:
    """Attributes are metrics; `up` and `restarts` belong to the process that starts workers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.load = Gauge(
            "cidc_worker_load",
            "Fraction of the capacity used over the last 30 s, of the part that limits; above 1:"
            " overloaded",
            registry=registry,
        )
        self.load_part = Gauge(
            "cidc_worker_load_part",
            "Fraction of its capacity that a part used over the last 30 s",
            ["part"],
            registry=registry,
        )
        self.not_taken = Gauge(
            "cidc_cameras_not_taken",
            "Cameras that this pipeline should analyse and cannot take, by reason",
            ["reason"],
            registry=registry,
        )
        self.up = Gauge(
            "cidc_worker_up", "1 while a worker process runs", ["worker"], registry=registry
        )
        self.restarts = Counter(
            "cidc_worker_restarts",
            "Times a worker process ended by itself and was started again",
            ["worker"],
            registry=registry,
        )
