"""What the reason codes of MQTT 5 mean for a delivery (OASIS MQTT 5.0, 2.4)."""

from __future__ import annotations

from stream.sinks.delivery import Refused, Undelivered

__all__ = ["FIRST_FAILURE", "described", "undelivered"]

FIRST_FAILURE = 0x80
# The event itself is the reason; it would be refused again.
_REFUSALS = (0x90, 0x95, 0x99)
_MEANINGS = {
    0x81: ("protocol", "the server finds a packet malformed"),
    0x82: ("protocol", "the server finds that the protocol was broken; it must speak MQTT 5"),
    0x84: ("protocol", "the server does not speak MQTT 5"),
    0x85: ("client_id", "the server refuses client_id"),
    0x86: ("login", "the server refuses the login; check username and password_file"),
    0x87: ("not_authorised", "the server does not allow it; check its access list and the login"),
    0x88: ("unavailable", "the server is not available"),
    0x89: ("busy", "the server is busy"),
    0x8A: ("login", "the server has banned this client"),
    0x8B: ("unavailable", "the server shuts down"),
    0x8C: ("login", "the server wants another way to log in"),
    0x8E: ("taken_over", "another client uses the same client_id; each needs its own"),
    0x90: ("topic", "the server refuses the topic"),
    0x93: ("protocol", "the server got more events at once than it takes"),
    0x95: ("too_large", "the server refuses a packet of this size"),
    0x96: ("rate_limited", "the server gets events too fast"),
    0x97: ("rate_limited", "a quota of the server is used up"),
    0x99: ("payload", "the server refuses the payload"),
    0x9A: ("retain", "the server keeps no retained messages; set status_topic to null"),
    0x9B: ("quality", "the server does not support quality of service 1"),
    0x9C: ("moved", "the server asks to use another server; enter its address as url"),
    0x9D: ("moved", "the server has moved; enter its new address as url"),
    0x9F: ("rate_limited", "the server gets connections too fast"),
}


def described(code: int) -> tuple[str, str]:
    """Return one word and a sentence for a reason code."""
    return _MEANINGS.get(code, ("server_error", f"the server reports failure 0x{code:02x}"))


def undelivered(code: int, where: str = "") -> Undelivered:
    """Return the error of a failure with this code; `where` ends its message."""
    reason, message = described(code)
    kind = Refused if code in _REFUSALS else Undelivered
    return kind(reason, message + where)
