"""The command `cameras`: list and change the cameras of a topic; this file has its options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["add_cameras_command"]


def add_cameras_command(commands: Any, prepare: Callable[[], None]) -> None:
    """Add the command `cameras` with its commands and their options.

    Args:
        prepare: called before a command; raises ConfigError if it is not installed.
    """
    cameras = commands.add_parser("cameras", help="list and change the cameras of a Kafka topic")
    actions = cameras.add_subparsers(title="commands", required=True)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(name, help=summary)

        def run(options: argparse.Namespace) -> int:
            prepare()
            from stream import cameras_actions

            return cameras_actions.ACTIONS[name](options)

        action.set_defaults(run=run)
        _add_broker(action)
        return action

    add("list", "print the cameras of the topic, without the secrets of their addresses")
    _add_camera(add("add", "add a camera to the topic"))
    removed = add("remove", "remove cameras from the topic")
    removed.add_argument("id", nargs="+", help="names of the cameras")
    imported = add("import", "add or replace the cameras of a file; others stay")
    imported.add_argument(
        "file",
        type=Path,
        help="YAML or JSON: a list of cameras, a configuration with cameras, or a file of changes"
        " made over HTTP",
    )
    _add_secrets(imported)


def _add_broker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bootstrap", metavar="HOST:PORT", help="Kafka broker; needed without --config"
    )
    parser.add_argument(
        "--topic",
        help="topic of the cameras; cidc-cameras unless the configuration names another",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration of the workers: how to connect; new cameras are checked with its"
        " weights and settings, as over HTTP",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_camera(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--id", required=True, help="name of the camera")
    parser.add_argument(
        "--url", required=True, help="address; ${secret:NAME} stands for a secret of the workers"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another setting of the camera, such as hop=8 or events.smoothing=3; repeatable",
    )
    parser.add_argument(
        "--replace", action="store_true", help="replace a camera that has other settings"
    )
    _add_secrets(parser)


def _add_secrets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secrets-to",
        type=Path,
        metavar="FOLDER",
        help="write passwords of addresses to files of this folder, and refer to them; without it,"
        " an address with a password is refused",
    )
