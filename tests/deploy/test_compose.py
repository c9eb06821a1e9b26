"""deploy/compose.yaml: its schema, least rights, and that every file it names exists and loads."""

from __future__ import annotations

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from configs import load_config
from scripts.image_root import DOCKERFILE, final_settings, stages
from stream.__main__ import main
from stream.config import StreamConfig
from tests import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
CAMERAS = DEPLOY / "compose/cameras.yaml"
RTSP = yaml.safe_load((DEPLOY / "compose/mediamtx.yml").read_text(encoding="utf-8"))
ENV = dict(
    line.split("=", 1)
    for line in (DEPLOY / ".env").read_text(encoding="utf-8").splitlines()
    if "=" in line and not line.startswith("#")
)
OURS = ("pipeline", "pipeline-gpu", "recordings")
every_service = pytest.mark.parametrize("name", SERVICES)


def schema() -> Any:
    """The JSON schema of the Compose Specification, from a package."""
    files = importlib.resources.files("check_jsonschema")
    return json.loads((files / "builtin_schemas/vendor/compose-spec.json").read_text("utf-8"))


def mounts(name: str) -> list[dict[str, Any]]:
    return list(SERVICES[name].get("volumes", []))


def published(name: str) -> list[tuple[str, str]]:
    """Address and port of this machine for each port of a service."""
    ports = [
        re.fullmatch(r"([\d.]+):(\d+):(\d+)", text) for text in SERVICES[name].get("ports", [])
    ]
    assert all(ports), f"{name}: every port needs an address of this machine"
    return [(port[1], port[2]) for port in ports if port]


def test_it_follows_the_compose_specification() -> None:
    jsonschema.Draft202012Validator(schema()).validate(COMPOSE)


@pytest.mark.parametrize(
    ("key", "value"),
    [("healthcheck", {"every": "5s"}), ("port", ["1:1"]), ("cap_drop", "ALL"), ("read_only", [])],
)
def test_the_schema_finds_mistakes(key: str, value: object) -> None:
    wrong = COMPOSE | {"services": SERVICES | {"kafka": SERVICES["kafka"] | {key: value}}}
    assert not jsonschema.Draft202012Validator(schema()).is_valid(wrong)


@every_service
def test_images_are_pinned(name: str) -> None:
    image = re.sub(r"\$\{\w+:-([\w.]+)\}", r"\1", SERVICES[name]["image"])
    assert re.search(r":v?\d+\.\d+\.\d+(-\w+)?$", image), image
    if name in OURS:
        assert re.fullmatch(r"cidc-stream:\d+\.\d+\.\d+-(cpu|gpu)", image)
        build = SERVICES[name]["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DOCKERFILE


@every_service
def test_ports_are_for_this_machine_only(name: str) -> None:
    assert {address for address, _ in published(name)} <= {"127.0.0.1"}


def test_no_port_is_published_twice_in_one_profile() -> None:
    for left_out in ("pipeline", "pipeline-gpu"):
        ports = [port for name in SERVICES if name != left_out for _, port in published(name)]
        assert len(ports) == len(set(ports))


@every_service
def test_services_have_least_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("read_only") or name == "kafka", "the page says why Kafka's is not"
    assert service["mem_limit"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service)
    assert service.get("network_mode", "none") == "none"
    assert "docker.sock" not in json.dumps(service)
    if name in (*OURS, "rtsp"):
        assert service["user"] == final_settings(DOCKERFILE.read_text(), "cpu")["USER"]


@every_service
def test_services_are_watched_and_restarted(name: str) -> None:
    service = SERVICES[name]
    if name == "recordings":
        assert service["restart"] == "no"
        assert service["healthcheck"] == {"disable": True}
        return
    assert service["restart"] == "unless-stopped"
    # The pipeline's check is in its image.
    is_ours = name.startswith("pipeline")
    assert ("healthcheck" in service) != is_ours
    assert not is_ours or "HEALTHCHECK" in final_settings(DOCKERFILE.read_text(), "cpu")


@every_service
def test_what_is_mounted_exists_and_is_only_read(name: str) -> None:
    for mount in mounts(name):
        if mount["type"] == "bind":
            assert mount["read_only"], mount
            assert (DEPLOY / mount["source"]).exists(), mount["source"]
        else:
            assert mount["source"] in COMPOSE["volumes"]


def test_every_volume_is_used() -> None:
    used = {mount["source"] for name in SERVICES for mount in mounts(name)}
    assert set(COMPOSE["volumes"]) <= used


def test_the_programs_find_the_files_that_are_mounted() -> None:
    for name in ("prometheus", "alertmanager"):
        text = json.dumps(SERVICES[name]["command"])
        [config] = re.findall(r"--config.file=([\w/.]+)", text)
        [mount] = [each for each in mounts(name) if each["type"] == "bind"]
        path = DEPLOY / mount["source"] / Path(config).relative_to(mount["target"])
        assert yaml.safe_load(path.read_text(encoding="utf-8"))


def test_prometheus_reaches_the_pipeline_and_alertmanager() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    text = json.dumps(config)
    assert "pipeline:9108" in text
    assert "alertmanager:9093" in text
    for name in ("pipeline", "pipeline-gpu"):
        assert SERVICES[name]["networks"]["default"]["aliases"] == ["pipeline"]
    for file in config["rule_files"]:
        found = list((DEPLOY / "prometheus").glob(Path(file).name))
        assert found, file


def test_grafana_reads_prometheus_and_the_dashboards() -> None:
    targets = {mount["target"] for mount in mounts("grafana")}
    provisioning = DEPLOY / "grafana/provisioning"
    [sources] = map(
        yaml.safe_load, (p.read_text() for p in provisioning.glob("datasources/*.y*ml"))
    )
    assert any(each["url"] == "http://prometheus:9090" for each in sources["datasources"])
    [boards] = map(yaml.safe_load, (p.read_text() for p in provisioning.glob("dashboards/*.y*ml")))
    assert {each["options"]["path"] for each in boards["providers"]} <= targets
    assert list((DEPLOY / "grafana/dashboards").glob("*.json"))


def test_the_pipeline_s_configuration_can_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = [
        f"outbox.path={tmp_path}/outbox.db",
        f"snapshots.path={tmp_path}/pictures",
        "http.port=0",
    ]
    options = [part for setting in here for part in ("--set", setting)]
    assert main(["check", "--config", str(CAMERAS), *options]) == 0
    assert "ok: 4 cameras" in capsys.readouterr().out


def test_the_pipeline_s_state_lies_in_the_volume_and_its_broker_in_the_project() -> None:
    config = load_config(CAMERAS, StreamConfig)
    state = {mount["source"]: mount["target"] for mount in mounts("pipeline")}["state"]
    assert Path(state) in config.outbox.path.parents
    assert Path(state) in config.snapshots.path.parents
    assert json.loads(final_settings(DOCKERFILE.read_text(), "cpu")["VOLUME"])[0] == state
    assert list(config.kafka.bootstrap) == ["kafka:9092"]
    assert "INSIDE://kafka:9092" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    port = config.http.port
    assert published("pipeline") == [("127.0.0.1", str(port))]
    assert config.http.host == "0.0.0.0"
    drain = config.kafka.drain_seconds
    assert int(SERVICES["pipeline"]["stop_grace_period"].removesuffix("s")) > drain


def test_the_demo_s_cameras_are_those_that_the_server_plays() -> None:
    config = load_config(CAMERAS, StreamConfig)
    demo = load_config(ROOT / "configs/demo.yaml", StreamConfig)
    assert config.events == demo.events
    wanted = {f"rtsp://rtsp:8554/{path}" for path in RTSP["paths"]}
    assert {str(camera.url) for camera in config.cameras} == wanted
    [volume] = [mount for mount in mounts("rtsp") if mount["source"] == "recordings"]
    for path, settings in RTSP["paths"].items():
        assert f"{volume['target']}/recordings/{path}.mp4" in settings["runOnInit"]
    assert "--recordings 4" in SERVICES["recordings"]["command"][0]
    needed = SERVICES["rtsp"]["depends_on"]["recordings"]["condition"]
    assert needed == "service_completed_successfully"


def test_the_profiles_start_one_pipeline() -> None:
    profiles = ENV["COMPOSE_PROFILES"].split(",")
    assert sum(SERVICES[name]["profiles"][0] in profiles for name in OURS[:2]) == 1
    named = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
    assert named == {"cpu", "gpu", "demo"}
    [device] = SERVICES["pipeline-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert {"cpu", "gpu"} <= set(stages(DOCKERFILE.read_text(encoding="utf-8")))
