"""Build backend of `cidc-stream-client`: copies its files out of the tree, then calls setuptools.

    pip install ./client                    # in a checkout
    pip wheel --no-deps -w dist ./client    # a wheel

An sdist contains the copied files, so that it can be built without the rest of the tree.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from setuptools import build_meta

__all__ = ["FILES", "build_sdist", "build_wheel", "copy_files"]

_HERE = Path(__file__).resolve().parent
# Everything that reading events needs, and nothing that needs PyTorch, video or the network.
FILES = (
    "LICENSE",
    "cidc_programs.py",
    "configs/__init__.py",
    "configs/command.py",
    "configs/console.py",
    "configs/errors.py",
    "configs/files.py",
    "configs/loader.py",
    "configs/overrides.py",
    "configs/private_files.py",
    "configs/py.typed",
    "configs/secret_settings.py",
    "configs/settings.py",
    "configs/text_files.py",
    "configs/yaml_loader.py",
    "stream/__init__.py",
    "stream/__main__.py",
    "stream/cameras_command.py",
    "stream/console/__init__.py",
    "stream/console/config.py",
    "stream/console/event_lines.py",
    "stream/console/logs.py",
    "stream/discover_command.py",
    "stream/events/__init__.py",
    "stream/events/broker_addresses.py",
    "stream/events/config.py",
    "stream/events/consumer.py",
    "stream/events/event.py",
    "stream/events/event_fields.py",
    "stream/events/kafka.py",
    "stream/events/migrations.py",
    "stream/events/outbox_reader.py",
    "stream/events/skipped_kinds.py",
    "stream/events/verification.py",
    "stream/events/sink_rows.py",
    "stream/events_command.py",
    "stream/py.typed",
    "stream/reader.py",
    "stream/sinks/__init__.py",
    "stream/sinks/config.py",
)


def copy_files(folder: Path) -> None:
    """Copy the files of the distribution into a folder, out of the tree or of an sdist."""
    root = _HERE if (_HERE / "stream").is_dir() else _HERE.parent
    for name in FILES:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target)


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, object] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build a wheel; return its file name."""
    del metadata_directory  # pip asks for metadata only from a backend that prepares it
    target = str(Path(wheel_directory).resolve())
    with _project():
        return str(build_meta.build_wheel(target, config_settings))


def build_sdist(sdist_directory: str, config_settings: dict[str, object] | None = None) -> str:
    """Build an sdist; return its file name."""
    target = str(Path(sdist_directory).resolve())
    with _project():
        return str(build_meta.build_sdist(target, config_settings))


@contextlib.contextmanager
def _project() -> Iterator[None]:
    """Work in a temporary folder that holds the whole project."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_files(folder)
        for own in ("pyproject.toml", "client_backend.py", "MANIFEST.in"):
            shutil.copyfile(_HERE / own, folder / own)
        with contextlib.chdir(folder):
            yield
