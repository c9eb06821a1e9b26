"""Reads and writes the `events` section of a stream configuration, for evaluation and tuning."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field
from ruamel.yaml.error import YAMLError

from configs import ConfigError, StrictModel, parse_config, write_file
from model.detection import DetectionConfig
from model.media.clip_cutter import DEFAULT_STRIDE
from train.evaluation.yaml_round_trip import RoundTripFile

__all__ = ["read_detection", "write_events"]


class _EventsSection(DetectionConfig):
    """The `events` section; `top_k` only affects the content of events, not their detection."""

    top_k: int | None = None


class _ClipSection(StrictModel, extra="ignore"):
    """The only setting of the `clip` section that evaluation needs."""

    hop: int = Field(DEFAULT_STRIDE, ge=1, le=1024)


class _StreamFile(StrictModel, extra="ignore"):
    """The two sections used here; `python -m stream check` checks the other sections."""

    clip: _ClipSection | None = None
    events: _EventsSection | None = None


def read_detection(path: Path | None) -> tuple[DetectionConfig, int]:
    """Read the `events` section and the stride (`clip.hop`) of a stream configuration.

    Without a file, or if a section is missing, return the defaults.

    Raises:
        ConfigError: the file cannot be read, or one of the sections is malformed.
    """
    if path is None:
        return DetectionConfig(), DEFAULT_STRIDE
    sections = parse_config(_read(path), _StreamFile, name=f"stream configuration {path}")
    stride = DEFAULT_STRIDE if sections.clip is None else sections.clip.hop
    if sections.events is None:
        return DetectionConfig(), stride
    fields = sections.events.model_dump(exclude={"top_k"}, exclude_unset=True)
    return DetectionConfig.model_validate(fields), stride


def write_events(config: DetectionConfig, source: Path, target: Path) -> None:
    """Copy a stream configuration and put new settings into its `events` section.

    Comments, order, quotes, numbers and anchors of all sections are kept. Only the layout may
    change: spaces inside `{ }` and `[ ]`, line breaks within lists and texts, and indentation if
    the file does not indent consistently.

    Raises:
        ConfigError: the source cannot be read, the target cannot be written, or other sections
            would change too.
    """
    text = _read(source)
    try:
        file = RoundTripFile(text)
        file.merge_section("events", _plain_section(config))
        result = file.text()
        if _without_events(text) != _without_events(result):
            raise ConfigError(
                f"events of {source} cannot be replaced without changing other sections; remove"
                " anchors and merge keys (<<) from its events section"
            )
    except (YAMLError, yaml.YAMLError) as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from None
    try:
        write_file(target, result, mode=_mode_for(source, target))
    except OSError as error:
        raise ConfigError(f"events cannot be written into {target}: {error}") from None


def _mode_for(source: Path, target: Path) -> int:
    """Return permissions for the target: the source may hold passwords that few may read."""
    mode = stat.S_IMODE(source.stat().st_mode)
    if target.exists():
        mode &= stat.S_IMODE(target.stat().st_mode)
    return mode


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"stream configuration {path} cannot be read: {error}") from None


def _plain_section(config: DetectionConfig) -> dict[str, Any]:
    """Return the settings as a dictionary of plain YAML values."""
    section = config.model_dump()
    section["ignore"] = None if config.ignore is None else list(config.ignore)
    return section


def _without_events(text: str) -> dict[str, Any]:
    tree = yaml.safe_load(text) or {}
    return {key: value for key, value in tree.items() if key != "events"}
