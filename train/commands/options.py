"""Adds options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from model.checkpoints.shipped import WEIGHTS_HELP
from model.media.image_sequence import MAX_IMAGE_FPS, MIN_IMAGE_FPS

__all__ = ["add_checkpoint", "add_settings", "frame_rate", "positive_seconds"]


def add_settings(
    parser: argparse.ArgumentParser,
    *,
    required: bool = True,
    help_text: str = "training configuration (YAML)",
) -> None:
    """Add `--config`, which names a configuration file, and `--set`, which overrides settings."""
    parser.add_argument("--config", type=Path, required=required, help=help_text)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one setting; repeatable",
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add `--checkpoint`, which names a weights file."""
    parser.add_argument("--checkpoint", type=Path, required=True, help=WEIGHTS_HELP)


def frame_rate(text: str) -> float:
    """Return the text as a number of images per second, in the range that manifests allow."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not MIN_IMAGE_FPS <= value <= MAX_IMAGE_FPS:
        raise argparse.ArgumentTypeError(
            f"must be a rate from {MIN_IMAGE_FPS:g} to {MAX_IMAGE_FPS:g}, got {text!r}"
        )
    return value


def positive_seconds(text: str) -> float:
    """Return the text as a number of seconds; it must be above 0 and below 3600."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"must be seconds above 0 and below 3600, got {text!r}")
    return value
