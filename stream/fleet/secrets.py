"""Secrets of cameras: files that a worker reads, and references to them in addresses.

The topic of the cameras holds no passwords. An address in it holds `${secret:NAME}` in their place,
as in `rtsp://viewer:${secret:front-door}@10.0.0.5/main`. Each worker finds the content in the file
NAME of its folder `cameras_from.secrets_dir`, where Kubernetes mounts a Secret, for instance.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote

from configs import ConfigError, check_tree, has_controls, write_file
from configs.private_files import PRIVATE_FILE, warn_of_exposed_file
from stream.cameras.config import (
    SECRET_REFERENCE,
    CameraConfig,
    kind_of_address,
    plain_secrets,
    redact_url,
)

__all__ = ["SecretFiles", "move_secrets", "refuse_plain_address", "secret_names"]

_MAX_BYTES = 1024
_SENTINEL = "9q7Zx8Wv5"  # stands for a secret while the shown form of an address is checked


def secret_names(url: str) -> tuple[str, ...]:
    """Return the names of the secrets that an address refers to."""
    return tuple(SECRET_REFERENCE.findall(url))


def refuse_plain_address(camera_id: str, url: str) -> None:
    """Refuse an address that must not enter the topic.

    Raises:
        ConfigError: it holds a password or another secret as it is, or a reference that is
            malformed or in a place where logs would show the secret.
    """
    _check_references(camera_id, url)
    found = plain_secrets(url)
    if not found:
        return
    what = {
        "login": "a login",
        "password": "a password",
        "path": "a login in its path or query",
    }.get(found[0].name, f"the secret {found[0].name!r}")
    remedy = f"write ${{secret:{camera_id}-{_kind(found[0].name)}}} in its place"
    if found[0].name == "path":
        remedy = "give the server that passes the video on an address without a login"
    elif found[0].name == "login":
        remedy += ", or a colon after a user name without password"
    raise ConfigError(
        f"camera {camera_id}: url: {redact_url(url)} has {what}, and everyone who may read"
        f" the topic could read it; {remedy}, and keep the secret in a file of this name in the"
        " folder cameras_from.secrets_dir of each worker"
    )


def move_secrets(camera: CameraConfig) -> tuple[CameraConfig, dict[str, str]]:
    """Replace the secrets in an address by references.

    Returns:
        The camera, and the secrets by their names.

    Raises:
        ConfigError: the address has a login inside its path or query, or a secret made of a
            reference and more.
    """
    secrets: dict[str, str] = {}
    url = camera.url
    for place in reversed(plain_secrets(url)):
        if place.name == "path" or SECRET_REFERENCE.search(url, place.start, place.end):
            refuse_plain_address(camera.id, url)
        name = f"{camera.id}-{_kind(place.name)}"
        while name in secrets:
            name += "2"
        secrets[name] = unquote(url[place.start : place.end])
        url = f"{url[: place.start]}${{secret:{name}}}{url[place.end :]}"
    return _with_url(camera, url), secrets


class SecretFiles:
    """The secrets that this worker can read, one in each file of a folder.

    Args:
        folder: None if there is none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._warned: set[str] = set()

    def resolve(self, camera: CameraConfig) -> CameraConfig:
        """Return the camera with its secrets in its address; files are read each time.

        Raises:
            ConfigError: a secret is missing or cannot be used; the message names it and the
                remedy, and holds no secret.
        """
        if not secret_names(camera.url) and "${secret" not in camera.url:
            return camera
        _check_references(camera.id, camera.url)
        secrets = {name: self._read(camera.id, name) for name in secret_names(camera.url)}
        url = SECRET_REFERENCE.sub(lambda found: quote(secrets[found[1]], safe=""), camera.url)
        return _with_url(camera, url)

    def write(self, secrets: dict[str, str]) -> None:
        """Write secrets to the folder, in files that only their owner may read.

        Raises:
            ConfigError: a file exists with another content, or cannot be written.
        """
        assert self._folder is not None
        for name, secret in secrets.items():
            path = self._folder / name
            try:
                if path.exists() and _without_line_end(path.read_text("utf-8")) != secret:
                    raise ConfigError(
                        f"{path} exists and holds another secret; remove it, or name another folder"
                    )
                write_file(path, secret, mode=PRIVATE_FILE, durable=True)
            except (OSError, UnicodeError) as error:
                raise ConfigError(f"{path} cannot be written: {_reason(error)}") from None

    def _read(self, camera_id: str, name: str) -> str:
        about = f"camera {camera_id}: the secret {name!r} of its address"
        if self._folder is None:
            raise ConfigError(
                f"{about} is missing; set cameras_from.secrets_dir to the folder that has the file"
                f" {name}"
            )
        path = self._folder / name
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
            secret = _without_line_end(data.decode())
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"{about} cannot be read from {path}: {_reason(error)}; write it to this file"
            ) from None
        if not secret or len(data) > _MAX_BYTES or has_controls(secret):
            raise ConfigError(
                f"{about} in {path} must have 1 to {_MAX_BYTES} bytes on one line; write only the"
                " secret to this file"
            )
        if name not in self._warned:
            self._warned.add(name)
            warn_of_exposed_file("cameras_from.secrets_dir", path)
        return secret


def _check_references(camera_id: str, url: str) -> None:
    """Check that references are well-formed, and that logs hide what they stand for.

    Raises:
        ConfigError: one is not, or would be shown.
    """
    if "${secret" in SECRET_REFERENCE.sub("", url):
        raise ConfigError(
            f"camera {camera_id}: url: a reference to a secret is written ${{secret:NAME}}; NAME"
            " has letters, digits, '-', '_' and '.', and does not start with '.'"
        )
    shown = redact_url(SECRET_REFERENCE.sub(_SENTINEL, url))
    if _SENTINEL in shown or (kind_of_address(url) != "network" and secret_names(url)):
        raise ConfigError(
            f"camera {camera_id}: url: ${{secret:{secret_names(url)[0]}}} stands where logs"
            " would show the secret; references may stand for user name and password before the"
            " @, for values in the query, and for the name of an RTMP stream"
        )


def _with_url(camera: CameraConfig, url: str) -> CameraConfig:
    fields = camera.model_dump(mode="json", exclude_unset=True) | {"url": url}
    return check_tree(fields, CameraConfig, name=f"camera {camera.id}")


def _kind(name: str) -> str:
    """Return the end of a secret's name, made of the name of its parameter."""
    return "".join(char if char.isascii() and char.isalnum() else "-" for char in name)[:32]


def _without_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "it is not UTF-8"
