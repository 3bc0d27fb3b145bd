#!/usr/bin/env bash
# LLM calls with plain curl, HTTP/1.1 and HTTP/2, streaming and not. curl_calls.sh BASE_URL; the CA from SSL_CERT_FILE.
set -eu
url=$1
ca=${SSL_CERT_FILE:+--cacert $SSL_CERT_FILE}
ask() { curl --silent --show-error --fail $ca "$@"; echo; }
json='content-type: application/json'
ask --http1.1 -H "$json" -H 'x-api-key: sk-ant-test-0000' -H 'anthropic-version: 2023-06-01' "$url/v1/messages" \
  -d '{"model":"claude-sonnet-5-5","max_tokens":64,"messages":[{"role":"user","content":"hello from curl"}]}'
ask --http1.1 -N -H "$json" -H 'authorization: Bearer sk-test-0000' "$url/v1/chat/completions" \
  -d '{"model":"gpt-5-mini","stream":true,"messages":[{"role":"user","content":"hello from curl, streamed"}]}'
ask --http2 -N -H "$json" -H 'authorization: Bearer sk-test-0000' "$url/v1/responses" \
  -d '{"model":"gpt-5.6","stream":true,"input":"hello from curl over HTTP/2"}'
