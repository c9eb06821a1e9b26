"""The extra `train`: packages that only training needs, and the message if they are missing."""

from __future__ import annotations

import argparse
import importlib.util

from configs import ConfigError

__all__ = ["require", "require_plots"]


def require(package: str, *, use: str) -> None:
    """Check that a package of the extra `train` is installed, before any work is done.

    Args:
        use: what needs it, in the plural, such as `plots`.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"{use} need {package}, which is not installed;"
            " pip install 'cidc-stream[train]' adds it"
        )


def require_plots(options: argparse.Namespace) -> None:
    """Check that plots can be drawn, if the options `--plots` or `--plot` ask for some.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    for name in ("plots", "plot"):
        if getattr(options, name, None) is not None:
            require("matplotlib", use=f"plots (--{name})")
