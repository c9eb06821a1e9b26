"""The extra `train`: packages that only training needs, and the message if they are missing."""

from __future__ import annotations

import argparse
import importlib.util
import logging

from configs import ConfigError

__all__ = ["is_installed", "require", "require_plots"]

_log = logging.getLogger(__name__)


def require(package: str, *, use: str) -> None:
    """Check that a package of the extra `train` is installed, before any work is done.

    Args:
        use: what needs it, in the plural, such as `plots`.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise ConfigError(_missing(package, use))


def is_installed(package: str, *, use: str) -> bool:
    """Return whether a package of the extra `train` is installed; warn if it is not.

    Args:
        use: what is left out without it, in the plural.
    """
    if importlib.util.find_spec(package) is not None:
        return True
    _log.warning("%s", _missing(package, use))
    return False


def _missing(package: str, use: str) -> str:
    return f"{use} need {package}, which is not installed; pip install 'cidc-stream[train]' adds it"


def require_plots(options: argparse.Namespace) -> None:
    """Check that plots can be drawn, if the options `--plots` or `--plot` ask for some.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    for name in ("plots", "plot"):
        if getattr(options, name, None) is not None:
            require("matplotlib", use=f"plots (--{name})")
