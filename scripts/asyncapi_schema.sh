#!/usr/bin/env bash
# Install the JSON Schema of AsyncAPI 3.0.0 into .work/asyncapi, for a test of docs/asyncapi.yaml. Needs npm; does nothing without it.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=@asyncapi/specs@6.11.1
folder=.work/asyncapi
if [ "$(cat "$folder/wanted" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
if ! command -v npm >/dev/null; then
    echo "npm is missing: the test that compares docs/asyncapi.yaml with the schema of AsyncAPI will be skipped"
    exit 0
fi
rm -rf "$folder"
mkdir -p "$folder"
npm install --prefix "$folder" --no-save --ignore-scripts --no-audit --no-fund --loglevel error "$wanted" >/dev/null
echo "$wanted" > "$folder/wanted"
