"""Files that hold secrets, such as passwords, tokens and headers."""

from __future__ import annotations

import re
from pathlib import Path

from configs.errors import ConfigError

__all__ = ["read_secret_file", "read_token"]

_MAX_BYTES = 65_536


def read_secret_file(setting: str, file: Path, *, may_be_empty: bool = False) -> str:
    """Return the text of a file of secrets, without blanks around it.

    Raises:
        ConfigError: it cannot be read, is empty or too long; the message names the setting and
            shows nothing of the content.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{setting} {file} is not a text file in UTF-8") from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{setting} {file} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{setting} {file} has more than {_MAX_BYTES} bytes")
    if not text and not may_be_empty:
        raise ConfigError(f"{setting} {file} is empty; write the secret into it")
    return text


def read_token(setting: str, file: Path) -> str:
    """Return the token that a file holds, for a header.

    Raises:
        ConfigError: the file cannot be read, or has something else in it.
    """
    token = read_secret_file(setting, file, may_be_empty=True)
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ConfigError(f"{setting} {file} must hold one token of plain ASCII characters")
    return token
