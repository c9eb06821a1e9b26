#!/usr/bin/env bash
# Make .venv with everything that running and testing need. Does nothing when that is done already.
# CIDC_UNLOCKED=1 installs the versions of constraints.txt without comparing hashes.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m== %s\033[0m\n' "$*"; }

stamp=.venv/.set-up
wanted=$(cat pyproject.toml constraints.txt requirements.lock | sha256sum | cut -d' ' -f1)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi

python=${PYTHON_FOR_VENV:-}
if [ -z "$python" ]; then
    for candidate in python3.12 python3.11 python3.13 python3; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
fi
if [ -z "$python" ]; then
    echo "error: Python 3.11, 3.12 or 3.13 is needed; install one (Debian: apt install python3 python3-venv)," \
        "or name another with PYTHON_FOR_VENV=..., which is not tested" >&2
    exit 1
fi

say "Making .venv with $("$python" --version) (once; a few minutes, about 2 GB)"
if [ ! -x .venv/bin/python ]; then
    rm -rf .venv
    "$python" -m venv .venv 2>/dev/null ||
        { rm -rf .venv; "$python" -m virtualenv .venv 2>/dev/null; } ||
        { rm -rf .venv; "$python" -m venv --without-pip .venv && "$python" -m pip --version >/dev/null 2>&1; } || {
            rm -rf .venv
            echo "error: $python can make no virtual environment; install the module (Debian: apt install python3-venv)" >&2
            exit 1
        }
fi
pip() {
    if [ -x .venv/bin/pip ]; then .venv/bin/python -m pip "$@"; else "$python" -m pip --python .venv/bin/python "$@"; fi
}

pip_install() { pip install --quiet --disable-pip-version-check "$@"; }

if [ -z "${CIDC_UNLOCKED:-}" ]; then
    say "Installing packages (versions and hashes pinned in requirements.lock)"
    pip_install --no-deps --require-hashes --only-binary :all: --requirement requirements.lock || {
        echo "error: the packages of requirements.lock could not be installed; pip's message above says why." \
            "If your package index builds its own wheels, or this is another Python or machine than Linux on x86_64 or aarch64," \
            "no hash fits: CIDC_UNLOCKED=1 make setup installs the same versions without comparing hashes" >&2
        exit 1
    }
else
    say "Installing packages (versions pinned in constraints.txt, hashes not compared: CIDC_UNLOCKED is set)"
    pip_install --constraint constraints.txt setuptools wheel
fi
# PyTorch by its exact version, without a hash: this lets pip take a CPU build where one is at hand.
pip_install --constraint constraints.txt "$(grep '^torch==' constraints.txt)"
if [ -z "${CIDC_UNLOCKED:-}" ]; then
    pip_install --no-deps --no-build-isolation --editable .
    pip check >/dev/null || { pip check >&2 || true; echo "error: packages are missing in constraints.txt" >&2; exit 1; }
else
    pip_install --constraint constraints.txt --no-build-isolation --editable '.[dev,train]'
fi
echo "$wanted" > "$stamp"
say "Ready"
