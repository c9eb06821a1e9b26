"""Which names of this machine `/metrics`, `/health` and `/openapi.json` answer to.

They need no token, but they name cameras. A web page can let its own name resolve to an address of
this machine, and its visitors' browsers then send requests here and let the page read the answers
("DNS rebinding"). Such requests carry the page's name in their Host header.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from fastapi import HTTPException, Request
from starlette.datastructures import Headers

__all__ = ["HostRule", "host_of"]

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{0,5})?")
# Names that nobody can register in the public DNS: those inside Kubernetes, of multicast DNS, and
# of private networks.
_PRIVATE_ENDINGS = (".svc", ".svc.cluster.local", ".local", ".internal", ".localhost")


class HostRule:
    """Decides whether a request that needs no token may read what names cameras.

    A dependency of FastAPI: calling it checks a request.

    Args:
        names: host names that are allowed, beside addresses, names without a dot, private names
            and the name of this machine.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        # No DNS look-up is made: its answer is what this rule does not trust.
        self._names = {name.lower() for name in (socket.gethostname(), *names)}

    async def __call__(self, request: Request) -> None:
        """Check a request, in the event loop, so that it does not wait for a free thread."""
        self.check(request.headers)

    def check(self, headers: Headers) -> None:
        """Check that a request names this machine and is not sent by another site's page.

        Raises:
            HTTPException: 421, the Host header names another machine; 403, a browser sends the
                request for a page of another site.
        """
        if not self._is_ours(host_of(headers)):
            raise HTTPException(
                421,
                "the Host header names a machine that is not known here; use an IP address, or add"
                " the name to http.hosts",
            )
        if headers.get("sec-fetch-site") == "cross-site":
            raise HTTPException(
                403, "pages of other sites may not ask for this; open the address itself"
            )

    def _is_ours(self, host: str) -> bool:
        if _is_address(host) or "." not in host:
            return bool(host)
        host = host.removesuffix(".")
        return host in self._names or ("." in host and host.endswith(_PRIVATE_ENDINGS))


def host_of(headers: Headers) -> str:
    """Return the host in lower case that a Host header names; empty if it is not a valid one."""
    match = _HOST.fullmatch(headers.get("host", "").lower())
    return "" if match is None else match[1] or match[2]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
