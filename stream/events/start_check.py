"""Find out whether a run could use its files, without changing any of them.

`python -m stream check` calls these functions. They refuse what the start of a run refuses.
"""

from __future__ import annotations

import logging
import ssl
import tempfile
from pathlib import Path

from configs import BrokerError, ConfigError, OutboxError, exists
from configs.private_files import warn_of_exposed_file
from stream.events.broker_addresses import is_on_this_machine
from stream.events.config import KafkaConfig
from stream.events.disk_room import free_bytes
from stream.events.migrations import refuse_unknown

__all__ = ["check_authorities", "check_certificates", "check_folder", "check_outbox"]

_log = logging.getLogger(__name__)
_MAGIC = b"SQLite format 3\0"
_MIN_FREE_BYTES = 65_536
_HEADER_BYTES = 100
_VERSION = slice(60, 64)  # where SQLite's header has `user_version`


def check_outbox(path: Path) -> None:
    """Check that an outbox could be opened and written.

    Raises:
        OutboxError: it could not; the message names the file and the remedy.
    """
    _check_header(path)
    for ending in ("", "-wal", "-shm", ".lock", ".rescued"):
        file = path.with_name(path.name + ending)
        if exists(file):
            _check_writable_file(file)
    try:
        _try_folder(path.parent)
        is_full = free_bytes(_existing(path.parent)) < _MIN_FREE_BYTES
    except OSError as error:
        raise OutboxError(
            f"outbox {path}: cannot write to the folder {path.parent}: {error.strerror or error};"
            " name another file in outbox.path, or change the rights of the folder"
        ) from None
    if is_full:
        raise OutboxError(f"outbox {path}: the disk is full; make room, or name another file")


def check_folder(folder: Path, setting: str) -> None:
    """Check that files could be written to a folder, which may not exist yet.

    Raises:
        ConfigError: they could not; the message names the setting.
    """
    try:
        _try_folder(folder)
    except OSError as error:
        raise ConfigError(
            f"{setting}: cannot write to {folder}: {error.strerror or error}; name another folder"
        ) from None


def check_certificates(config: KafkaConfig) -> None:
    """Check that the files for encryption and login of the broker can be used.

    Logs a warning if others could get the password or the private key.

    Raises:
        BrokerError: a file cannot be read or does not contain what it should.
    """
    if not config.bootstrap:
        return
    config.connection()  # reads the password file
    if config.ssl_cafile is not None:
        try:
            check_authorities(config.ssl_cafile, "kafka.ssl_cafile")
        except ConfigError as error:
            raise BrokerError(str(error)) from None
    if config.ssl_certfile is not None:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            # An empty password: otherwise OpenSSL would ask for it on the terminal.
            context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile, password="")
        except (OSError, ValueError) as error:
            raise BrokerError(
                f"kafka.ssl_certfile {config.ssl_certfile} and its key cannot be used:"
                f" {_reason(error)}; give PEM files of a certificate and its own key, without a"
                " password"
            ) from None
    _warn_of_exposed_secrets(config)


def _warn_of_exposed_secrets(config: KafkaConfig) -> None:
    """Log a warning for each way in which others could get the password or the private key."""
    warn_of_exposed_file("kafka.sasl_password_file", config.sasl_password_file)
    has_own_key = config.ssl_keyfile is not None
    setting = "kafka.ssl_keyfile" if has_own_key else "kafka.ssl_certfile"
    warn_of_exposed_file(setting, config.ssl_keyfile if has_own_key else config.ssl_certfile)
    beyond = [each for each in config.bootstrap if not is_on_this_machine(each)]
    if config.security_protocol == "SASL_PLAINTEXT" and beyond:
        _log.warning(
            "kafka.security_protocol SASL_PLAINTEXT does not encrypt: whoever sees the traffic to"
            " %s %s, and reads the events; use SASL_SSL",
            beyond[0],
            "reads the password"
            if config.sasl_mechanism == "PLAIN"
            else f"can search for the password ({config.sasl_mechanism} does not send it)",
        )


def check_authorities(file: str, setting: str) -> None:
    """Check that a file holds certificates of authorities.

    Raises:
        ConfigError: it does not, or cannot be read; the message names the setting.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{setting} {file} is not a PEM file of certificates: {_reason(error)}"
        ) from None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return str(reason)


def _check_header(path: Path) -> None:
    """Refuse a file that a newer release or another program wrote.

    Raises:
        OutboxError: the file cannot be used as an outbox.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:
        return  # missing, or not readable: checked elsewhere
    if header.startswith(_MAGIC):
        refuse_unknown(int.from_bytes(header[_VERSION], signed=True), path)
    was_ours = exists(path.with_name(path.name + ".lock"))  # then a damaged file is recovered
    if header and not header.startswith(_MAGIC) and not was_ours:
        raise OutboxError(
            f"outbox.path: {path} exists and is not a readable outbox; name another file, or move"
            " it away"
        )


def _check_writable_file(file: Path) -> None:
    try:
        with file.open("r+b"):
            pass
    except OSError as error:
        raise OutboxError(
            f"outbox {file}: cannot be written: {error.strerror or error}; name another file in"
            " outbox.path, or change the rights of this one"
        ) from None


def _try_folder(folder: Path) -> None:
    """Create a file without a name, which disappears at once, where the folder is or would be.

    Raises:
        OSError: no file can be created there.
    """
    with tempfile.TemporaryFile(dir=_existing(folder)):
        pass


def _existing(folder: Path) -> Path:
    """Return the folder, or the lowest folder above it that exists."""
    folder = folder.absolute()
    while not exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
