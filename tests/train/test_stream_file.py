"""The sections of a stream configuration that evaluation reads and tuning writes."""

from pathlib import Path

import pytest
import yaml

from configs import ConfigError, example_path, load_config
from model.detection import ActionRule, DetectionConfig
from stream.config import StreamConfig
from stream.events.config import EventConfig
from stream.ingest.config import ClipConfig
from tests.support.permissions import mode_of, umask
from train.evaluation.stream_file import read_detection, write_events


def test_the_events_section_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "in.yaml"
    target = tmp_path / "out.yaml"
    source.write_text(
        "cameras:\n  - {id: a, url: a.mp4}   # mine\nevents:\n  smoothing: 9\n  top_k: 7\n\n"
        "  # more\n# outbox\noutbox:\n  path: o.db # here\n"
    )
    write_events(
        DetectionConfig(smoothing=3, actions={"fall": ActionRule(enter=0.7)}), source, target
    )
    text = target.read_text()
    assert "# mine" in text
    assert "\n# outbox\n" in text
    assert "path: o.db # here" in text
    loaded = load_config(target, StreamConfig)
    assert loaded.events == EventConfig(
        smoothing=3, actions={"fall": ActionRule(enter=0.7)}, top_k=7
    )
    source.write_text("cameras:\n  - {id: a, url: a.mp4}\nevents:\n\n# next\nclip: {hop: 3}\n")
    write_events(DetectionConfig(smoothing=7), source, target)
    assert "# next" in target.read_text()
    assert load_config(target, StreamConfig).events.smoothing == 7
    source.write_text("cameras:\n  - {id: a, url: a.mp4}\n")
    write_events(DetectionConfig(smoothing=2), source, target)
    assert load_config(target, StreamConfig).events.smoothing == 2
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        write_events(DetectionConfig(), tmp_path / "nowhere.yaml", target)


def test_everything_but_the_events_section_stays_byte_for_byte(tmp_path: Path) -> None:
    before = """\
---
# All cameras of the hall.
cameras:
    - id: 'north'           # single quotes
      url: "rtsp://h/1"
      loop: False
    - {id: south, url: b.mp4, hop: null}

clip: &clip
    fps: 15.00
    hop: 010   # in YAML 1.1 that is eight
# The events section is found by a program.
"""
    events = """\
events:
    smoothing: 9   # clips
    # The rule of every action.
    default: {enter: 0.7}
    top_k: 7
"""
    after = """\

# Copies of the section above,
# kept for later.
http:
    port: 0x1A
    token: ~
other: *clip
last: yes
"""
    source = tmp_path / "in.yaml"
    source.write_text(before + events + after)
    rule = ActionRule(enter=0.5, exit=0.2)
    config = DetectionConfig(smoothing=3, default=rule, actions={"fall": rule})
    write_events(config, source, tmp_path / "out.yaml")
    text = (tmp_path / "out.yaml").read_text()
    assert text.startswith(before)
    assert text.endswith(after)
    assert "    smoothing: 3   # clips\n    # The rule of every action.\n" in text
    written = yaml.safe_load(text)["events"]
    assert written.pop("top_k") == 7
    assert DetectionConfig.model_validate(written) == config
    write_events(config, tmp_path / "out.yaml", tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text() == text


@pytest.mark.parametrize("name", ["stream.yaml", "demo.yaml"])
def test_shipped_stream_configurations_keep_all_other_lines(name: str, tmp_path: Path) -> None:
    source = example_path(name)
    write_events(DetectionConfig(smoothing=2), source, tmp_path / name)
    lines = source.read_text().splitlines()
    start = lines.index("events:")
    end = next(n for n in range(start + 1, len(lines)) if lines[n][0] not in " #")
    written = (tmp_path / name).read_text().splitlines()
    assert written[: start + 1] == lines[: start + 1]
    assert written[-(len(lines) - end) :] == lines[end:]


def test_a_section_that_shares_an_anchor_leaves_the_other_places_as_they_were(
    tmp_path: Path,
) -> None:
    source = tmp_path / "in.yaml"
    source.write_text("events:\n  default: &rule {enter: 0.9}\nnote: *rule\n")
    write_events(DetectionConfig(default=ActionRule(enter=0.4)), source, tmp_path / "out.yaml")
    tree = yaml.safe_load((tmp_path / "out.yaml").read_text())
    assert tree["events"]["default"]["enter"] == 0.4
    assert tree["note"] == {"enter": 0.9}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"s\.yaml is not valid YAML"),
        ("- 1", r"s\.yaml must be a mapping"),
        ("events: {smoothing: 0}", r"s\.yaml: events\.smoothing: .* greater than or equal to 1"),
        ("events: {smothing: 3}", r"s\.yaml: events\.smothing: unknown setting; did you mean"),
        ("events: {actions: {fall: {enter: 2}}}", r"s\.yaml: events\.actions\.fall\.enter: "),
        ("events: 3", r"s\.yaml: events: must be a section of settings"),
        ("clip: {hop: 0}", r"s\.yaml: clip\.hop: "),
        ("clip: {hop: x}", r"s\.yaml: clip\.hop: "),
        ("clip: [1]", r"s\.yaml: clip: must be a section of settings"),
    ],
)
def test_malformed_sections_are_named_with_file_and_path(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_detection(path)


def test_missing_sections_are_the_defaults_and_other_sections_are_not_read(tmp_path: Path) -> None:
    defaults = (DetectionConfig(), ClipConfig().hop)
    assert read_detection(None) == defaults
    path = tmp_path / "s.yaml"
    for text in ("", "events:\nclip:\n", "cameras: 3\nnonsense: {a: 1}\nclip: {fps: fast}\n"):
        path.write_text(text)
        assert read_detection(path) == defaults
    path.write_text("clip: {hop: 7}\nevents: {smoothing: 2, top_k: 9}\n")
    assert read_detection(path) == (DetectionConfig(smoothing=2), 7)
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        read_detection(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(("before", "expected"), [(None, 0o600), (0o644, 0o600), (0o400, 0o400)])
def test_what_few_may_read_is_not_opened_to_more(
    tmp_path: Path, before: int | None, expected: int
) -> None:
    """A configuration may hold passwords of cameras."""
    source = tmp_path / "in.yaml"
    target = tmp_path / "out.yaml"
    source.write_text("cameras:\n  - {id: a, url: 'rtsp://u:p@h/1'}\n")
    source.chmod(0o600)
    if before is not None:
        target.touch()
        target.chmod(before)
    with umask(0):
        write_events(DetectionConfig(smoothing=3), source, target)
        write_events(DetectionConfig(smoothing=3), source, source)
    assert (mode_of(target), mode_of(source)) == (expected, 0o600)
