"""Delivers events as signed webhooks (Standard Webhooks 1.0).

A request that is sent again has the same body and the same `webhook-id`. Therefore a batch that
failed is sent again as it was, even if more events wait by then.
"""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Sequence

import httpcore
import httpx

from configs import ConfigError, readable
from stream.events.event import StoredEvent
from stream.http_client import retry_after_seconds, silence_http_client
from stream.sinks.checked_network import CheckedNetwork, PrivateAddressError, Resolve
from stream.sinks.delivery import Gone, Refused, Undelivered
from stream.sinks.signature import sign
from stream.sinks.tls import client_context
from stream.sinks.webhook_config import WebhookConfig
from stream.sinks.webhook_transport import WebhookTransport

__all__ = ["ENVELOPE_SCHEMA", "WebhookDelivery", "webhook_body"]

_log = logging.getLogger(__name__)
ENVELOPE_SCHEMA = "action-events/1"
_MAX_ANSWER_BYTES = 16_384  # of a body that is read so that the connection can be kept
_ANSWER_SECONDS = 1.0  # after the status, for that body
_MAX_RETRY_AFTER_SECONDS = 3600.0
_REFUSALS = {400: "bad request", 413: "too large", 422: "cannot be processed"}
_TOO_LARGE = 413


class WebhookDelivery:
    """Posts events to the address of a webhook.

    Args:
        resolve: finds the addresses of the host; tests replace it.

    Raises:
        ConfigError: a file of the settings cannot be used.
    """

    def __init__(self, config: WebhookConfig, *, resolve: Resolve = socket.getaddrinfo) -> None:
        silence_http_client()
        self.name = config.name
        self.address = config.address
        self.max_batch = config.max_batch_events
        self._config = config
        self._network = CheckedNetwork(allow_private=config.allow_private, resolve=resolve)
        self._client = httpx.Client(
            transport=WebhookTransport(
                self._network, client_context(f"webhooks.{config.name}", ca_file=config.ca_file)
            ),
            follow_redirects=False,
            trust_env=False,
        )
        self._size = config.max_batch_events  # what the receiver takes in one request
        self._tried: list[int] = []  # the ids of the events in the request that failed last

    def deliver(self, events: Sequence[StoredEvent], stopping: threading.Event) -> None:
        """Post the events, in one request if the receiver takes them so.

        Raises:
            Undelivered: a request was not answered with a status 2xx.
        """
        delivered = 0
        while delivered < len(events):
            group = self._next_request(events[delivered:])
            try:
                self._post(group, stopping)
            except Undelivered as error:
                if error.reason == "too_large" and len(group) > 1:
                    self._halve(len(group))
                    continue
                error.delivered = delivered
                raise
            delivered += len(group)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _next_request(self, events: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        ids = [stored.id for stored in events]
        count = len(self._tried)
        if not 0 < count <= self._size or ids[:count] != self._tried:
            count = self._size
        return events[:count]

    def _halve(self, count: int) -> None:
        self._size = count // 2
        _log.warning(
            "webhook %s: the receiver finds %d events too large; sending at most %d in one request",
            self.name,
            count,
            self._size,
        )

    def _post(self, events: Sequence[StoredEvent], stopping: threading.Event) -> None:
        self._tried = [stored.id for stored in events]
        self._network.begin(self._config.timeout_seconds, stopping)
        try:
            request = self._request(events)
            response = self._client.send(request, stream=True)
            self._network.begin(min(_ANSWER_SECONDS, self._network.left_seconds()), stopping)
            try:
                _skim(response)
            finally:
                response.close()
        except ConfigError as error:
            raise Undelivered("settings", str(error)) from None
        except PrivateAddressError as error:
            raise Undelivered("private_address", self._private(error.address)) from None
        except (httpcore.TimeoutException, httpcore.NetworkError) as error:
            raise self._unreachable(error) from None
        except (httpcore.ProtocolError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise Undelivered("protocol", f"no valid answer: {readable(error)}") from None
        self._judge(response)
        self._tried = []

    def _request(self, events: Sequence[StoredEvent]) -> httpx.Request:
        """Return the signed request.

        Raises:
            ConfigError: a file of secrets cannot be used.
        """
        body = webhook_body(events, is_list=self._config.max_batch_events > 1)
        digest = hashlib.sha256(body).hexdigest()[:32]
        message_id, timestamp = f"msg_{digest}", int(time.time())
        headers = self._config.further_headers() | {
            "Content-Type": "application/json",
            "User-Agent": "cidc-stream",
            "Accept-Encoding": "identity",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(
                self._config.keys(), message_id=message_id, timestamp=timestamp, body=body
            ),
        }
        if len(events) == 1 and events[0].event.traceparent is not None:
            headers["traceparent"] = events[0].event.traceparent
        self._client.cookies.clear()  # those of earlier answers are not sent back
        return self._client.build_request("POST", self._config.url, content=body, headers=headers)

    def _judge(self, response: httpx.Response) -> None:
        """Raise an error unless the receiver has taken the events."""
        status = response.status_code
        if 200 <= status < 300:
            return
        if status == 410:
            raise Gone("gone", "the receiver wants no more events (status 410)")
        if status in _REFUSALS:
            reason = "too_large" if status == _TOO_LARGE else "refused"
            raise Refused(reason, f"status {status}, {_REFUSALS[status]}")
        wait = retry_after_seconds(response.headers.get("retry-after"), _MAX_RETRY_AFTER_SECONDS)
        raise Undelivered(*_describe(status), retry_after_seconds=wait)

    def _private(self, address: str) -> str:
        return (
            f"{self.address} leads to {address}, which is not a public address; set"
            f" allow_private: true for the webhook {self.name!r} if it may go there"
        )

    def _unreachable(self, error: Exception) -> Undelivered:
        if isinstance(error, httpcore.TimeoutException):
            seconds = self._config.timeout_seconds
            return Undelivered("timeout", f"not done within timeout_seconds: {seconds:g}")
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ssl.SSLError):
            return Undelivered("tls", f"no trusted encryption: {readable(cause)}")
        return Undelivered("connection", readable(error) or "the connection was closed")


def webhook_body(events: Sequence[StoredEvent], *, is_list: bool) -> bytes:
    """Return the body of a request: the event as it is published, or a list of events.

    In a list, an event may have the further field `traceparent`.
    """
    texts = [stored.event.to_json() for stored in events]
    if not is_list:
        return texts[0].encode()
    for index, stored in enumerate(events):
        if stored.event.traceparent is not None:
            texts[index] = (
                f'{texts[index][:-1]},"traceparent":{json.dumps(stored.event.traceparent)}}}'
            )
    return f'{{"schema":"{ENVELOPE_SCHEMA}","events":[{",".join(texts)}]}}'.encode()


def _describe(status: int) -> tuple[str, str]:
    """Return reason and message of a status other than 2xx."""
    if 300 <= status < 400:
        return "redirect", f"status {status}: redirects are not followed; enter the final address"
    if status in (401, 403):
        return "login", f"status {status}: the receiver refuses the login or the signature"
    if status == 429:
        return "rate_limited", "status 429: too many requests"
    if status >= 500:
        return "server_error", f"status {status}"
    return "status", f"status {status}"


def _skim(response: httpx.Response) -> None:
    """Read a short answer to its end, so that the connection can be kept.

    The status alone counts; a long, slow or broken body is not read, and the connection closed.
    """
    count = 0
    try:
        for chunk in response.iter_raw():
            count += len(chunk)
            if count > _MAX_ANSWER_BYTES:
                return
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        return
