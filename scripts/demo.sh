#!/usr/bin/env bash
# Four recorded cameras, never seen in training, analysed live; then a comparison with what truly happened.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m== %s\033[0m\n' "$*"; }

python=.venv/bin/python
seed=${DEMO_SEED:-2024}
minutes=${DEMO_MINUTES:-1}
folder=.work/demo

if [ "$(cat $folder/made-from 2>/dev/null)" != "$seed $minutes" ]; then
    say "Filming four recordings of $minutes min (seed $seed): real H.264 files with a truth file"
    rm -rf $folder
    $python -m train scenes --out $folder --seed "$seed" --clips 0 --recordings 4 --minutes "$minutes"
    echo "$seed $minutes" > $folder/made-from
fi

say "Analysing four cameras in real time (metrics on a free port; Ctrl-C stops cleanly)"
rm -f $folder/outbox.db*
$python -m stream run --config configs/demo.yaml --set http.port=0 --summary $folder/summary.json "$@"

say "Comparing the events with the truth"
$python -m stream events --outbox $folder/outbox.db --format jsonl > $folder/events.jsonl
$python -m train score --truth $folder/recordings/truth.csv --events $folder/events.jsonl --json $folder/score.json
echo "Details: $folder/summary.json, $folder/score.json; events: $python -m stream events --outbox $folder/outbox.db"
