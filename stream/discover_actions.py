"""What the command `discover` does: find cameras, print them, and add one."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from configs import ConfigError, check_tree, print_table, printable, read_text, readable, write_file
from configs.private_files import PRIVATE_FILE, warn_of_exposed_file
from stream.cameras.config import CameraConfig, redact_url
from stream.discovery.choice import camera_of, pick
from stream.discovery.device import Login
from stream.discovery.discover import discover
from stream.discovery.found import Device, Discovery, Profile

__all__ = ["run_discover"]

_COLUMNS = ("device", "maker and model", "profile", "video", "address", "note")
_PRINT = "-"
_SECONDS = 15.0
_MAX_ANSWER_BYTES = 65_536


def run_discover(options: argparse.Namespace) -> int:
    """Find cameras and print them; with --add, add one.

    Raises:
        ConfigError: an option is wrong, the network cannot be asked, or the device cannot be added.
    """
    _check_options(options)
    login = _login(options)
    found = discover(
        options.timeout,
        options.device_timeout,
        interfaces=options.interface,
        hosts=options.address,
        login=login,
    )
    if options.add is None:
        _print(found, options)
        return 0
    if options.add != _PRINT and not options.json:
        _print(found, options)  # also if none of them can be added
    device = pick(found.devices, options.device)
    camera = camera_of(
        device,
        camera_id=options.id,
        profile=options.profile,
        user=login.user if login else None,
        password=_written_password(options, login),
    )
    checked = check_tree(camera, CameraConfig, name="camera")
    if options.add == _PRINT:
        print(json.dumps(found.as_dict() | {"camera": camera}))
        return 0
    if _is_pipeline(options.add):
        _add_to_pipeline(camera, options)
    else:
        _add_to_file(camera, Path(options.add))
    shown = {"id": checked.id, "url": redact_url(checked.url)}
    if options.json:
        print(json.dumps(found.as_dict(raw_urls=options.raw_urls) | {"added": shown}, indent=2))
    else:
        print(printable(f"added {shown['id']}: {shown['url']}"))
    return 0


def _check_options(options: argparse.Namespace) -> None:
    if options.password_file is not None and not options.username:
        raise ConfigError("--password-file needs --username")
    if options.secret is not None and not options.username:
        raise ConfigError("--secret needs --username: it stands for this user's password")
    for name in ("device", "id", "profile", "secret", "token_file"):
        if getattr(options, name) is not None and options.add is None:
            raise ConfigError(f"--{name.replace('_', '-')} needs --add")
    is_file = options.add not in (None, _PRINT) and not _is_pipeline(options.add)
    if is_file and options.username and options.secret is None:
        raise ConfigError(
            "a file of cameras holds no passwords; give --secret NAME, and keep the password in the"
            " file NAME of cameras_from.secrets_dir"
        )


def _login(options: argparse.Namespace) -> Login | None:
    if not options.username:
        return None
    if options.password_file is None:
        return Login(options.username, "")
    if str(options.password_file) == "-":
        text = sys.stdin.readline()
    else:
        text = read_text(options.password_file, "the password", ConfigError)
        warn_of_exposed_file("--password-file", options.password_file)
    return Login(options.username, text.splitlines()[0] if text else "")


def _written_password(options: argparse.Namespace, login: Login | None) -> str:
    if options.secret is not None:
        return f"${{secret:{options.secret}}}"
    return quote(login.password, safe="") if login is not None else ""


def _is_pipeline(target: str) -> bool:
    return target.startswith(("http://", "https://"))


def _add_to_pipeline(camera: dict[str, Any], options: argparse.Namespace) -> None:
    """Send a camera to a running pipeline, without redirects and proxies.

    Raises:
        ConfigError: it does not answer or refuses the camera.
    """
    headers = {"Content-Type": "application/json"}
    if options.token_file is not None:
        token = read_text(options.token_file, "the token", ConfigError).strip()
        headers["Authorization"] = f"Bearer {token}"
    url = f"{options.add.rstrip('/')}/cameras"
    request = urllib.request.Request(url, json.dumps(camera).encode(), headers, method="POST")
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()):
        opener.add_handler(handler)
    where = f"the pipeline at {urlsplit(url).netloc.rpartition('@')[2]}"
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            body = answer.read(_MAX_ANSWER_BYTES)
            if answer.status not in (201, 202):
                raise ConfigError(
                    f"{where} does not take the camera: {_reason(body, answer.status)}"
                )
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigError(f"{where} does not answer: {readable(reason)}") from None


def _reason(body: bytes, status: int) -> str:
    try:
        return readable(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {status}"


def _add_to_file(camera: dict[str, Any], path: Path) -> None:
    """Add a camera to a JSON file of cameras.

    Raises:
        ConfigError: the file has something else, has this camera already, or cannot be written.
    """
    cameras: Any = []
    if path.exists():
        try:
            cameras = json.loads(read_text(path, "cameras", ConfigError))
        except ValueError:
            cameras = None
    if not isinstance(cameras, list) or not all(isinstance(each, dict) for each in cameras):
        raise ConfigError(f"{path} is not a JSON list of cameras; name another file")
    if any(each.get("id") == camera["id"] for each in cameras):
        raise ConfigError(f"{path} has a camera {camera['id']!r} already; give another --id")
    try:
        text = json.dumps([*cameras, camera], indent=2, ensure_ascii=False) + "\n"
        write_file(path, text, mode=PRIVATE_FILE, durable=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _print(found: Discovery, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(found.as_dict(raw_urls=options.raw_urls), indent=2))
        return
    print_table(_COLUMNS, [row for device in found.devices for row in _rows(device)])
    if found.dropped:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(found.dropped.items()))
        print(f"answers that were dropped: {counts}")


def _rows(device: Device) -> list[tuple[str, ...]]:
    what = " ".join(each for each in (device.manufacturer, device.model) if each) or device.name
    if not device.profiles:
        return [(device.host, what, "", "", "", device.problem or "it names no profiles")]
    return [
        (
            device.host,
            what,
            profile.token,
            _video(profile),
            redact_url(profile.url),
            _note(device, profile),
        )
        for profile in device.profiles
    ]


def _video(profile: Profile) -> str:
    return f"{profile.codec} {profile.width}x{profile.height}, {profile.fps:g} fps"


def _note(device: Device, profile: Profile) -> str:
    return profile.problem or ("for the analysis" if profile.token == device.chosen else "")
