"""Access control of `/cameras` and `/snapshots`: a token, or only programs on this machine.

Without a token the server accepts only requests from programs on this machine. It refuses a request
in three cases: the server listens on an address that other machines can reach; the Host header
names another machine (a web page that rebinds a DNS name to 127.0.0.1 sends its own name); or the
headers show a cross-site request of a browser or a forwarding proxy.

What this cannot tell apart from a program on this machine: a proxy on this machine that names
`localhost` and adds none of the headers below, an SSH tunnel, and other users of this machine.
Where there is one of these, set a token.
"""

from __future__ import annotations

import dataclasses
import hmac
import ipaddress

from fastapi import HTTPException
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers

from stream.serve.hosts import host_of

__all__ = ["BEARER", "Access", "is_local"]

# Reads the token of a request, and adds the authentication method to the OpenAPI document.
BEARER = HTTPBearer(scheme_name="token", auto_error=False)

# Headers of browsers' pages, and those that proxies, load balancers and content networks add.
_HEADERS_OF_OTHERS = {
    "cdn-loop",
    "client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "origin",
    "proxy-client-ip",
    "remote-ip",
    "true-client-ip",
    "via",
    "wl-proxy-client-ip",
    "x-arr-log-id",
    "x-host",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-scheme",
}
_PREFIXES_OF_OTHERS = (
    "cf-",
    "x-amz-cf-",
    "x-amzn-",
    "x-appengine-",
    "x-azure-",
    "x-client-",
    "x-cluster-client-",
    "x-envoy-",
    "x-forwarded",
    "x-original-",
    "x-real-",
    "x-remote-",
    "x-ssl-",
)


@dataclasses.dataclass(frozen=True)
class Access:
    """The rule that decides who may use the cameras.

    Args:
        token: token that every request must contain; None to serve only local programs.
        listens_locally: whether the server listens on a loopback address.
    """

    token: str | None = dataclasses.field(repr=False)
    listens_locally: bool

    def check(self, headers: Headers, sent_token: str | None) -> None:
        """Check that a request may use the cameras.

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
                "send the header 'Authorization: Bearer TOKEN', where TOKEN is the token set in"
                " http.token",
                {"WWW-Authenticate": "Bearer"},
            )


def is_local(host: str) -> bool:
    """Return whether a host is a loopback address or `localhost`; no DNS look-up is made."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _comes_from_here(headers: Headers) -> bool:
    if any(name in _HEADERS_OF_OTHERS or name.startswith(_PREFIXES_OF_OTHERS) for name in headers):
        return False
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    return is_local(host_of(headers))
