#!/usr/bin/env python3
"""Many HTTPS requests that are no LLM calls, with LLM calls between them, on keep-alive connections of one process.

    noise.py --base-url URL [--requests 1000] [--llm-every 100] [--body 2000]

Prints one JSON line: how many of each were made, and the body bytes that must never be copied.
"""

import argparse
import http.client
import json
import os
import ssl
from urllib.parse import urlsplit

PATHS = ["/api/event_logging/batch", "/v1/traces", "/telemetry", "/api/2/envelope/", "/git-upload-pack", "/v1/messages-log", "/upload/204"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--llm-every", type=int, default=100)
    parser.add_argument("--body", type=int, default=2000)
    args = parser.parse_args()
    url = urlsplit(args.base_url)
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
        connection = http.client.HTTPSConnection(url.hostname, url.port, context=context)
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port)
    noise_sent = noise_received = calls = 0
    for i in range(args.requests):
        body = json.dumps({"event": i, "secret": "noise-must-not-be-seen ", "fill": "n" * args.body}).encode()
        connection.request("POST", PATHS[i % len(PATHS)], body, {"content-type": "application/json"})
        noise_received += len(connection.getresponse().read())
        noise_sent += len(body)
        if args.llm_every and (i + 1) % args.llm_every == 0:
            ask = {"model": "claude-sonnet-5-5", "max_tokens": 64, "stream": bool(calls % 2), "messages": [{"role": "user", "content": f"call {i}"}]}
            connection.request("POST", "/v1/messages", json.dumps(ask).encode(), {"content-type": "application/json", "x-api-key": "sk-ant-test-0000", "anthropic-version": "2023-06-01"})
            connection.getresponse().read()
            calls += 1
    print(json.dumps({"noise": args.requests, "noise_sent": noise_sent, "noise_received": noise_received, "calls": calls}))


if __name__ == "__main__":
    main()
