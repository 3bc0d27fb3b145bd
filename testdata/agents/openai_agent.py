#!/usr/bin/env python3
"""A small agent on the real `openai` SDK: Chat Completions, or Responses with --responses. Arguments as anthropic_agent.py.

The base URL is given without /v1. The CA is read from SSL_CERT_FILE.
"""

import asyncio
import json

import openai

from agent_args import Rounds, http_client, parse, run_tool

SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}


def chat_request(args, messages):
    extra = {} if args.no_tools else {"tools": [{"type": "function", "function": {"name": "run_shell", "description": "Runs a command", "parameters": SCHEMA}}]}
    return {"model": args.model or "gpt-5-mini", "messages": messages, **extra}


def responses_request(args, items):
    extra = {} if args.no_tools else {"tools": [{"type": "function", "name": "run_shell", "description": "Runs a command", "parameters": SCHEMA, "strict": False}]}
    if args.thinking:
        extra["reasoning"] = {"effort": "low", "summary": "auto"}
    return {"model": args.model or "gpt-5.6", "instructions": "You are a test agent.", "input": items, **extra}


def assemble(chunks):
    """A stream's chunks as one assistant message."""
    text, calls = "", {}
    for chunk in chunks:
        for choice in chunk.choices[:1]:
            text += choice.delta.content or ""
            for part in choice.delta.tool_calls or []:
                call = calls.setdefault(part.index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
                call["id"] += part.id or ""
                call["function"]["name"] += part.function.name or ""
                call["function"]["arguments"] += part.function.arguments or ""
    message = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = [calls[i] for i in sorted(calls)]
    return message


def after_chat(message, messages):
    messages.append(message)
    for call in message.get("tool_calls") or []:
        command = json.loads(call["function"]["arguments"])["command"]
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": run_tool(command)})
    return bool(message.get("tool_calls"))


def after_responses(response, items):
    more = False
    for item in response.output:
        items.append(item.model_dump(exclude_none=True))
        if item.type == "function_call":
            items.append({"type": "function_call_output", "call_id": item.call_id, "output": run_tool(json.loads(item.arguments)["command"])})
            more = True
    return more


def start(args, prompt):
    if args.responses:
        return [{"role": "user", "content": prompt}]
    return [{"role": "system", "content": "You are a test agent."}, {"role": "user", "content": prompt}]


def run(args):
    client = openai.OpenAI(base_url=args.base_url.rstrip("/") + "/v1", api_key="sk-test-0000", http_client=http_client(args, openai.DefaultHttpxClient), max_retries=0)
    rounds = Rounds(args)
    for prompt in rounds:
        history, more, answer = start(args, prompt), True, ""
        while more and rounds.next_call():
            if args.responses:
                request = responses_request(args, history)
                if rounds.stream:
                    with client.responses.stream(**request) as stream:
                        response = stream.get_final_response()
                else:
                    response = client.responses.create(**request)
                more, answer = after_responses(response, history), response.output_text
            else:
                request = chat_request(args, history)
                if rounds.stream:
                    message = assemble(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": rounds.made % 4 != 3}))
                else:
                    message = client.chat.completions.create(**request).choices[0].message.model_dump(exclude_none=True)
                more, answer = after_chat(message, history), message.get("content")
        print(answer, flush=True)


async def run_async(args):
    client = openai.AsyncOpenAI(base_url=args.base_url.rstrip("/") + "/v1", api_key="sk-test-0000", http_client=http_client(args, openai.DefaultAsyncHttpxClient), max_retries=0)

    async def one(rounds):
        for prompt in rounds:
            history, more, answer = start(args, prompt), True, ""
            while more and rounds.next_call():
                if args.responses:
                    request = responses_request(args, history)
                    if rounds.stream:
                        async with client.responses.stream(**request) as stream:
                            response = await stream.get_final_response()
                    else:
                        response = await client.responses.create(**request)
                    more, answer = after_responses(response, history), response.output_text
                else:
                    request = chat_request(args, history)
                    if rounds.stream:
                        chunks = await client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
                        message = assemble([chunk async for chunk in chunks])
                    else:
                        message = (await client.chat.completions.create(**request)).choices[0].message.model_dump(exclude_none=True)
                    more, answer = after_chat(message, history), message.get("content")
            print(answer, flush=True)

    await asyncio.gather(*(one(rounds) for rounds in Rounds.shared(args)))


if __name__ == "__main__":
    options = parse(__doc__)
    asyncio.run(run_async(options)) if options.use_async else run(options)
