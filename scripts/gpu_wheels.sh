#!/usr/bin/env bash
# Pack what a GPU machine without a network may lack into .gpu-wheels, for `make gpu-check` there: pydantic for the network, PyAV for the
# pipeline. DALI (half a gigabyte) only with WITH_DALI=1. PYTHON_TAG names the other machine's Python, 3.12 by default.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${PYTHON_TAG:-3.12}
platforms=()
for glibc in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64)
packages="pydantic pydantic-core annotated-types typing-inspection typing-extensions av kafka-python prometheus-client fastapi annotated-doc opentelemetry-api starlette anyio uvicorn opencv-python-headless"
if [ "${WITH_DALI:-}" = 1 ]; then packages="$packages nvidia-dali-cuda130"; fi

rm -rf .gpu-wheels
for name in $packages; do
    pinned=$(grep -i "^${name//-/[-_]}==" constraints.txt | head -1 || true)
    .venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version "$tag" \
        --implementation cp "${platforms[@]}" --dest .gpu-wheels "${pinned:-$name}"
done
du -sh .gpu-wheels
