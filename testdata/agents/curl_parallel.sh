#!/usr/bin/env bash
# Four LLM calls at a time on one HTTP/2 connection with plain curl. curl_parallel.sh BASE_URL; the CA from SSL_CERT_FILE.
set -eu
url=$1
common=(--silent --show-error --fail --http2 --cacert "$SSL_CERT_FILE" -H 'content-type: application/json' -H 'x-api-key: sk-ant-test-0000' -H 'anthropic-version: 2023-06-01')
args=(--parallel --parallel-max 4)
for n in 1 2 3 4 5 6; do
  [ "$n" = 1 ] || args+=(--next)
  args+=("${common[@]}" -H "x-call: $n" -d "{\"model\":\"claude-sonnet-5-5\",\"max_tokens\":64,\"stream\":$([ $((n % 2)) = 0 ] && echo true || echo false),\"messages\":[{\"role\":\"user\",\"content\":\"call $n\"}]}" "$url/v1/messages")
done
curl "${args[@]}"
