"""The command `discover`: find cameras in the network; this file has its options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["add_discover_command"]


def add_discover_command(commands: Any, prepare: Callable[[], None]) -> None:
    """Add the command `discover` with its options.

    Args:
        prepare: called before the command; raises ConfigError if it is not installed.
    """
    parser = commands.add_parser("discover", help="find cameras in the network (ONVIF)")

    def run(options: argparse.Namespace) -> int:
        prepare()
        from stream.discover_actions import run_discover

        return run_discover(options)

    parser.set_defaults(run=run)
    parser.add_argument(
        "--interface",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="ask from this IPv4 address of this machine; repeatable; without it, all",
    )
    parser.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="IP[:PORT]",
        help="ask this device instead of the network, such as one in another network; repeatable",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=3.0,
        metavar="SECONDS",
        help="how long answers are waited for; 3 unless given",
    )
    parser.add_argument(
        "--device-timeout",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="maximum time of each device; 5 unless given",
    )
    parser.add_argument("--username", help="user name on the devices, for ONVIF and for RTSP")
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="file with the password on its first line; -: standard input",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--raw-urls",
        action="store_true",
        help="in JSON: addresses of streams as the devices gave them, which may hold passwords",
    )
    _add_adding(parser)


def _add_adding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--add",
        metavar="TARGET",
        help="add the found device: http://HOST:PORT of a running pipeline, or a JSON file of"
        " cameras for `cameras import`; - prints its settings as JSON, with the password",
    )
    parser.add_argument(
        "--device", metavar="IP", help="with --add: which device, if several answer"
    )
    parser.add_argument(
        "--id", help="with --add: name of the camera; made of its address unless given"
    )
    parser.add_argument(
        "--profile",
        metavar="TOKEN",
        help="with --add: which profile; the smallest that has 180 rows and 10 frames per second"
        " unless given",
    )
    parser.add_argument(
        "--secret",
        metavar="NAME",
        help="with --add: write ${secret:NAME} in the place of the password; the workers have it in"
        " this file of cameras_from.secrets_dir",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="with --add http://...: file with the token of http.token",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 60:
        raise argparse.ArgumentTypeError(f"a number of seconds up to 60 is needed, got {text!r}")
    return value
