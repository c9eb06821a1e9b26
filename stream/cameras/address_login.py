"""Find user names and passwords in addresses that are not percent-encoded.

FFmpeg ends the part with login, host and port at the first `/`, `?` or `#`. If a password contains
one of them, the text before it is taken for the host, and the password is sent to that host.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote

from configs import has_controls

__all__ = ["describe_escapes", "describe_mistake"]

# Characters that change how an address is split, or that programs split in different ways.
_RESERVED = "#?/@[]\\ "
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST_FOLLOWS = re.compile(
    r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+(?![^/:?])|[A-Za-z0-9_.-]+(?::\d+)?/"
)
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\](?::\d*)?")


def describe_mistake(url: str) -> str | None:
    """Say what is wrong with the login in a network address, and what to write instead.

    The answer contains no part of the address. An `@` in a path or a query is not a mistake,
    unless what precedes it may be a login.

    Returns:
        None if the address can be read in one way only.
    """
    scheme, _, rest = url.partition(":")
    rest = rest.lstrip("/")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    after = rest[len(authority) :]
    login = authority.rpartition("@")[0]
    if _continues(authority, after):
        login = rest.rpartition("@")[0]
    wrong = [each for each in _RESERVED if each in login]
    if _BAD_ESCAPE.search(login):
        wrong.append("%")
    if not wrong:
        return None
    escapes = ", ".join(f"%{ord(each):02X} for {_name(each)}" for each in wrong)
    example = f"{scheme.lower()}://user:pass%{ord(wrong[0]):02X}word@host/path"
    shown = " ".join(_name(each) for each in wrong)
    return (
        f"user name or password contains {shown}; in user name and password write {escapes}, as in"
        f" {example} (an @ that belongs to the path or the query: %40)"
    )


def describe_escapes(url: str) -> str | None:
    """Say what is wrong with percent-encoded characters in the login of a network address.

    Returns:
        None if nothing is; the answer contains no part of the address.
    """
    scheme, _, rest = url.partition(":")
    authority = re.split(r"[/?#]", rest.lstrip("/"), maxsplit=1)[0]
    if "@" not in authority and "%40" in authority:
        return (
            "there is no @ after user name and password; only an @ inside them is written %40, as"
            f" in {scheme.lower()}://user:pass%40word@host/path"
        )
    if has_controls(unquote(authority)):
        # FFmpeg sends user names decoded: a line break would begin another line of the request.
        return "user name or password contains an encoded control character, such as %0A; remove it"
    return None


def _continues(authority: str, after: str) -> bool:
    """Return whether the login seems to go on after the end of the authority, up to a later @.

    Args:
        after: the rest of the address, from the first slash, question mark or number sign.
    """
    before_fragment, _, fragment = after.partition("#")
    if "@" in fragment:
        return True
    path, _, query = before_fragment.partition("?")
    host_and_port = authority.rpartition("@")[2]
    host, colon, _ = host_and_port.partition(":")
    if "@" not in before_fragment or _is_certain_host(host) or _IPV6.fullmatch(host_and_port):
        return False
    in_path = "@" in path
    is_followed_by_host = _HOST_FOLLOWS.match(before_fragment.rpartition("@")[2]) is not None
    # Not a query such as `?name=value@`.
    is_bare_query = "=" not in query.partition("@")[0] and (not path or is_followed_by_host)
    if "@" in authority:
        return is_followed_by_host and "." not in host and (in_path or is_bare_query)
    if is_bare_query and not in_path:
        return True
    if colon and (in_path or not path or "=" not in query.partition("@")[0]):
        return is_followed_by_host or (in_path and "." not in host)
    return not colon and in_path and ":" in path.partition("@")[0] and "://" not in path


def _is_certain_host(host: str) -> bool:
    """Return whether this is an address or name of a machine that nobody uses as a user name."""
    try:
        return host == "localhost" or bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _name(character: str) -> str:
    return "a space" if character == " " else character
