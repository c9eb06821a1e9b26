#!/usr/bin/env bash
# Pack what a GPU machine without a network may lack into .gpu-wheels, for `make gpu-check` there: pydantic for the network, PyAV for the
# pipeline, PyNvVideoCodec for the decoders, NVML's binding. DALI (half a gigabyte) only with WITH_DALI=1. PYTHON_TAG names the other
# machine's Python, 3.12 by default. PyCUDA has no wheels: its source and what it needs are packed, and it is built there, with CUDA's
# nvcc and g++: pip install --no-index --find-links .gpu-wheels --no-build-isolation pycuda. TensorRT is too large to be packed.
# No folder is larger than PART_MIB (59 by default), for machines that take only so much at a time, unless one package is: what does
# not fit goes to .gpu-wheels-2 and so on, and `make gpu-check` uses all that it finds.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${PYTHON_TAG:-3.12}
platforms=()
for glibc in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64)
packages="pynvvideocodec nvidia-ml-py pytools platformdirs siphash24 mako markupsafe pydantic pydantic-core annotated-types typing-inspection typing-extensions av kafka-python prometheus-client fastapi annotated-doc opentelemetry-api starlette anyio uvicorn opencv-python-headless"
if [ "${WITH_DALI:-}" = 1 ]; then packages="$packages nvidia-dali-cuda130"; fi

rm -rf .gpu-wheels .gpu-wheels-*
for name in $packages; do
    pinned=$(grep -i "^${name//-/[-_]}==" constraints.txt | head -1 || true)
    .venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version "$tag" \
        --implementation cp "${platforms[@]}" --dest .gpu-wheels "${pinned:-$name}"
done
.venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary=pycuda --no-build-isolation \
    --dest .gpu-wheels pycuda

declare -a used=(0)
folder() { if [ "$1" = 0 ]; then echo .gpu-wheels; else echo ".gpu-wheels-$(($1 + 1))"; fi; }
while read -r bytes path; do
    part=0
    while [ "${used[part]:-0}" -gt 0 ] && [ $((used[part] + bytes)) -gt $((${PART_MIB:-59} << 20)) ]; do part=$((part + 1)); done
    used[part]=$((${used[part]:-0} + bytes))
    if [ "$part" -gt 0 ]; then mkdir -p "$(folder "$part")" && mv "$path" "$(folder "$part")"; fi
done < <(find .gpu-wheels -type f -printf '%s %p\n' | sort -rn)
du -sh .gpu-wheels*
