"""The strict loader on the files that ship, on mistakes, and on overrides."""

import contextlib
import os
import string
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from configs import ConfigError, StrictModel, example_path, load_config, parse_config
from model.detection import ActionRule
from stream.cameras.config import CameraConfig
from stream.config import StreamConfig
from train.ablations import AblationConfig
from train.config import TrainConfig, load_training
from train.data.datasets import mirrored_labels
from train.engine.step import learning_rate_at
from train.results import ResultsPlan

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
    marks = {"cameras:": StreamConfig, "tables:": AblationConfig, "networks:": ResultsPlan}
    found = (schema for mark, schema in marks.items() if f"\n{mark}" in f"\n{text}")
    load_config(path, next(found, TrainConfig))


def test_the_full_example_names_every_setting_with_its_default() -> None:
    written = load_config(example_path("stream.yaml"), StreamConfig)
    defaults = StreamConfig(cameras=written.cameras)
    assert written == defaults
    tree = yaml.safe_load(example_path("stream.yaml").read_text())
    assert set(tree) == set(StreamConfig.model_fields)
    assert set(tree["cameras"][0]) == set(CameraConfig.model_fields)
    assert set(tree["events"]["default"]) == set(ActionRule.model_fields)
    for name, field in StreamConfig.model_fields.items():
        if fields := getattr(field.annotation, "model_fields", None):
            assert set(tree[name]) == set(fields)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CAMERA + "clip: {hopp: 2}", "clip.hopp: unknown setting; did you mean 'hop'"),
        (CAMERA + "clip: {hop: 0}", "clip.hop: Input should be greater than or equal to 1"),
        (CAMERA + "clip: {hop: 1}\nclip: {hop: 2}", "line 3: the key 'clip' is given twice"),
        ("clip: {hop: 1}", "cameras: this setting is required"),
        ("cameras: [{id: a, url: x}, {id: a, url: y}]", "the id 'a' is used more than once"),
        ("cameras: [{id: a, url: 'ftp://u:secret@h/x'}]", "unknown scheme 'ftp' in ftp://h/x"),
        ("kafka: {bootstrap: ['x:abc']}", "'x:***' is not host:port"),
        ("kafka: {security_protocol: SASL_SSL, sasl_password: hunter2}", "needs sasl_mechanism"),
        ("kafka: {ssl_cafile: /nowhere/ca.pem}", "ssl_cafile not found: /nowhere/ca.pem"),
        ("cameras: [{id: a, url: 'rtsp:///x'}]", "has no host name"),
        ("cameras: [{id: a, url: 'rtsp://h:99999/x'}]", "is not a valid address"),
        ("cameras: [{id: '../a', url: x}]", "cameras.0.id: String should match pattern"),
        ("- 1", "must be a mapping of settings, not list"),
        ("a: [hunter2", "is not valid YAML: expected ',' or ']'"),
        (
            CAMERA + "events: {default: {enter: 0.2, exit: 0.5}}",
            "exit (0.5) must not be above enter (0.2)",
        ),
    ],
)
def test_bad_settings_are_named_with_value_and_remedy(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(text, StreamConfig)
    assert says in str(error.value)
    assert "secret" not in str(error.value)
    assert "hunter2" not in str(error.value)


def test_rules_and_cameras_inherit_the_common_settings() -> None:
    config = parse_config(
        """
        cameras:
          - {id: a, url: rtsp://h/a, events: {update_seconds: 2, actions: {fall: {exit: 0.1}}}}
          - {id: b, url: rtsp://h/b}
        events:
          smoothing: 7
          default: {enter: 0.6, cooldown_seconds: 3}
          actions: {fall: {enter: 0.9}}
        """,
        StreamConfig,
    )
    of_all = config.events
    of_a = config.cameras[0].events
    assert (of_all.actions["fall"].enter, of_all.actions["fall"].cooldown_seconds) == (0.9, 3)
    assert of_a is not None
    assert (of_a.smoothing, of_a.update_seconds, of_a.default) == (7, 2, of_all.default)
    assert (
        of_a.actions["fall"].enter,
        of_a.actions["fall"].exit,
        of_a.actions["fall"].cooldown_seconds,
    ) == (0.9, 0.1, 3)
    assert config.cameras[1].events is None


def test_a_mistake_in_common_settings_is_reported_once() -> None:
    for own, common in (
        ("{top_k: 1}", "{smothing: 2}"),
        ("null", "{default: {entr: 1}, actions: {fall: {enter: 0.9}}}"),
    ):
        with pytest.raises(ConfigError) as raised:
            parse_config(
                f"{{cameras: [{{id: a, url: rtsp://h/a, events: {own}}}], events: {common}}}",
                StreamConfig,
            )
        assert str(raised.value).count("unknown setting") == 1


def test_source_settings_of_a_camera_complete_the_common_ones() -> None:
    tree = """
        cameras:
          - {id: a, url: rtsp://h/a, max_gap_seconds: 3, source: {open_timeout_seconds: 30}}
        source: {read_timeout_seconds: 9}
        """
    camera = parse_config(tree, StreamConfig).cameras[0]
    assert camera.source is not None
    assert (camera.source.open_timeout_seconds, camera.source.read_timeout_seconds) == (30, 9)
    assert "rtsp" not in repr(camera)  # an address may hold a password


def test_settings_that_contain_themselves_are_refused_at_once() -> None:
    doubling = (
        "events: {actions: {a0: &a0 {enter: 1}"
        + "".join(f", a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}" for n in range(1, 40))
        + "}}"
    )
    for text in (
        "events: &e {default: *e}\n" + CAMERA.replace("url", "events: *e, url"),
        doubling,
        "source: &s {source: *s}\n" + CAMERA,
    ):
        with pytest.raises(ConfigError, match="nested too deeply or repeats itself"):
            parse_config(text, StreamConfig)


def test_an_empty_section_means_the_defaults_and_yes_is_not_a_number() -> None:
    assert parse_config(CAMERA + "kafka:\nevents:\n", StreamConfig) == parse_config(
        CAMERA, StreamConfig
    )
    for text in ("kafak:\n", "http:\n"):
        with pytest.raises(ConfigError):
            parse_config(CAMERA + text, StreamConfig)
    assert parse_config(
        CAMERA + "kafka: {bootstrap: 'a:1, b:2'}", StreamConfig
    ).kafka.bootstrap == ("a:1", "b:2")
    with pytest.raises(ConfigError, match=r"clip\.hop: must be a number, got true"):
        parse_config(CAMERA + "clip: {hop: yes}", StreamConfig)
    with pytest.raises(ConfigError, match=r"ssl_keyfile needs ssl_certfile"):
        parse_config(
            CAMERA + f"kafka: {{security_protocol: SSL, ssl_keyfile: {__file__}}}", StreamConfig
        )


def test_a_camera_can_be_a_pipe_or_a_file_address_but_not_a_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe with space")
    camera = CameraConfig(id="a", url=f"file://{tmp_path}/pipe%20with%20space")
    assert CameraConfig(id="a", url="file://localhost/x.mp4").url == "/x.mp4"
    assert (camera.url, camera.is_file, camera.problem()) == (
        f"{tmp_path}/pipe with space",
        True,
        None,
    )
    assert "is a folder, not a video" in str(CameraConfig(id="a", url=str(tmp_path)).problem())
    assert "not found" in str(CameraConfig(id="a", url="file:///nowhere").problem())


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("outbox.path=/", "outbox.path: must name a file"),
        ('outbox.path="a\\0b"', "outbox.path: must name a file"),
        (f"http.changes={'n' * 300}", "http.changes: must name a file"),
        ("kafka.bootstrap=broker", "is not host:port"),
        ("clip=3", "clip: must be a section"),
        ("source.tls_ca_file=pyproject.toml", "tls_ca_file needs tls_verify"),
        ("cameras.b.hop=8", "'b' is neither an id nor a position"),
        ("cameras.a.url=rtsp://u:a#b@h/x", "%23 for #"),
    ],
)
def test_common_mistakes_get_a_plain_answer(override: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config("cameras: [{id: a, url: rtsp://h/a}]", StreamConfig, [override])
    assert says in str(raised.value)


def test_cameras_can_be_overridden_by_their_names() -> None:
    config = parse_config(
        "cameras: [{id: a, url: rtsp://h/a}, {id: b, url: rtsp://h/b}]",
        StreamConfig,
        ["cameras.b.hop=8"],
    )
    assert [camera.hop for camera in config.cameras] == [None, 8]


def test_overrides_are_yaml_values_at_dotted_paths() -> None:
    loaded = parse_config("items: [{size: 1}]", Outer, ["inner.size=5", "items.0.size=7"])
    assert (loaded.inner.size, loaded.items[0].size) == (5, 7)


@pytest.mark.parametrize(
    "override",
    ["inner", "=3", "inner..size=1", "items.4.size=1", "inner.size.x=1", "inner.size=[", "inner=3"],
)
def test_bad_overrides_are_errors(override: str) -> None:
    with pytest.raises(ConfigError):
        parse_config("items: [{size: 1}]\ninner: {size: 2}", Outer, [override])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not found: .*nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml", Outer)


def test_errors_about_overrides_do_not_show_values() -> None:
    for override in (
        "inner.size: hunter2",
        "inner.x.y=hunter2",
        "items.9.size=hunter2",
        "inner.size=[hunter2",
    ):
        with pytest.raises(ConfigError) as error:
            parse_config("inner: {size: 1, x: 2}\nitems: []", Outer, [override])
        assert "hunter2" not in str(error.value)


@given(st.text(alphabet=string.printable, max_size=60))
def test_any_text_gives_settings_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_config(text, StreamConfig)


PAPER_FILES = [path for path in CONFIGS if path.name.startswith("paper-")]


@pytest.mark.parametrize("path", PAPER_FILES, ids=lambda path: path.stem)
def test_the_experiments_of_the_paper_use_its_settings_and_the_labels_of_their_data_sets(
    path: Path, shared_data: Path, tmp_path: Path
) -> None:
    """Each file loads with the official labels; it starts from a run that another describes."""
    maps = {
        "kinetics400": "kinetics_label_map_k400",
        "ucf101": "ucf101_label_map",
        "hmdb51": "hmdb51_label_map",
        "something-v2": "sthv2_label_map",
    }
    name = path.stem.removeprefix("paper-").rpartition("-")[0]
    labels = (
        (shared_data / "annotations/mmaction2" / f"{maps.get(name, f'{name}_label_map')}.txt")
        .read_text()
        .splitlines()
    )
    pairs, alone = mirrored_labels(labels)
    described = {
        "train": "t.csv",
        "validation": "v.csv",
        "labels": labels,
        "flip_labels": pairs,
        "no_flip_labels": list(alone),
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": described}))
    config = load_training(path, [f"data.labels_from={tmp_path}/data.yaml"])
    assert config.data.labels == tuple(labels)
    recipe = config.optimiser
    assert (
        recipe.kind,
        recipe.learning_rate,
        recipe.momentum,
        recipe.weight_decay,
        recipe.epochs,
    ) == ("sgd", 0.01, 0.9, 1e-4, 100)
    rates = [round(learning_rate_at(epoch, recipe), 10) for epoch in (0, 39.9, 40, 79.9, 80, 99)]
    assert rates == [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    assert (
        config.model.dropout,
        config.model.frames,
        config.data.short_side_min,
        config.data.short_side_max,
    ) == (0.6, 32, 256, 320)
    assert (config.preprocess.height, config.preprocess.width) == (224, 224)
    assert (config.model.cidc is None) == path.stem.endswith("backbone")
    runs = {other.stem for other in PAPER_FILES}
    assert all(
        start is None or start.parent.name in runs
        for start in (config.backbone_from, config.weights_from)
    )


def test_labels_come_from_the_data_set_or_from_the_file_but_not_from_both(tmp_path: Path) -> None:
    path = example_path("paper-ucf101-cidc.yaml")
    with pytest.raises(
        ConfigError, match=r"labels_from names .*nowhere\.yaml, which is not there; write it with"
    ):
        load_training(path, [f"data.labels_from={tmp_path}/nowhere.yaml"])
    with pytest.raises(ConfigError, match="labels_from stands in place of labels"):
        load_training(path, ["data.labels=[a, b]"])
    with pytest.raises(ConfigError, match="at least two are needed"):
        load_training(path, ["data.labels_from=null"])
    (tmp_path / "d.yaml").write_text("data: {train: t, validation: v, labels: [a, b, c]}")
    with pytest.raises(ConfigError, match=r"num_classes is 101, but data\.labels has 3 names"):
        load_training(path, [f"data.labels_from={tmp_path}/d.yaml"])
