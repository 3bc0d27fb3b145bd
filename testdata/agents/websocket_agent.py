#!/usr/bin/env python3
"""OpenAI Responses over a WebSocket with the `websockets` library, several connections, each with its own compression.

    websocket_agent.py --base-url https://localhost:PORT [--turns 3]; the CA from SSL_CERT_FILE
"""

import argparse
import json
import os
import ssl

from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Deflate
from websockets.sync.client import connect

TOOL = {"type": "function", "name": "run_shell", "description": "Runs a command", "parameters": {"type": "object", "properties": {"command": {"type": "string"}}}}
EXTENSIONS = [
    [],
    [Deflate()],
    [Deflate(server_no_context_takeover=True)],
    [Deflate(client_no_context_takeover=True)],
    [Deflate(server_no_context_takeover=True, client_no_context_takeover=True)],
]


def turns(socket, count):
    previous = None
    for turn in range(count):
        items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"turn {turn}: " + "some words " * (4000 if turn == 1 else 3)}]}]
        request = {"type": "response.create", "model": "gpt-5.6", "stream": True, "input": items, "tools": [TOOL]}
        if previous:
            request["previous_response_id"] = previous
        socket.send(json.dumps(request))
        while True:
            event = json.loads(socket.recv())
            if event["type"] == "response.completed":
                previous = event["response"]["id"]
                break
        socket.ping().wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    url = args.base_url.replace("http", "ws", 1) + "/v1/responses"
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    for extensions in EXTENSIONS:
        headers = {"Authorization": "Bearer sk-test-0000", "session-id": "s-1"}
        with connect(url, ssl=context, extensions=extensions, compression=None, additional_headers=headers, max_size=None) as socket:
            turns(socket, args.turns)
            print([str(extension) for extension in socket.protocol.extensions])


main()
