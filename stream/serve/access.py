"""Who may use `/cameras` and `/snapshots`: clients that send the token, or local programs.

Without a token the server trusts programs on this machine. Three things show that a request comes
from elsewhere: the server listens on an address that others can reach; the Host header names
another machine (a web page that rebinds a DNS name to 127.0.0.1 sends its own name); or the
headers are those of a browser's cross-site request or of a forwarding proxy.
"""

from __future__ import annotations

import dataclasses
import hmac
import ipaddress
import re

from fastapi import HTTPException
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers

__all__ = ["BEARER", "Access", "is_local"]

# Reads the token of a request, and describes in the OpenAPI document how it is sent.
BEARER = HTTPBearer(scheme_name="token", auto_error=False)

_HEADERS_OF_OTHERS = ("origin", "forwarded", "x-forwarded-for")
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:@\s]+))(?::\d{0,5})?")


@dataclasses.dataclass(frozen=True)
class Access:
    """The rule that decides who may use the cameras.

    Args:
        token: the token that every request must send; None to serve only local programs.
        listens_locally: whether the server listens on a loopback address.
    """

    token: str | None = dataclasses.field(repr=False)
    listens_locally: bool

    def check(self, headers: Headers, sent_token: str | None) -> None:
        """Let a request pass or refuse it.

        Raises:
            HTTPException: 401, the token is missing or wrong; 403, the request is not local.
        """
        if self.token is not None:
            self._check_token(self.token, sent_token)
        elif not (self.listens_locally and _comes_from_here(headers)):
            raise HTTPException(
                403,
                "without a token only programs on this machine may use the cameras; "
                "set http.token to serve others",
            )

    @staticmethod
    def _check_token(token: str, sent_token: str | None) -> None:
        sent = (sent_token or "").strip().encode()
        if not hmac.compare_digest(sent, token.encode()):
            raise HTTPException(
                401,
                "send the header Authorization: Bearer TOKEN with the token of http.token",
                {"WWW-Authenticate": "Bearer"},
            )


def is_local(host: str) -> bool:
    """Tell whether a host is a loopback address or `localhost`; other names are not looked up."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _comes_from_here(headers: Headers) -> bool:
    if any(name in headers for name in _HEADERS_OF_OTHERS):
        return False
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    return _names_this_machine(headers.get("host", ""))


def _names_this_machine(host_header: str) -> bool:
    """Tell whether a Host header names this machine, with a port or without."""
    match = _HOST.fullmatch(host_header.lower())
    return match is not None and is_local(match[1] or match[2])
