#!/usr/bin/env bash
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

# capture NAME COMMAND...: {url} in the command is the server's.
capture() {
  local name=$1 dir server line; shift
  dir=$(mktemp -d)
  mkfifo "$dir/ready"
  "$python" "$here/server/model_server.py" --dir "$dir" --record "$dir/record.jsonl" --streams "$dir/streams.jsonl" --bodies hash \
    --scenario "$scenario" --die-with-parent >"$dir/ready" &
  server=$!
  read -r line <"$dir/ready"
  local url; url=https://localhost:$(python3 -c 'import json,sys; print(json.loads(sys.argv[1])["tls_port"])' "$line")
  env SSL_CERT_FILE="$dir/ca.pem" NODE_EXTRA_CA_CERTS="$dir/ca.pem" "${@//\{url\}/$url}" >"$dir/said"
  kill "$server"
  wait "$server" || true
  "$here/streams_to_pcap.py" --epoch "$dir/streams.jsonl" "$out/$name.pcap"
  cp "$dir/record.jsonl" "$out/$name.record.jsonl"
  rm -r "$dir"
  echo "$name: $(wc -l <"$out/$name.record.jsonl") exchanges, $(stat -c %s "$out/$name.pcap") bytes"
}

agents=$here/agents
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
echo '{}' >"$scenario"
capture every-call "$python" "$agents/every_call.py" --base-url '{url}'
rm "$scenario"
