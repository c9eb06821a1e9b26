"""How to connect to Kafka: the settings that publisher and readers share, and the library
itself.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from configs import BrokerError

with warnings.catch_warnings():
    # the package deprecates its own modules while importing them
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka
    import kafka.errors
    import kafka.future
    import kafka.structs
from kafka.errors import IncompatibleBrokerVersion, KafkaConfigurationError, KafkaError

__all__ = ["explained", "kafka"]


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Kafka's errors as one of ours."""
    try:
        yield
    except (KafkaConfigurationError, ValueError, IncompatibleBrokerVersion) as error:
        raise BrokerError(f"kafka: {error}") from error
    except KafkaError as error:
        raise BrokerError(f"kafka: the broker cannot be reached or refused: {error}") from error
