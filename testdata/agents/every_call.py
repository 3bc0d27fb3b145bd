#!/usr/bin/env python3
"""One call of every kind that the scripted server knows, and of every kind of failure, with the standard library only.

    every_call.py --base-url URL [--only PART] [--stress]

--stress repeats a streamed call under every framing, content encoding and chunk size."""

import argparse
import http.client
import json
import os
import ssl
from urllib.parse import urlsplit

USER = "Tell me — ünïcode 🚀"
CHAT = {"model": "gpt-5-mini", "messages": [{"role": "system", "content": "brief"}, {"role": "user", "content": USER}]}
MESSAGES = {"model": "claude-sonnet-5-5", "max_tokens": 64, "system": "brief", "messages": [{"role": "user", "content": USER}]}
RESPONSES = {"model": "gpt-5.6", "instructions": "brief", "input": [{"role": "user", "content": [{"type": "input_text", "text": USER}]}]}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": USER}]}], "systemInstruction": {"parts": [{"text": "brief"}]}}
TOOL = {"type": "object", "properties": {"command": {"type": "string"}, "count": {"type": "integer"}}, "required": ["command", "count"]}
CHAT_TOOL = {"tools": [{"type": "function", "function": {"name": "run_shell", "parameters": TOOL}}]}
OLLAMA = {"model": "qwen3:8b", "messages": [{"role": "user", "content": USER}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": USER}]}], "system": [{"text": "brief"}]}
INVOKE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": [{"role": "user", "content": USER}]}
G = "/v1beta/models/gemini-3.8-flash"

# name, path, body, and what the server shall do
CALLS = [
    ("anthropic", "/v1/messages", MESSAGES, {}),
    ("anthropic", "/v1/messages?beta=true", {**MESSAGES, "stream": True, "thinking": {"type": "enabled", "budget_tokens": 1024}}, {}),
    ("anthropic", "/v1/messages", {**MESSAGES, "stream": True, "tools": [{"name": "run_shell", "input_schema": TOOL}]}, {"tool_calls": 3}),
    ("anthropic", "/v1/messages/count_tokens", MESSAGES, {}),
    ("chat", "/v1/chat/completions", CHAT, {}),
    ("chat", "/v1/chat/completions", {**CHAT, "stream": True}, {}),
    ("chat", "/v1/chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}, **CHAT_TOOL}, {"tool_calls": 2}),
    ("chat", "/v1/chat/completions", {**CHAT, "stream": True, "model": "deepseek-reasoner", "stream_options": {"include_usage": True}}, {}),
    ("chat", "/openai/deployments/my-gpt/chat/completions?api-version=2025-04-01-preview", CHAT, {}),
    ("chat", "/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": USER}, {}),
    ("chat", "/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": USER, "stream": True}, {}),
    ("chat", "/v1/embeddings", {"model": "text-embedding-3-small", "input": [USER, "b"]}, {}),
    ("responses", "/v1/responses", RESPONSES, {}),
    ("responses", "/v1/responses", {**RESPONSES, "stream": True, "reasoning": {"summary": "auto"}}, {}),
    ("responses", "/v1/responses", {**RESPONSES, "stream": True, "tools": [{"type": "function", "name": "run_shell", "parameters": TOOL}]}, {"tool_calls": 2}),
    ("responses", "/v1/responses", {**RESPONSES, "stream": True, "tools": [{"type": "custom", "name": "run_shell"}]}, {}),
    ("gemini", f"{G}:generateContent", GEMINI, {}),
    ("gemini", f"{G}:streamGenerateContent?alt=sse", GEMINI, {"thinking": True}),
    ("gemini", f"{G}:streamGenerateContent", {**GEMINI, "tools": [{"functionDeclarations": [{"name": "run_shell", "parameters": TOOL}]}]}, {}),
    ("gemini", "/v1internal:streamGenerateContent?alt=sse", {"model": "gemini-3.8-flash", "project": "p", "request": GEMINI}, {}),
    ("gemini", "/v1/projects/p/locations/us/publishers/google/models/gemini-3.8-flash:generateContent", GEMINI, {}),
    ("gemini", f"{G}:countTokens", GEMINI, {}),
    ("ollama", "/api/chat", OLLAMA, {}),
    ("ollama", "/api/chat", {**OLLAMA, "stream": False, **CHAT_TOOL}, {}),
    ("ollama", "/api/generate", {"model": "qwen3:8b", "prompt": USER, "system": "brief"}, {}),
    ("ollama", "/api/embed", {"model": "nomic", "input": USER}, {}),
    ("bedrock", "/model/us.amazon.nova-pro-v1%3A0/converse", CONVERSE, {}),
    ("bedrock", "/model/us.amazon.nova-pro-v1%3A0/converse-stream", CONVERSE, {}),
    ("bedrock", "/model/anthropic.claude-sonnet-5-5-v1%3A0/invoke", INVOKE, {}),
    ("bedrock", "/model/anthropic.claude-sonnet-5-5-v1%3A0/invoke-with-response-stream", INVOKE, {}),
]
STREAMED = [
    ("anthropic", "/v1/messages", {**MESSAGES, "stream": True}),
    ("chat", "/v1/chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}}),
    ("responses", "/v1/responses", {**RESPONSES, "stream": True}),
    ("gemini", f"{G}:streamGenerateContent?alt=sse", GEMINI),
    ("gemini", f"{G}:streamGenerateContent", GEMINI),
    ("ollama", "/api/chat", OLLAMA),
    ("bedrock", "/model/us.amazon.nova-pro-v1%3A0/converse-stream", CONVERSE),
    ("bedrock", "/model/anthropic.claude-sonnet-5-5-v1%3A0/invoke-with-response-stream", INVOKE),
]
FAILURES = [(name, path, body, {"error": error}) for name, path, body in STREAMED for error in ("401", "429", "500", "529", "mid", "cut")]
STRESS = [
    (name, path, body, {"encoding": encoding, "framing": framing, "chunk": chunk, "interim": 100 if not chunk else None})
    for name, path, body in STREAMED
    for encoding in ("", "gzip", "deflate", "br", "zstd") for framing in ("chunked", "length", "close") for chunk in (None, [1], [2, 3, 50, 1000])
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--only")
    parser.add_argument("--stress", action="store_true")
    args = parser.parse_args()
    url = urlsplit(args.base_url)
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    connect = lambda: http.client.HTTPSConnection(url.hostname, url.port, context=context) if url.scheme == "https" else http.client.HTTPConnection(url.hostname, url.port)
    connection = connect()
    made = 0
    for name, path, body, do in [*CALLS, *FAILURES, *(STRESS if args.stress else [])]:
        if args.only and name != args.only:
            continue
        data = json.dumps(body, ensure_ascii=False).encode()
        connection.request("POST", path, data, {
            "content-type": "application/json", "accept-encoding": "gzip, deflate, br, zstd", "authorization": "Bearer sk-test-0000", "x-heron-do": json.dumps(do),
        })
        answer = connection.getresponse()
        try:
            answer.read()
        except http.client.IncompleteRead:
            pass  # the server was told to cut it
        if answer.will_close or do.get("error") == "cut":
            connection.close()
            connection = connect()
        made += 1
    print(json.dumps({"calls": made}))


if __name__ == "__main__":
    main()
