"""The programs `cidc-stream`, `cidc-train`, `cidc-model` and `cidc-stream-client`.

The packages of this project are called `configs`, `model`, `stream` and `train`, and a user's own
files may have the same names. These programs find the right ones: they never import from the
working folder, nor do the processes that they start. `python -m stream` does import from there, so
the packages ask `check_packages` whether they have found each other.

This module imports only the standard library: its own name is the only one that is certainly right.
"""

from __future__ import annotations

import os
import sys

__all__ = ["check_packages", "model", "stream", "train"]

_ROOT = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120 - before any import
_PACKAGES = ("configs", "model", "stream", "train")


def stream() -> int:
    """Run `cidc-stream` or `cidc-stream-client`; return the exit status."""
    _find_own_packages()
    from stream.__main__ import main

    return main()


def train() -> int:
    """Run `cidc-train`; return the exit status."""
    _find_own_packages()
    from train.__main__ import main

    return main()


def model() -> int:
    """Run `cidc-model`; return the exit status."""
    _find_own_packages()
    from model.__main__ import main

    return main()


def check_packages(package_file: str, *names: str) -> None:
    """Check that other packages are this project's own, beside the package that asks.

    Under `python -m`, a foreign one ends the process with one line and status 2.

    Args:
        package_file: `__file__` of the package that asks.
        names: packages that it needs; those that are not installed are not checked.

    Raises:
        ImportError: a name belongs to somebody else's file.
    """
    folder = os.path.dirname(os.path.realpath(package_file))  # noqa: PTH120 - see above
    package = os.path.basename(folder)  # noqa: PTH119
    for name in names:
        found = _foreign_path(name, os.path.dirname(folder))  # noqa: PTH120
        if found is None:
            continue
        problem = f"{found} has the name of the package {name!r} of cidc-stream and hides it"
        if sys.argv[:1] == ["-m"]:  # so it is while `python -m` looks for its module
            remedy = f"run `cidc-{package}`, or start in another folder"
            print(f"error: {problem}; {remedy}", file=sys.stderr)
            raise SystemExit(2)
        raise ImportError(f"{problem}; rename it, or start in another folder", name=name)


def _foreign_path(name: str, root: str) -> str | None:
    """Return the path of a package that hides the one in the folder `root`, or None."""
    import importlib.util

    own = os.path.join(root, name)  # noqa: PTH118
    if not os.path.isfile(os.path.join(own, "__init__.py")):  # noqa: PTH113, PTH118
        return None
    loaded = sys.modules.get(name)
    spec = getattr(loaded, "__spec__", None) if loaded else importlib.util.find_spec(name)
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    if any(os.path.realpath(folder) == own for folder in folders[:1]):
        return None
    return spec.origin or (folders[0] if folders else None)


def _find_own_packages() -> None:
    """Make sure that this process, and those that it starts, import this project's packages."""
    os.environ["PYTHONSAFEPATH"] = "1"  # without it, worker processes import from the folder
    _leave_working_folder()
    if any(_foreign_path(name, _ROOT) for name in _PACKAGES):
        sys.path.insert(0, _ROOT)
    _check_versions()


def _leave_working_folder() -> None:
    """Remove the working folder from PYTHONPATH, where an empty entry also means that folder."""
    try:
        here = os.getcwd()  # noqa: PTH109
    except OSError:  # it was deleted
        return
    entries = os.environ.get("PYTHONPATH")
    if entries is None or here == _ROOT:
        return
    kept = [each for each in entries.split(os.pathsep) if os.path.abspath(each) != here]  # noqa: PTH100
    if len(kept) < len(entries.split(os.pathsep)):
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)
        sys.path[:] = [each for each in sys.path if os.path.abspath(each) != here]  # noqa: PTH100


def _check_versions() -> None:
    """Refuse to run if both distributions are installed in different versions: they share files."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("cidc-stream", "cidc-stream-client"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            return
    if len({each.split()[1] for each in found}) > 1:
        print(
            f"error: {' and '.join(found)} are both installed, and have files in common; uninstall"
            " both, then install one: cidc-stream contains all of cidc-stream-client",
            file=sys.stderr,
        )
        raise SystemExit(2)
