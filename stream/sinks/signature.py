"""Signatures of webhooks as Standard Webhooks 1.0 defines them (https://www.standardwebhooks.com).

The signed text is `id.timestamp.body`; a signature is HMAC-SHA-256 in base64, after `v1,`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

__all__ = ["parse_secret", "parse_secrets", "sign"]

_PREFIX = "whsec_"
_MIN_BYTES, _MAX_BYTES = 24, 64  # the lengths that the standard asks for
_MAX_SECRETS = 8
_REMEDY = (
    f"write {_PREFIX} and {_MIN_BYTES} to {_MAX_BYTES} random bytes in base64, as"
    f' `echo "{_PREFIX}$(openssl rand -base64 32)"` makes them'
)


def parse_secret(text: str) -> bytes:
    """Return the key that a secret `whsec_...` stands for.

    Raises:
        ValueError: it is not one; the message does not show it.
    """
    text = text.strip()
    if not text.startswith(_PREFIX):
        raise ValueError(f"the secret does not begin with {_PREFIX}; {_REMEDY}")
    encoded = text.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"the secret is not base64; {_REMEDY}") from None
    if not _MIN_BYTES <= len(key) <= _MAX_BYTES:
        raise ValueError(f"the secret has {len(key)} bytes; {_REMEDY}")
    return key


def parse_secrets(text: str) -> list[bytes]:
    """Return the keys of a file with one secret on each line.

    Raises:
        ValueError: a line is not a secret, or there are none or too many.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not 1 <= len(lines) <= _MAX_SECRETS:
        raise ValueError(f"has {len(lines)} secrets; give 1 to {_MAX_SECRETS}, one on each line")
    return [parse_secret(line) for line in lines]


def sign(keys: Sequence[bytes], *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`: a signature by each key, separated by blanks.

    Args:
        timestamp: seconds since 1970, as in the header `webhook-timestamp`.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in keys]
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
