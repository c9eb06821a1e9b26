"""What tests of cameras in a topic share."""

from collections.abc import Iterator

import pytest

from tests.support.broker import running_broker


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    """The address of a test broker for the tests of one file."""
    with running_broker() as address:
        yield address
