#!/usr/bin/env bash
# `make run`: a real Python agent with the real anthropic SDK, watched by heron, against the scripted model server.
# Usage: demo.sh HERON [-- options for heron exec]. The console stays up until ctrl-C.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
heron=$(realpath "${1:?usage: demo.sh HERON}")
shift
cache=${HERON_TEST_CACHE:-$here/../target/test-cache}
python=$(cd "$cache" && pwd)/venv/bin/python
work=$(mktemp -d)
"$python" "$here/server/model_server.py" --dir "$work" --record "$work/record.jsonl" --die-with-parent >"$work/ready.json" &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
until [ -s "$work/ready.json" ]; do
    kill -0 "$server" 2>/dev/null || { echo "demo: the model server did not start" >&2; exit 1; }
    sleep 0.1
done
field() { "$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$work/ready.json" "$1"; }

sudo=()
if [ "$(id -u)" != 0 ]; then
    sudo=(sudo --preserve-env=SSL_CERT_FILE)
fi
export SSL_CERT_FILE; SSL_CERT_FILE=$(field ca)
# The demo's calls go into a database of their own, not into the user's history.
"${sudo[@]}" "$heron" exec --keep --db "$work/demo.duckdb" "$@" -- \
    "$python" "$here/agents/anthropic_agent.py" --base-url "https://localhost:$(field tls_port)" --calls 6 --mixed \
    --prompt "Run the probe, then tell me what you saw"
