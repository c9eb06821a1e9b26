"""User names and passwords in network addresses, apart from the addresses."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["login_of", "user_and_password", "with_login", "without_login"]


def login_of(url: str) -> str:
    """Return the login of an address as it is written, such as `user:pass%40word`; or nothing."""
    return urlsplit(url).netloc.rpartition("@")[0]


def user_and_password(login: str) -> tuple[str, str]:
    """Return the user name and the password of a login, decoded."""
    user, _, password = login.partition(":")
    return unquote(user), unquote(password)


def without_login(url: str) -> str:
    """Return an address without its login and without its fragment, which is never sent."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def with_login(url: str, login: str) -> str:
    """Return an address with this login instead of its own; without one if it is empty."""
    parts = urlsplit(url)
    authority = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{login}@{authority}" if login else authority))
