#!/usr/bin/env bash
# Install the public networks that the importers and the benchmark are checked against into .public-nets/.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.public-nets/.installed
wanted=$(sha256sum < tests/support/public-nets.txt)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi
echo "Installing public networks into .public-nets (100 MB, once)"
rm -rf .public-nets
# No dependencies: they would bring another PyTorch. What the networks need of them is in the list.
python=${PYTHON:-.venv/bin/python}
pip() {
    # A virtual environment made without pip is served by the one outside.
    if "$python" -m pip --version >/dev/null 2>&1; then "$python" -m pip "$@"; else python3 -m pip --python "$python" "$@"; fi
}
pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --target .public-nets --requirement tests/support/public-nets.txt
echo "$wanted" > "$stamp"
