"""The fake of TensorRT against the real package, and what is said where it is missing."""

import importlib
import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from configs import ConfigError
from model.inference.tensorrt_library import tensorrt_module, why_not_tensorrt
from tests.support.fake_tensorrt import ATTRIBUTES, MEMBERS, SIGNATURES, FakeTensorRT

# The functions of TensorRT's libraries that its Python module links to. With libraries that only
# have these, the module can be imported without a driver.
STUBS = """
void *createInferBuilder_INTERNAL(void) { return 0; }
void *createInferRefitter_INTERNAL(void) { return 0; }
void *createInferRuntime_INTERNAL(void) { return 0; }
void *createNvOnnxParser_INTERNAL(void) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void) { return 0; }
void *getBuilderPluginRegistry(void) { return 0; }
void *getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void) { return 1; }
"""
DESCRIBE = """
import ctypes, json, sys
for library in sys.argv[1].split(":"):
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
import tensorrt_bindings as trt
def find(name):
    found = trt
    for part in name.split("."):
        found = getattr(found, part)
    return found
docs = {name: find(name).__doc__ or "" for name in json.loads(sys.argv[2])}
print(json.dumps(docs))
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the docstrings of what is used; those of methods have the names of arguments.

    Fails if the package lacks anything of it.
    """
    spec = importlib.util.find_spec("tensorrt_bindings")
    if spec is None or spec.origin is None:
        pytest.skip("the package tensorrt_cu13_bindings is not installed")
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to build stubs of TensorRT's libraries")
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "stubs.c").write_text(STUBS)
    module = next(Path(spec.origin).parent.glob("tensorrt*.so")).read_bytes()
    needed = re.findall(rb"lib(?:nvinfer|nvinfer_plugin|nvonnxparser)\.so\.\d+", module)
    libraries = [str(folder / name.decode()) for name in sorted(set(needed))]
    assert len(libraries) == 3
    for library in libraries:
        name = Path(library).name
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", library]
        subprocess.run([*command, str(folder / "stubs.c")], check=True)
    members = [f"{kind}.{member}" for kind, names in MEMBERS.items() for member in names]
    names = json.dumps([*SIGNATURES, *ATTRIBUTES, *members])
    command = [sys.executable, "-c", DESCRIBE, ":".join(libraries), names]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 0, found.stderr
    docs: dict[str, str] = json.loads(found.stdout)
    return docs


def test_the_real_package_takes_these_arguments(real: dict[str, str]) -> None:
    for name, mine in SIGNATURES.items():
        method = name.rpartition(".")[2]
        overloads = re.findall(rf"\b{method}\((self: [^\n]*)\) ->", real[name])
        found = [tuple(re.findall(r"(?:^|, )(\w+): ", text)[1:]) for text in overloads]
        assert any(names[: len(mine)] == mine for names in found), (name, real[name])


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_fake_takes_the_same_arguments(name: str) -> None:
    of_class, _, method = name.partition(".")
    signature = inspect.signature(getattr(getattr(FakeTensorRT(), of_class), method))
    assert tuple(signature.parameters)[1:] == SIGNATURES[name]


def test_the_fake_has_the_same_members() -> None:
    fake = FakeTensorRT()
    for name in ATTRIBUTES:
        of_class, _, attribute = name.partition(".")
        assert hasattr(getattr(fake, of_class), attribute)
    for name, members in MEMBERS.items():
        kind: Any = fake
        for part in name.split("."):
            kind = getattr(kind, part)
        assert {member.name for member in kind} >= set(members)


@pytest.mark.parametrize(
    ("version", "error", "reason"),
    [
        ("11.4.0.106", None, ""),
        ("10.13.2.6", None, ""),
        ("10.9.0.34", None, r"TensorRT 10\.9\.0\.34 is older than 10\.13"),
        ("8.6.1", None, r"TensorRT 8\.6\.1 is older than 10\.13"),
        ("", ImportError("no", name="tensorrt"), "TensorRT is not installed"),
        ("", ImportError("libnvinfer.so.11: cannot open"), "cannot be loaded: libnvinfer"),
        ("", OSError("invalid ELF header"), "cannot be loaded: invalid ELF header"),
    ],
)
def test_the_reason_is_said_with_the_remedy(
    version: str, error: Exception | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("tensorrt")
    module.__dict__["__version__"] = version

    def load(name: str) -> ModuleType:
        assert name == "tensorrt"
        if error is not None:
            raise error
        return module

    monkeypatch.setattr(importlib, "import_module", load)
    assert re.search(reason, why_not_tensorrt())
    if not reason:
        assert why_not_tensorrt() == ""
        assert tensorrt_module() is module
        return
    with pytest.raises(ConfigError, match=rf"{reason}.*cidc-stream\[tensorrt\]"):
        tensorrt_module()
