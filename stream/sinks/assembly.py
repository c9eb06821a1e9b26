"""Makes the deliveries of the sinks that the configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.sinks.config import SinkConfig
from stream.sinks.delivery import Delivery

if TYPE_CHECKING:
    from stream.config import StreamConfig

__all__ = ["make_deliveries"]


def make_deliveries(config: StreamConfig) -> list[tuple[SinkConfig, Delivery]]:
    """Make the delivery of each sink beside Kafka, in the order of the configuration.

    Nothing is connected yet: `cidc-stream check` makes and closes them, too.

    Raises:
        ConfigError: the settings of a sink cannot be used.
    """
    return []
