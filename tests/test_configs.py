import contextlib
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import ConfigError, StrictModel, example_path, load_config, parse_config
from stream.settings import StreamConfig
from train.compare import CompareConfig
from train.recipe import TrainConfig

CAMERA = "cameras: [{id: a, url: x.mp4}]\n"
CONFIGS = sorted(Path(example_path("demo.yaml")).parent.glob("*.yaml"))


class Inner(StrictModel):
    size: int = 3


class Outer(StrictModel):
    inner: Inner = Inner()
    items: tuple[Inner, ...] = ()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_file_that_ships_loads(path: Path) -> None:
    text = path.read_text()
    schema = StreamConfig if "cameras:" in text else CompareConfig if "seeds:" in text else TrainConfig
    load_config(path, schema)


def test_the_full_example_names_every_setting_with_its_default() -> None:
    written = load_config(example_path("stream.yaml"), StreamConfig)
    defaults = StreamConfig(cameras=written.cameras)
    assert written == defaults
    text = example_path("stream.yaml").read_text()
    for section in StreamConfig.model_fields:
        assert f"\n{section}:" in "\n" + text
    for name, field in StreamConfig.model_fields.items():
        for key in getattr(field.annotation, "model_fields", {}):
            assert f"  {key}:" in text, f"{name}.{key} is not in stream.yaml"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CAMERA + "clip: {hopp: 2}", "clip.hopp: unknown setting; did you mean 'hop'"),
        (CAMERA + "clip: {hop: 0}", "clip.hop: Input should be greater than or equal to 1"),
        (CAMERA + "clip: {hop: 1}\nclip: {hop: 2}", "line 3: the key 'clip' is given twice"),
        ("clip: {hop: 1}", "cameras: this setting is required"),
        ("cameras: [{id: a, url: x}, {id: a, url: y}]", "the id 'a' is used more than once"),
        ("cameras: [{id: a, url: 'ftp://u:secret@h/x'}]", "unknown scheme 'ftp' in ftp://h/x"),
        ("kafka: {bootstrap: ['x:abc']}", "'x:abc' is not host:port"),
        ("kafka: {security_protocol: SASL_SSL, sasl_password: hunter2}", "needs sasl_mechanism"),
        ("kafka: {ssl_cafile: /nowhere/ca.pem}", "ssl_cafile not found: /nowhere/ca.pem"),
        ("cameras: [{id: a, url: 'rtsp:///x'}]", "has no host name"),
        ("cameras: [{id: a, url: 'rtsp://h:99999/x'}]", "is not a valid address"),
        ("cameras: [{id: '../a', url: x}]", "cameras.0.id: String should match pattern"),
        ("- 1", "must be a mapping of settings, not list"),
        ("a: [hunter2", "is not valid YAML: expected ',' or ']'"),
        (CAMERA + "events: {default: {enter: 0.2, exit: 0.5}}", "exit (0.5) must not be above enter (0.2)"),
    ],
)
def test_bad_settings_are_named_with_value_and_remedy(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(text, StreamConfig)
    assert says in str(error.value)
    assert "secret" not in str(error.value)
    assert "hunter2" not in str(error.value)


def test_overrides_are_yaml_values_at_dotted_paths() -> None:
    loaded = parse_config("items: [{size: 1}]", Outer, ["inner.size=5", "items.0.size=7"])
    assert (loaded.inner.size, loaded.items[0].size) == (5, 7)


@pytest.mark.parametrize("override", ["inner", "=3", "inner..size=1", "items.4.size=1", "inner.size.x=1", "inner.size=[", "inner=3"])
def test_bad_overrides_are_errors(override: str) -> None:
    with pytest.raises(ConfigError):
        parse_config("items: [{size: 1}]\ninner: {size: 2}", Outer, [override])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not found: .*nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml", Outer)


def test_messages_about_overrides_do_not_show_values() -> None:
    for override in ("inner.size: hunter2", "inner.x.y=hunter2", "items.9.size=hunter2", "inner.size=[hunter2"):
        with pytest.raises(ConfigError) as error:
            parse_config("inner: {size: 1, x: 2}\nitems: []", Outer, [override])
        assert "hunter2" not in str(error.value)


@given(st.text(alphabet=string.printable, max_size=60))
def test_no_text_gives_anything_but_settings_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_config(text, StreamConfig)
