#!/usr/bin/env python3
"""A small agent on the real boto3: Converse, or InvokeModel with Anthropic's bodies when --model starts with anthropic.

Arguments as anthropic_agent.py (no --async, no --http2)."""

import json
import os

import boto3
from botocore.config import Config

from agent_args import Rounds, parse, run_tool

SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}


def converse(client, args, rounds, prompt):
    messages, more = [{"role": "user", "content": [{"text": prompt}]}], True
    while more and rounds.next_call():
        request = {"modelId": args.model or "us.amazon.nova-pro-v1:0", "messages": messages, "system": [{"text": "You are a test agent."}]}
        if not args.no_tools:
            request["toolConfig"] = {"tools": [{"toolSpec": {"name": "run_shell", "description": "Runs a command", "inputSchema": {"json": SCHEMA}}}]}
        if rounds.stream:
            content = assemble(client.converse_stream(**request)["stream"])
        else:
            content = client.converse(**request)["output"]["message"]["content"]
        messages.append({"role": "assistant", "content": content})
        results = [
            {"toolResult": {"toolUseId": part["toolUse"]["toolUseId"], "content": [{"text": run_tool(part["toolUse"]["input"]["command"])}]}}
            for part in content if "toolUse" in part
        ]
        more = bool(results)
        if more:
            messages.append({"role": "user", "content": results})
    return "".join(part.get("text", "") for part in content)


def assemble(events):
    parts = {}
    for event in events:
        start, delta = event.get("contentBlockStart"), event.get("contentBlockDelta")
        if start:
            parts[start["contentBlockIndex"]] = {"toolUse": {**start["start"]["toolUse"], "input": ""}}
        elif delta and "text" in delta["delta"]:
            parts.setdefault(delta["contentBlockIndex"], {"text": ""})["text"] += delta["delta"]["text"]
        elif delta:
            parts[delta["contentBlockIndex"]]["toolUse"]["input"] += delta["delta"]["toolUse"]["input"]
    for part in parts.values():
        if "toolUse" in part:
            part["toolUse"]["input"] = json.loads(part["toolUse"]["input"])
    return [parts[i] for i in sorted(parts)]


def invoke(client, args, rounds, prompt):
    rounds.next_call()
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 512, "messages": [{"role": "user", "content": prompt}]})
    if rounds.stream:
        chunks = [json.loads(event["chunk"]["bytes"]) for event in client.invoke_model_with_response_stream(modelId=args.model, body=body)["body"]]
        return "".join(chunk.get("delta", {}).get("text", "") for chunk in chunks)
    return "".join(part.get("text", "") for part in json.loads(client.invoke_model(modelId=args.model, body=body)["body"].read())["content"])


def main():
    args = parse(__doc__)
    client = boto3.client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=args.base_url, verify=os.environ.get("SSL_CERT_FILE"), aws_access_key_id="test",
        aws_secret_access_key="test", config=Config(retries={"max_attempts": 0}),
    )
    rounds = Rounds(args)
    turn = invoke if (args.model or "").startswith("anthropic") else converse
    for prompt in rounds:
        print(turn(client, args, rounds, prompt), flush=True)


if __name__ == "__main__":
    main()
