"""The Helm chart and the product: values that are refused, and the configuration that pods get."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml
from starlette.datastructures import Headers

from configs import example_path, load_config
from scripts.chart_schema import OWNED
from stream.__main__ import _parser
from stream.analysis.config import InferConfig
from stream.config import StreamConfig, check_settings
from stream.serve.hosts import HostRule
from tests import ROOT
from tests.support.helm import (
    CHART,
    NAMESPACE,
    TOOLS,
    VALUES,
    RefusedError,
    container,
    needs_helm,
    of_kind,
    only,
    render,
    run_helm,
)

pytestmark = needs_helm
FLEET: dict[str, Any] = {
    "cameras_from": {"topic": "cidc-cameras"},
    "kafka": {"bootstrap": ["b:9092"]},
}
EGRESS: dict[str, Any] = {
    "enabled": True,
    "cameras": {"to": [{"ipBlock": {"cidr": "10.0.0.0/16"}}]},
}
CAMERA = {"id": "yard", "url": "rtsp://10.0.0.6/main"}
SECRETS: dict[str, Any] = {
    "cameras": {"name": "cameras"},
    "httpToken": {"name": "http"},
    "kafkaPassword": {"name": "kafka"},
    "kafkaTls": {"name": "tls", "ca": "authority.pem"},
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"replicas": "two"}, "/replicas': got string, want integer"),
        ({"gpu": {"enable": True}}, "/gpu': additional properties 'enable'"),
        ({"image": {"pullPolicy": "Sometimes"}}, "must be one of 'Always', 'IfNotPresent'"),
        ({"storage": {"size": "lots"}}, "/storage/size"),
        ({"resources": {"limits": {"cpu": "two"}}}, "/resources/limits/cpu"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "/podDisruptionBudget/maxUnavailable"),
        ({"autoscaling": {"kind": "hpa+keda"}}, "must be one of 'none', 'hpa', 'keda'"),
        ({"autoscaling": {"targetLoad": 70}}, "/autoscaling/targetLoad': maximum"),
        ({"topologySpread": {"zone": "Maybe"}}, "must be one of 'ScheduleAnyway'"),
        ({"extraVolumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "'hostPath' not allowed"),
        ({"secrets": {"httpToken": {"value": "abc"}}}, "'value' not allowed"),
        ({"networkPolicy": {"ingressFrom": [{"ipBlock": {"cidr": "all"}}]}}, "/ipBlock/cidr"),
        # The pipeline's own settings.
        ({"config": {"clip": {"fps": -1}}}, "/config/clip/fps': exclusiveMinimum"),
        ({"config": {"kafka": {"botstrap": ["b:9092"]}}}, "additional properties 'botstrap'"),
        ({"config": {"cameras": [{"id": "yard"}]}}, "missing property 'url'"),
        ({"config": {"infer": {"device": "gpu"}}}, "must be one of 'auto', 'cpu', 'cuda'"),
        ({"config": {"http": {"token": "abc"}}}, "additional properties 'token' not allowed"),
        ({"config": {"kafka": {"sasl_password": "abc"}}}, "'sasl_password' not allowed"),
        ({"config": {"outbox": {"path": "/tmp/outbox.db"}}}, "'path' not allowed"),
    ],
)
def test_the_schema_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(message)) as refused:
        render(values)
    assert "don't meet the specifications of the schema" in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replicas": 2}, "2 pods would all analyse the same cameras"),
        ({"autoscaling": {"kind": "keda"}}, "needs config.cameras_from.topic"),
        (
            {"config": FLEET, "replicas": 65},
            "65 pods are more than config.cameras_from.partitions: 64",
        ),
        ({"config": FLEET | {"cameras": [CAMERA]}}, "import the cameras into the topic"),
        ({"config": {"cameras_from": {"topic": "cameras"}}}, "set config.kafka.bootstrap"),
        (
            {"config": {"cameras": [CAMERA | {"url": "rtsp://viewer:secret@10.0.0.6/main"}]}},
            "the address of yard has a password",
        ),
        ({"config": {"http": {"host": "127.0.0.1"}}}, "leave 0.0.0.0"),
        ({"terminationGracePeriodSeconds": 60}, "must be longer than kafka.drain_seconds (60)"),
        (
            {"config": FLEET, "autoscaling": {"kind": "hpa", "minReplicas": 9}},
            "autoscaling.minReplicas: 9 is more than maxReplicas: 8",
        ),
        (
            {
                "config": FLEET,
                "autoscaling": {"kind": "hpa"},
                "resources": {"limits": {"cpu": None}},
            },
            "set resources.limits.cpu",
        ),
        (
            {
                "config": FLEET | {"cameras_from": {"topic": "cidc-cameras", "max_load": 0.7}},
                "autoscaling": {"kind": "keda"},
            },
            "cameras would wait and no worker would be added",
        ),
        (
            {"config": FLEET, "replicas": 3, "drain": {"ordinals": [2]}},
            "pod 2 runs and sends its events itself",
        ),
        ({"networkPolicy": {"egress": {"enabled": True}}}, "or no camera can be reached"),
        (
            {"config": FLEET, "networkPolicy": {"egress": EGRESS}},
            "networkPolicy.egress.brokers.to, or b:9092 cannot be reached",
        ),
        (
            {
                "config": FLEET,
                "networkPolicy": {
                    "egress": EGRESS | {"brokers": {"to": EGRESS["cameras"]["to"], "ports": [9093]}}
                },
            },
            "brokers.ports: the port of b:9092 is missing",
        ),
        (
            {"config": {"mqtt": [{"name": "home", "url": "mqtts://h", "password": "p"}]}},
            "password",
        ),
        (
            {
                "config": {"mqtt": [{"name": "home", "url": "mqtts://h"}]},
                "networkPolicy": {"egress": EGRESS},
            },
            "networkPolicy.egress.sinks.to, or they cannot be reached",
        ),
    ],
)
def test_values_that_do_not_fit_together_are_refused(values: Any, message: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(message)) as refused:
        render(values)
    assert "secret@" not in str(refused.value)


def checked(
    objects: list[dict[str, Any]], tmp_path: Path, pod: str = "cidc-stream-3"
) -> StreamConfig:
    """Load what a pod loads, with files in place of its secrets, and check it as `check` does."""
    text = only([each for each in of_kind(objects, "ConfigMap") if "cameras.yaml" in each["data"]],
                "ConfigMap")["data"]["cameras.yaml"]  # fmt: skip
    secrets = tmp_path / "secrets"
    pod_spec = only(objects, "StatefulSet")["spec"]["template"]["spec"]
    mounts = {each["name"]: each["mountPath"] for each in container(objects)["volumeMounts"]}
    for volume in pod_spec["volumes"]:
        if "secret" not in volume:
            continue
        folder = secrets / mounts[volume["name"]].removeprefix("/run/secrets/")
        folder.mkdir(parents=True)
        for item in volume["secret"].get("items", []):
            (folder / item["path"]).write_text("a-secret")
    if (authority := secrets / "kafka-tls" / "ca.crt").exists():
        shutil.copy(certifi.where(), authority)
    file = tmp_path / "cameras.yaml"
    file.write_text(text.replace("/run/secrets", str(secrets)), encoding="utf-8")
    arguments = [each.replace("$(POD_NAME)", pod) for each in container(objects)["args"]]
    config = load_config(file, StreamConfig, _parser().parse_args(arguments).set)
    check_settings(config)
    return config


@pytest.mark.parametrize("example", VALUES)
def test_the_product_accepts_the_configuration_of_every_example(
    example: str, tmp_path: Path
) -> None:
    objects = render(example=example)
    config = checked(objects, tmp_path)
    is_fleet = example != "one-node"
    assert (config.cameras_from.topic is not None) is is_fleet
    assert config.cameras_from.worker == ("cidc-stream-3" if is_fleet else None)
    assert bool(config.cameras) is not is_fleet
    assert config.infer.threads == int(container(objects)["resources"]["limits"]["cpu"])


def test_settings_and_files_of_secrets_arrive(tmp_path: Path) -> None:
    kafka = {
        "bootstrap": ["broker:9093"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "cidc",
    }
    given: dict[str, Any] = FLEET | {"kafka": kafka, "outbox": {"max_events": 1_000_000}}
    objects = render({"config": given, "secrets": SECRETS})
    config = checked(objects, tmp_path)
    assert config.outbox.max_events == 1_000_000
    assert config.http.secret() == "a-secret"
    assert config.cameras_from.secrets_dir == tmp_path / "secrets/cameras"
    assert config.kafka.sasl_password_file is not None
    assert Path(config.kafka.sasl_password_file).read_text() == "a-secret"
    volumes = only(objects, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    (tls,) = (each for each in volumes if each["name"] == "secrets-kafka-tls")
    assert tls["secret"]["items"] == [{"key": "authority.pem", "path": "ca.crt"}]


def test_what_the_pipeline_writes_lies_in_volumes_that_it_may_write(tmp_path: Path) -> None:
    objects = render({"config": {"snapshots": {"enabled": True}}})
    config = checked(objects, tmp_path)
    mounts = {each["mountPath"]: each for each in container(objects)["volumeMounts"]}
    assert config.infer.engine_cache is not None
    for path, mount in (
        (config.outbox.path, "/var/lib/cidc"),
        (config.snapshots.path, "/var/lib/cidc"),
        (config.infer.engine_cache, "/var/cache/cidc"),
    ):
        assert Path(path).is_relative_to(mount)
        assert not mounts[mount].get("readOnly")
    assert mounts["/etc/cidc"]["readOnly"] is True


def test_every_setting_of_the_product_can_be_a_value(tmp_path: Path) -> None:
    """configs/stream.yaml has every key; only those that the chart sets itself are taken out."""
    tree = yaml.safe_load(example_path("stream.yaml").read_text(encoding="utf-8"))
    sections = {
        type(value).__name__: name
        for name, value in StreamConfig.model_validate(tree)
        if not isinstance(value, tuple)
    }
    for settings, owned in OWNED.items():
        for name in owned if settings in sections else ():  # not those of lists, such as mqtt
            del tree[sections[settings]][name]
    del tree["http"]["host"]
    config = checked(render({"config": tree}), tmp_path)
    assert config.clip.fps == tree["clip"]["fps"]
    assert config.events.default.model_dump() == tree["events"]["default"]


@pytest.mark.parametrize(
    ("cpu", "threads"), [("2", 2), (3, 3), ("3500m", 4), (0.5, 1), (None, InferConfig().threads)]
)
def test_the_network_has_a_thread_for_each_cpu_of_the_limit(
    cpu: Any, threads: int, tmp_path: Path
) -> None:
    config = checked(render({"resources": {"limits": {"cpu": cpu}}}), tmp_path)
    assert config.infer.threads == threads


def test_settings_that_are_given_are_kept(tmp_path: Path) -> None:
    given = {
        "infer": {"threads": 1, "device": "auto"},
        "http": {"host": "::", "hosts": ["a.example"]},
    }
    config = checked(render({"config": given, "gpu": {"enabled": True}}), tmp_path)
    assert (config.infer.threads, config.infer.device) == (1, "auto")
    assert config.http.host == "::"
    assert "a.example" in config.http.hosts


@pytest.mark.parametrize("domain", ["cluster.local", "k8s.example.org"])
def test_the_server_answers_to_probes_prometheus_and_the_names_of_its_services(
    domain: str, tmp_path: Path
) -> None:
    objects = render({"clusterDomain": domain})
    rule = HostRule(checked(objects, tmp_path).http.hosts)
    hosts = ["10.42.0.17:9108", "[fd00::17]:9108"]
    for service in of_kind(objects, "Service"):
        name = service["metadata"]["name"]
        in_cluster = f"{name}.{NAMESPACE}"
        hosts += [name, in_cluster, f"{in_cluster}.svc", f"{in_cluster}.svc.{domain}"]
    for host in hosts:
        rule.check(Headers({"host": host}))


def test_probes_ask_for_paths_and_a_port_that_the_product_serves(tmp_path: Path) -> None:
    objects = render(example="gpu-fleet")
    pod = container(objects)
    paths = {name: pod[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in paths.items()} == {
        "startup": "/startup",
        "liveness": "/live",
        "readiness": "/ready",
    }
    (port,) = pod["ports"]
    assert {probe["port"] for probe in paths.values()} == {port["name"]}
    assert checked(objects, tmp_path).http.port == port["containerPort"] == 9108
    start = pod["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] == 900


def test_a_configuration_in_a_secret_is_mounted_and_completed(tmp_path: Path) -> None:
    objects = render({"configFrom": {"secret": "cidc-config", "key": "a.yaml", "fleet": True}})
    assert not of_kind(objects, "ConfigMap")
    volumes = only(objects, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    (config,) = (each for each in volumes if each["name"] == "config")
    assert config["secret"]["secretName"] == "cidc-config"
    assert config["secret"]["items"] == [{"key": "a.yaml", "path": "cameras.yaml"}]
    file = tmp_path / "cameras.yaml"
    file.write_text("cameras_from: {topic: cidc-cameras}\nkafka: {bootstrap: [broker:9092]}\n")
    arguments = [each.replace("$(POD_NAME)", "w-0") for each in container(objects)["args"]]
    loaded = load_config(file, StreamConfig, _parser().parse_args(arguments).set)
    assert (loaded.http.host, loaded.http.port) == ("0.0.0.0", 9108)
    assert str(loaded.outbox.path) == "/var/lib/cidc/outbox.db"
    assert loaded.cameras_from.worker == "w-0"


def test_variables_and_volumes_of_your_own_are_added() -> None:
    values = {
        "extraEnv": [{"name": "PROMETHEUS_DISABLE_CREATED_SERIES", "value": "True"}],
        "extraVolumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}}],
        "extraVolumeMounts": [{"name": "weights", "mountPath": "/weights", "readOnly": True}],
    }
    objects = render(values)
    assert values["extraEnv"][0] in container(objects)["env"]
    assert values["extraVolumeMounts"][0] in container(objects)["volumeMounts"]
    volumes = only(objects, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    assert values["extraVolumes"][0] in volumes


PAGE = ROOT / "docs/how-to/kubernetes.md"


def test_values_on_the_page_can_be_used() -> None:
    blocks = re.findall(r'^```yaml title="values"\n(.*?)^```', PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) >= 3
    for block in blocks:
        render(yaml.safe_load(block), example="cpu-fleet")


def test_helm_commands_on_the_page_can_be_used() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^\$ helm (?:install|upgrade) (\S+) \S+(.*)$", text, re.M)
    assert len(commands) >= 3
    for release, options in commands:
        words = [word.strip("'") for word in options.split() if word != "--reuse-values"]
        base = ["--values", str(VALUES["cpu-fleet"])] if "--reuse-values" in options else []
        run_helm("template", release, CHART, *base, *words)


def test_secrets_made_as_on_the_page_have_the_keys_that_the_chart_mounts(tmp_path: Path) -> None:
    commands = re.findall(r"^\$ kubectl (.* create secret .*)$", PAGE.read_text("utf-8"), re.M)
    (tmp_path / "secrets").mkdir()
    for name in ("secrets/front-door-password", "token", "password", "ca.crt"):
        (tmp_path / name).write_text("a-secret")
    made = {}
    for command in commands:
        secret = yaml.safe_load(
            subprocess.run(
                [TOOLS / "kubectl", *command.split(), "--dry-run=client", "--output=yaml"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            ).stdout
        )
        made[secret["metadata"]["name"]] = set(secret["data"])
    objects = render(example="cpu-fleet")
    volumes = only(objects, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    mounted = {each["secret"]["secretName"]: each["secret"] for each in volumes if "secret" in each}
    assert made.keys() == mounted.keys()
    for name, secret in mounted.items():
        keys = {item["key"] for item in secret.get("items", [])}
        assert keys == made[name] or name == "cidc-cameras"
    assert made["cidc-cameras"] == {"front-door-password"}
