"""Webhooks reach public addresses only, whatever a name server answers."""

from __future__ import annotations

import socket
import threading
from typing import Any

import httpcore
import pytest

from configs import ConfigError, check_tree
from stream.sinks.checked_network import CheckedNetwork, PrivateAddressError
from stream.sinks.delivery import Undelivered
from stream.sinks.public_addresses import is_private_host, is_public
from stream.sinks.webhook import WebhookDelivery
from stream.sinks.webhook_config import WebhookConfig
from tests.support.stored_events import stored_events
from tests.support.webhook_receiver import webhook_receiver

PUBLIC = ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1")
PRIVATE = (
    *("127.0.0.1", "127.255.0.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "0.0.0.0", "0.1.2.3"),
    *("169.254.169.254", "100.64.0.1", "100.127.255.254", "198.18.0.1", "192.0.0.9", "203.0.113.7"),
    *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1"),
    *("fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1", "3fff::1", "100::1", "2001::1"),
    *("::ffff:10.0.0.1", "::ffff:0:7f00:1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::808:808"),
    *("2002:7f00:1::1", "2002:a9fe:a9fe::1", "no address", ""),
)
SECRET = "whsec_" + "QUJD" * 8
NEVER = threading.Event()


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(address)
    assert not is_private_host(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_all_other_addresses(address: str) -> None:
    assert not is_public(address)


class Names:
    """A name server that gives each of these answers in turn, and remembers the questions."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, **_: Any) -> list[tuple[Any, Any, Any, Any, Any]]:
        self.asked.append(host)
        answer = self.answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in answer]


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were connected to; none of them answers."""
    found: list[str] = []

    def refuse(self: object, host: str, *_: object) -> None:
        found.append(host)
        raise httpcore.ConnectError("refused")

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", refuse)
    return found


def webhook(names: Names, **settings: Any) -> WebhookDelivery:
    tree = {"name": "alarm", "url": "https://hooks.example.com/x", "secret": SECRET, **settings}
    return WebhookDelivery(WebhookConfig.model_validate(tree), resolve=names)


def test_the_checked_address_is_the_one_that_is_connected_to(connected: list[str]) -> None:
    """The second answer of the name server is private; nothing may use it unchecked."""
    names = Names(("8.8.8.8",), ("127.0.0.1",))
    sent = webhook(names)
    with pytest.raises(Undelivered) as raised:
        sent.deliver(stored_events(1), NEVER)
    assert raised.value.reason == "connection"
    assert (connected, names.asked) == (["8.8.8.8"], ["hooks.example.com"])
    with pytest.raises(Undelivered) as raised:
        sent.deliver(stored_events(1), NEVER)
    assert raised.value.reason == "private_address"
    assert connected == ["8.8.8.8"]
    sent.close()


def test_private_addresses_among_others_are_left_out(connected: list[str]) -> None:
    sent = webhook(Names(("10.0.0.1", "8.8.8.8", "::1", "1.1.1.1")))
    with pytest.raises(Undelivered):
        sent.deliver(stored_events(1), NEVER)
    assert connected == ["8.8.8.8", "1.1.1.1"]
    sent.close()


def test_the_error_names_the_setting() -> None:
    with webhook_receiver() as running:
        sent = webhook(Names(("127.0.0.1",)), url=f"http://hooks.example.com:{running.port}/x")
        with pytest.raises(Undelivered, match=r"127\.0\.0\.1.*allow_private: true.*'alarm'"):
            sent.deliver(stored_events(1), NEVER)
        assert running.requests == []
        allowed = webhook(
            Names(("127.0.0.1",)),
            url=f"http://hooks.example.com:{running.port}/x",
            allow_private=True,
        )
        allowed.deliver(stored_events(1), NEVER)
        assert running.requests[0].headers["host"] == f"hooks.example.com:{running.port}"
        sent.close()
        allowed.close()


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "a.localhost",
        "LOCALHOST.",
        "127.0.0.1",
        "[::1]",
        "169.254.169.254",
        "[fe80::1]",
    ],
)
def test_a_private_host_is_refused_when_the_settings_are_read(host: str) -> None:
    tree = {"name": "alarm", "url": f"https://{host}/", "secret": SECRET}
    with pytest.raises(ConfigError, match="allow_private"):
        check_tree(tree, WebhookConfig, name="webhook")
    check_tree(tree | {"allow_private": True}, WebhookConfig, name="webhook")


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "017700000001"])
def test_other_spellings_of_private_addresses_are_found_when_they_are_connected_to(
    host: str,
) -> None:
    network = CheckedNetwork(allow_private=False)
    network.begin(5.0, NEVER)
    with pytest.raises(PrivateAddressError, match=r"127\.0\.0\.1"):
        network.connect_tcp(host, 80)
