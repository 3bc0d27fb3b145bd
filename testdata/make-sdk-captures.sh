#!/usr/bin/env bash
# make-sdk-captures.sh [NAME...]: all captures, or only those named.
# Makes pcaps/sdk/*: what the vendors' SDKs and the scripted server said to each other, as captures with their ground truth
# (NAME.pcap, NAME.record.jsonl). Run it again only when the server or an SDK changes; tests/sdk_captures.rs reads the files.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${HERON_TEST_CACHE:-$here/../target/test-cache}
"$here/install-sdks.sh"
cache=$(cd "$cache" && pwd)
export HERON_TEST_CACHE=$cache
python=$cache/venv/bin/python
out=$here/pcaps/sdk
wanted=" $* "
mkdir -p "$out"
scenario=$(mktemp)
# Content encodings and odd chunk sizes on some of the calls.
cat >"$scenario" <<'JSON'
{"rules": [
  {"when": {"n": [3]}, "do": {"encoding": "gzip", "chunk": [7, 1, 90]}},
  {"when": {"n": [4]}, "do": {"encoding": "br", "chunk": [3, 200]}},
  {"when": {"n": [5]}, "do": {"encoding": "zstd"}},
  {"when": {"n": [6]}, "do": {"chunk": [1, 2, 3, 5, 8, 13]}},
  {"when": {"n": [7]}, "do": {"encoding": "deflate", "tool_calls": 2}},
  {"when": {"n": [8]}, "do": {"answer_bytes": 30000}}
]}
JSON

# capture NAME COMMAND...: {url} in the command is the server's, {plain} the same without TLS.
capture() {
  local name=$1 dir server line; shift
  if [ "$wanted" != "  " ] && [[ "$wanted" != *" $name "* ]]; then return; fi
  dir=$(mktemp -d)
  mkfifo "$dir/ready"
  "$python" "$here/server/model_server.py" --dir "$dir" --record "$dir/record.jsonl" --streams "$dir/streams.jsonl" --bodies hash \
    --scenario "$scenario" --die-with-parent >"$dir/ready" &
  server=$!
  read -r line <"$dir/ready"
  port() { python3 -c 'import json,sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$line" "$1"; }
  set -- "${@//\{url\}/https://localhost:$(port tls_port)}"
  set -- "${@//\{plain\}/http://127.0.0.1:$(port http_port)}"
  env SSL_CERT_FILE="$dir/ca.pem" NODE_EXTRA_CA_CERTS="$dir/ca.pem" DENO_TLS_CA_STORE=system "$@" >"$dir/said"
  kill "$server"
  wait "$server" || true
  "$here/streams_to_pcap.py" --epoch "$dir/streams.jsonl" "$out/$name.pcap"
  cp "$dir/record.jsonl" "$out/$name.record.jsonl"
  rm -r "$dir"
  echo "$name: $(wc -l <"$out/$name.record.jsonl") exchanges, $(stat -c %s "$out/$name.pcap") bytes"
}

agents=$here/agents
others=${HERON_AGENTS_DIR:?the folder for agents-matrix/install.sh}
"$here/agents-matrix/install.sh" go node26 deno
scratch=$(mktemp -d)
GOPROXY=off GOFLAGS=-mod=mod GOCACHE=$scratch/go HOME=$scratch "$others/go/venv/bin/go" build -C "$here/agents-matrix/go-client" -o "$scratch/go-client" .
cargo build --quiet --locked --manifest-path "$agents/reqwest/Cargo.toml" --target-dir "$here/../target/reqwest"
node26=$(find "$others/node26" -path '*/bin/node' -type f | head -n 1)
deno=$(find "$others/deno" -name deno -type f -perm -u+x | head -n 1)
capture py-anthropic "$python" "$agents/anthropic_agent.py" --base-url '{url}' --calls 8 --mixed --thinking
capture py-anthropic-h2 "$python" "$agents/anthropic_agent.py" --base-url '{url}' --calls 12 --async --http2 --concurrency 3
capture py-openai "$python" "$agents/openai_agent.py" --base-url '{url}' --calls 8 --mixed
capture py-openai-h2 "$python" "$agents/openai_agent.py" --base-url '{url}' --calls 12 --async --http2 --concurrency 3
capture py-openai-responses "$python" "$agents/openai_agent.py" --base-url '{url}' --calls 8 --mixed --responses --thinking
capture py-gemini "$python" "$agents/gemini_agent.py" --base-url '{url}' --calls 8 --mixed --thinking
capture py-bedrock-converse "$python" "$agents/bedrock_agent.py" --base-url '{url}' --calls 8 --mixed
capture py-bedrock-invoke "$python" "$agents/bedrock_agent.py" --base-url '{url}' --calls 4 --mixed --model anthropic.claude-sonnet-5-5-v1:0
capture py-litellm "$python" "$agents/litellm_agent.py" --base-url '{url}' --calls 4 --mixed
capture js-anthropic node "$agents/anthropic_agent.mjs" --base-url '{url}' --calls 8 --mixed --concurrency 2
capture js-openai node "$agents/openai_agent.mjs" --base-url '{url}' --calls 8 --mixed
capture js-openai-responses node "$agents/openai_agent.mjs" --base-url '{url}' --calls 8 --mixed --responses
capture curl "$agents/curl_calls.sh" '{url}'
capture noise "$python" "$agents/noise.py" --base-url '{url}' --requests 60 --llm-every 10 --body 200
# HTTP/2 as every family of clients speaks it.
capture h2-node node "$agents/http2_agent.mjs" '{url}' 9
capture h2-node-fetch "$node26" "$agents/fetch_agent.mjs" '{url}' 3
capture h2-deno "$deno" run --no-config --allow-all "$agents/fetch_agent.mjs" '{url}' 3
capture h2-go "$scratch/go-client" '{url}' 3
capture h2-reqwest "$here/../target/reqwest/debug/heron-reqwest-client" '{plain}' 9
capture h2-curl "$agents/curl_parallel.sh" '{url}'
echo '{}' >"$scenario"
capture ws-python "$python" "$agents/websocket_agent.py" --base-url '{url}'
capture ws-node node "$agents/websocket_agent.mjs" '{url}'
capture every-call "$python" "$agents/every_call.py" --base-url '{url}'
rm -r "$scenario" "$scratch"
