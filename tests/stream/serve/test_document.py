"""The OpenAPI document, and whether the server keeps to it."""

from __future__ import annotations

import collections
import contextlib
import json
import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from configs import CameraError
from stream.cameras.config import CameraConfig
from tests.stream.serve.rig import Rig

GUARDED = {"401", "403", "503"}
BODY = {"400", "408", "413", "415", "422"}
# What clients rely on: the statuses of every method of every path.
STATUSES = {
    "/metrics": {"get": {"200", "403", "421", "503"}},
    "/health": {"get": {"200", "403", "421", "503"}},
    "/startup": {"get": {"200", "503"}},
    "/ready": {"get": {"200", "503"}},
    "/live": {"get": {"200", "503"}},
    "/openapi.json": {"get": {"200", "403", "421", "503"}},
    "/cameras": {
        "get": {"200"} | GUARDED,
        "post": {"201", "202", "409", "507"} | BODY | GUARDED,
    },
    "/cameras/{camera_id}": {
        "get": {"200", "404"} | GUARDED,
        "patch": {"200", "202", "404", "409", "507"} | BODY | GUARDED,
        "delete": {"202", "204", "404", "422", "507"} | GUARDED,
    },
    "/cameras/{camera_id}/pause": {"post": {"200", "404", "422", "507"} | GUARDED},
    "/cameras/{camera_id}/resume": {"post": {"200", "404", "409", "422", "507"} | GUARDED},
    "/discover": {"get": {"200"} | GUARDED, "post": {"200", "409", "507"} | BODY | GUARDED},
    "/snapshots/{camera_id}/{name}": {"get": {"200", "404"} | GUARDED},
}


def test_the_document_has_every_path_method_and_status(rig: Rig) -> None:
    paths = rig.ask("GET", "/openapi.json")[1]["paths"]
    found = {
        path: {method: set(each["responses"]) for method, each in operations.items()}
        for path, operations in paths.items()
    }
    assert found == STATUSES


def test_the_document_asks_for_the_token_where_the_server_does(rig: Rig) -> None:
    document = rig.ask("GET", "/openapi.json")[1]
    scheme = document["components"]["securitySchemes"]["token"]
    assert scheme == {"type": "http", "scheme": "bearer"}
    for path, operations in document["paths"].items():
        is_guarded = path.startswith(("/cameras", "/discover", "/snapshots"))
        for operation in operations.values():
            assert operation.get("security") == ([{"token": []}, {}] if is_guarded else None)


def test_the_document_describes_cameras_as_they_are_sent(rig: Rig) -> None:
    document = rig.ask("GET", "/openapi.json")[1]
    schemas = document["components"]["schemas"]
    sent = rig.ask("GET", "/cameras/a")[1]
    # The name of the worker is sent only where there are several.
    properties = set(schemas["Camera"]["properties"]) - {"worker"}
    assert properties == set(schemas["Camera"]["required"]) == set(sent)
    settings = set(CameraConfig.model_fields)
    for name, required in (("NewCamera", ["id", "url"]), ("CameraChange", [])):
        assert set(schemas[name]["properties"]) == settings
        assert schemas[name]["required"] == required
    assert set(schemas["Error"]["properties"]) == {"error"}
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert named == set(schemas)  # no reference leads nowhere, and nothing is left over


@pytest.mark.slow
def test_any_request_gets_an_answer_that_the_document_names(rig: Rig) -> None:
    document = rig.ask("GET", "/openapi.json")[1]
    address = f"http://127.0.0.1:{rig.server.port}"
    schema = schemathesis.openapi.from_dict(document | {"servers": [{"url": address}]})
    counts: dict[str, int] = {}
    for operation in schema.get_all_operations():
        for mode in GenerationMode:
            run_operation(operation.ok(), mode, rig, counts)
    assert len(counts) == sum(
        len(set(operations) & {"get", "post", "patch", "delete"})
        for operations in document["paths"].values()
    )


def run_operation(operation: Any, mode: GenerationMode, rig: Rig, counts: dict[str, int]) -> None:
    # Nothing to spoil: no parameters and no body, or a camera that may have any name.
    if mode is GenerationMode.NEGATIVE and not operation.body:
        return

    @given(case=operation.as_strategy(generation_mode=mode), known=st.integers(0, 9))
    @settings(
        max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    def check(case: Any, known: int) -> None:
        if "camera_id" in case.path_parameters and known:  # mostly a camera that exists
            case.path_parameters["camera_id"] = "a"
            with contextlib.suppress(CameraError):
                rig.manager.add({"id": "a", "url": "rtsp://h/a"})
        answer = case.call(base_url=f"http://127.0.0.1:{rig.server.port}", timeout=10)
        counts[operation.label] = counts.get(operation.label, 0) + 1
        seen[answer.status_code] += 1
        # Not all that a schema allows can be used: a file must exist, edges must be in order.
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])

    seen: collections.Counter[int] = collections.Counter()
    check()
    if operation.path.startswith("/cameras/") and mode is GenerationMode.POSITIVE:
        assert sum(count for status, count in seen.items() if status in (200, 204, 422)) > 10, seen
