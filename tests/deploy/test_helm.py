"""The Helm chart, rendered by helm: Kubernetes and its restricted profile accept the objects."""

from __future__ import annotations

import functools
import importlib
import json
import sys
import tomllib
from typing import Any

import pytest
import yaml

from stream.__main__ import _parser
from stream.fleet.config import CamerasFrom, worker_name
from tests import ROOT
from tests.support.helm import (
    CHART,
    TOOLS,
    VALUES,
    RefusedError,
    container,
    labels_fit,
    needs_helm,
    of_kind,
    only,
    pod_specs,
    render,
    run_helm,
    with_pods,
)

pytestmark = needs_helm
FLEET: dict[str, Any] = {
    "config": {"cameras_from": {"topic": "cidc-cameras"}, "kafka": {"bootstrap": ["broker:9092"]}}
}
EVERYTHING: dict[str, Any] = FLEET | {
    "replicas": 2,
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "grafanaDashboards": {"enabled": True},
    "drain": {"ordinals": [4, 7]},
}
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    **{name: {"example": name} for name in VALUES},
    "everything": {"values": EVERYTHING},
    "hpa": {"values": FLEET | {"autoscaling": {"kind": "hpa"}}},
    "config from a secret": {"values": {"configFrom": {"secret": "cidc-config", "fleet": True}}},
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# Kubernetes' own schemas do not describe them; their operators bring the definitions.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}


@pytest.fixture(scope="module")
def kubernetes() -> Any:
    """The module kubernetes_validate, with its schemas read once."""
    sys.path.insert(0, str(TOOLS / "python"))
    try:
        module = importlib.import_module("kubernetes_validate")
    finally:
        sys.path.remove(str(TOOLS / "python"))
    module.utils.schema_contents = functools.cache(module.utils.schema_contents)
    return module


@pytest.mark.parametrize("file", [None, *VALUES.values()], ids=lambda file: file and file.stem)
def test_lint_finds_nothing(file: Any) -> None:
    run_helm("lint", "--strict", CHART, *([] if file is None else ["--values", file]))


@pytest.mark.parametrize("version", ["1.27.0", "1.37.0"])
@every_case
def test_kubernetes_accepts_every_object(case: Any, version: str, kubernetes: Any) -> None:
    objects = render(**case)
    for each in objects:
        if each["kind"] not in CUSTOM:
            assert kubernetes.validate(each, version, strict=True) == version.removesuffix(".0")
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)


def test_kubernetes_refuses_an_object_with_a_mistake(kubernetes: Any) -> None:
    wrong = only(render(), "StatefulSet")
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessProbes"] = {}
    with pytest.raises(kubernetes.utils.ValidationError, match="livenessProbes"):
        kubernetes.validate(wrong, "1.37.0", strict=True)


@every_case
def test_pods_meet_the_restricted_profile(case: Any) -> None:
    """The rules of the Pod Security Standard `restricted`, and what this project adds to them."""
    for pod in pod_specs(render(**case)):
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
        allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected"}
        for volume in pod["volumes"]:
            assert volume.keys() - {"name"} <= allowed | {"secret", "persistentVolumeClaim"}
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert {pod["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {
            10001
        }
        assert pod["automountServiceAccountToken"] is False
        for each in pod["containers"]:
            rights = each["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["privileged"] is False
            assert rights["runAsNonRoot"] is True
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert not any("hostPort" in port for port in each.get("ports", ()))


@every_case
def test_every_mount_has_a_volume_and_secrets_are_for_the_group_only(case: Any) -> None:
    objects = render(**case)
    claims = {each["metadata"]["name"] for each in claim_templates(objects)}
    for pod in pod_specs(objects):
        volumes = {volume["name"] for volume in pod["volumes"]} | claims
        for each in pod["containers"]:
            assert {mount["name"] for mount in each["volumeMounts"]} <= volumes
            places = [mount["mountPath"] for mount in each["volumeMounts"]]
            assert len(set(places)) == len(places)
        for volume in pod["volumes"]:
            assert volume.get("secret", {}).get("defaultMode", 0o440) == 0o440


def claim_templates(objects: Any) -> list[dict[str, Any]]:
    return only(objects, "StatefulSet")["spec"]["volumeClaimTemplates"]


@every_case
def test_the_commands_of_all_pods_are_understood(case: Any) -> None:
    for pod in pod_specs(render(**case)):
        _parser().parse_args(pod["containers"][0]["args"])


def test_volumes_outlive_pods_and_release() -> None:
    for example in VALUES:
        kept = only(render(example=example), "StatefulSet")["spec"]
        policy = kept["persistentVolumeClaimRetentionPolicy"]
        assert policy == {"whenDeleted": "Retain", "whenScaled": "Retain"}


@pytest.mark.parametrize(
    ("drain", "given", "grace"), [(0, None, 30), (60, None, 90), (299.5, None, 330), (60, 61, 61)]
)
def test_a_pod_has_longer_to_end_than_it_drains(drain: float, given: Any, grace: int) -> None:
    values = {
        "config": {"kafka": {"drain_seconds": drain}},
        "terminationGracePeriodSeconds": given,
    }
    pod = only(render(values), "StatefulSet")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == grace
    assert grace > drain


def test_a_worker_is_named_after_its_pod_even_with_a_long_name() -> None:
    objects = render(FLEET, release="r" * 53)
    name = only(objects, "StatefulSet")["metadata"]["name"]
    # The hash of a revision is joined to the name in a label of at most 63 characters.
    assert len(name + "-0123456789") <= 63
    assert all(len(each["metadata"]["name"]) <= 63 for each in objects)
    (pod_name,) = (each for each in container(objects)["env"] if each["name"] == "POD_NAME")
    assert pod_name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert container(objects)["args"][-2:] == ["--set", "cameras_from.worker=$(POD_NAME)"]
    worker = CamerasFrom.model_validate({"worker": f"{name}-9999"})
    assert worker_name(worker, ROOT / "outbox.db") == f"{name}-9999"


def test_another_configuration_restarts_the_pods_and_another_number_does_not() -> None:
    def template(values: dict[str, Any]) -> Any:
        return only(render(values), "StatefulSet")["spec"]["template"]

    assert template(FLEET | {"replicas": 5}) == template(FLEET)
    changed = template({"config": FLEET["config"] | {"clip": {"hop": 9}}})
    assert changed["metadata"] != template(FLEET)["metadata"]
    assert changed["spec"] == template(FLEET)["spec"]


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({}, {"PodDisruptionBudget"}),
        ({"podDisruptionBudget": {"enabled": False}}, set()),
        (
            FLEET | {"autoscaling": {"kind": "hpa"}},
            {"PodDisruptionBudget", "HorizontalPodAutoscaler"},
        ),
        (FLEET | {"autoscaling": {"kind": "keda"}}, {"PodDisruptionBudget", "ScaledObject"}),
    ],
)
def test_budget_and_scaling_are_switched(values: Any, kinds: set[str]) -> None:
    objects = render(values)
    switched = {"PodDisruptionBudget", "HorizontalPodAutoscaler", "ScaledObject"}
    assert {each["kind"] for each in objects} & switched == kinds
    # An autoscaler's number of pods would be overwritten by each upgrade.
    scaled = "autoscaling" in values
    assert ("replicas" in only(objects, "StatefulSet")["spec"]) is not scaled


def test_both_autoscalers_aim_at_the_same_load_of_the_same_pods() -> None:
    sizes = {"minReplicas": 3, "maxReplicas": 9, "targetLoad": 0.65}
    hpa_objects = render(FLEET | {"autoscaling": {"kind": "hpa", **sizes}})
    hpa = only(hpa_objects, "HorizontalPodAutoscaler")["spec"]
    keda = only(render(FLEET | {"autoscaling": {"kind": "keda", **sizes}}), "ScaledObject")["spec"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (3, 9)
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (3, 9)
    (metric,) = hpa["metrics"]
    assert metric["pods"] == {
        "metric": {"name": "cidc_worker_load"},
        "target": {"type": "AverageValue", "averageValue": "650m"},
    }
    (trigger,) = keda["triggers"]
    assert (trigger["metadata"]["threshold"], trigger["metricType"]) == ("0.65", "AverageValue")
    assert trigger["metadata"]["query"] == (
        'sum(cidc_worker_load{namespace="video",service="cidc-stream-headless"})'
    )
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    workers = only(hpa_objects, "StatefulSet")
    for target in (hpa["scaleTargetRef"], keda["scaleTargetRef"]):
        assert target["name"] == workers["metadata"]["name"]
        assert (target["apiVersion"], target["kind"]) == (workers["apiVersion"], workers["kind"])


def test_prometheus_finds_every_pod_once() -> None:
    objects = render(EVERYTHING)
    monitor = only(objects, "ServiceMonitor")
    (service,) = (
        each
        for each in of_kind(objects, "Service")
        if labels_fit(monitor["spec"]["selector"]["matchLabels"], each["metadata"]["labels"])
    )
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["metadata"]["name"] == only(objects, "StatefulSet")["spec"]["serviceName"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "cidc-stream"}]
    pods = only(objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert labels_fit(service["spec"]["selector"], pods)


def test_alerts_and_dashboards_are_those_of_the_files() -> None:
    objects = render(EVERYTHING)
    alerts = yaml.safe_load((CHART / "files/alerts.yaml").read_text(encoding="utf-8"))
    assert only(objects, "PrometheusRule")["spec"] == alerts
    maps = [each for each in of_kind(objects, "ConfigMap") if "grafana_dashboard" in labels(each)]
    shown = {name: text for each in maps for name, text in each["data"].items()}
    files = list((CHART / "files/dashboards").glob("*.json"))
    assert files
    assert {name: json.loads(text) for name, text in shown.items()} == {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in files
    }
    assert all(labels(each)["grafana_dashboard"] == "1" for each in maps)


def labels(each: dict[str, Any]) -> dict[str, str]:
    return each["metadata"]["labels"]


def test_the_network_policy_covers_every_pod_and_names_each_way_out() -> None:
    drain = {"drain": {"ordinals": [99]}, "autoscaling": {"kind": "none"}}
    objects = render(drain, example="cpu-fleet")
    policy = only(objects, "NetworkPolicy")["spec"]
    for each in with_pods(objects):
        selector = policy["podSelector"]["matchLabels"]
        assert labels_fit(selector, each["spec"]["template"]["metadata"]["labels"])
    (inward,) = policy["ingress"]
    assert inward["ports"] == [{"protocol": "TCP", "port": 9108}]
    dns, cameras, brokers = policy["egress"]
    assert dns["ports"] == [{"protocol": kind, "port": 53} for kind in ("UDP", "TCP")]
    assert cameras["to"] == [{"ipBlock": {"cidr": "10.0.0.0/16"}}]
    assert {port["port"] for port in cameras["ports"]} == {554, 8554, 80, 443}
    assert brokers["ports"] == [{"protocol": "TCP", "port": 9093}]
    peer = {"ipBlock": {"cidr": "203.0.113.0/24"}}
    given = {"networkPolicy": {"egress": {"sinks": {"to": [peer]}}}}
    *_, sinks = only(render(given, example="cpu-fleet"), "NetworkPolicy")["spec"]["egress"]
    assert sinks["to"] == [peer]
    assert [port["port"] for port in sinks["ports"]] == [443, 8883]
    open_policy = only(render(), "NetworkPolicy")["spec"]
    assert open_policy["policyTypes"] == ["Ingress"]


def test_a_drain_takes_the_volume_that_the_pod_had() -> None:
    objects = render(EVERYTHING)
    workers = only(objects, "StatefulSet")
    (template,) = claim_templates(objects)
    jobs = of_kind(objects, "Job")
    assert len(jobs) == 2
    for job, ordinal in zip(jobs, (4, 7), strict=True):
        pod = job["spec"]["template"]
        (claim,) = (each for each in pod["spec"]["volumes"] if each["name"] == "state")
        name = f"{template['metadata']['name']}-{workers['metadata']['name']}-{ordinal}"
        assert claim["persistentVolumeClaim"]["claimName"] == name
        assert not labels_fit(workers["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"])
        parsed = _parser().parse_args(pod["spec"]["containers"][0]["args"])
        assert str(parsed.file) == yaml.safe_load(config_text(objects))["outbox"]["path"]


def test_a_drain_takes_no_gpu() -> None:
    (job,) = of_kind(render({"drain": {"ordinals": [5]}}, example="gpu-fleet"), "Job")
    (drain,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in drain["env"]
    assert "nvidia.com/gpu" not in drain["resources"]["limits"]


def config_text(objects: Any) -> str:
    (found,) = (each for each in of_kind(objects, "ConfigMap") if "cameras.yaml" in each["data"])
    return found["data"]["cameras.yaml"]


def test_a_gpu_is_asked_for_by_image_resource_and_configuration() -> None:
    objects = render(example="gpu-fleet")
    pod = only(objects, "StatefulSet")["spec"]["template"]["spec"]
    assert container(objects)["image"].endswith("-gpu")
    assert container(objects)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    config = yaml.safe_load(config_text(objects))
    assert config["infer"]["device"] == "cuda"
    on_cpu = render(example="cpu-fleet")
    assert container(on_cpu)["image"].endswith("-cpu")
    assert "device" not in yaml.safe_load(config_text(on_cpu))["infer"]


@pytest.mark.parametrize(
    ("arguments", "said", "not_said"),
    [
        (
            (),
            ["There are no cameras yet", "no broker receives them", "httpToken.name is empty"],
            "list",
        ),
        (("--values", VALUES["one-node"]), ["httpToken.name is empty"], "no cameras yet"),
        (("--values", VALUES["cpu-fleet"]), ["cameras list --config"], "is empty"),
    ],
)
def test_an_install_says_what_is_missing(arguments: Any, said: list[str], not_said: str) -> None:
    text = run_helm("install", "cidc-stream", CHART, "--dry-run=client", *arguments)
    notes = text.partition("NOTES:")[2]
    assert all(each in notes for each in said)
    assert not_said not in notes


def test_a_worker_of_a_fleet_has_time_to_join_before_the_next_one_stops() -> None:
    def seconds(values: dict[str, Any]) -> int:
        return only(render(values), "StatefulSet")["spec"]["minReadySeconds"]

    assert (seconds({}), seconds(FLEET)) == (10, 60)


def test_the_chart_is_of_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]
    assert container(render())["image"] == f"cidc-stream:{project['version']}-cpu"


def test_helm_says_that_a_kubernetes_is_too_old() -> None:
    with pytest.raises(RefusedError, match=r"1\.26"):
        run_helm("template", "cidc-stream", CHART, "--kube-version", "1.26.0")
