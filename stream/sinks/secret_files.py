"""Files of secrets that sinks read whenever they use them, so that a change needs no restart."""

from __future__ import annotations

from pathlib import Path

from configs import ConfigError

__all__ = ["read_secret_file"]

_MAX_BYTES = 65_536


def read_secret_file(setting: str, file: Path) -> str:
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
    if not text:
        raise ConfigError(f"{setting} {file} is empty; write the secret into it")
    return text
