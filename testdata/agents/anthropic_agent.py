#!/usr/bin/env python3
"""A small agent on the real `anthropic` SDK. Each round is a prompt, a tool call, its result, and the answer.

    anthropic_agent.py --base-url URL [--calls N] [--stream|--no-stream|--mixed] [--async] [--concurrency N] [--http2]
                       [--big BYTES] [--no-tools] [--thinking] [--prompt TEXT] [--model NAME]

--calls counts HTTP calls (a round with a tool is two). The CA is read from SSL_CERT_FILE.
"""

import asyncio

import anthropic

from agent_args import Rounds, http_client, parse, run_tool

TOOL = {
    "name": "run_shell",
    "description": "Runs a command",
    "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
}


def request(args, messages):
    extra = {}
    if not args.no_tools:
        extra["tools"] = [TOOL]
    if args.thinking:
        extra["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    return {"model": args.model or "claude-sonnet-5-5", "max_tokens": 4096, "system": "You are a test agent — be brief.", "messages": messages, **extra}


def after(message, messages):
    """Adds the answer, and its tools' results; false when the turn is over."""
    content = [block.model_dump(exclude_none=True) for block in message.content]
    messages.append({"role": "assistant", "content": content})
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": run_tool(block.input["command"])}
        for block in message.content if block.type == "tool_use"
    ]
    if results:
        messages.append({"role": "user", "content": results})
    return bool(results)


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


def run(args):
    client = anthropic.Anthropic(base_url=args.base_url, api_key="sk-ant-test-0000", http_client=http_client(args, anthropic.DefaultHttpxClient), max_retries=0)
    rounds = Rounds(args)
    for prompt in rounds:
        messages, more = [{"role": "user", "content": prompt}], True
        while more and rounds.next_call():
            if rounds.stream:
                with client.messages.stream(**request(args, messages)) as stream:
                    message = stream.get_final_message()
            else:
                message = client.messages.create(**request(args, messages))
            more = after(message, messages)
        print(text(message), flush=True)


async def run_async(args):
    client = anthropic.AsyncAnthropic(base_url=args.base_url, api_key="sk-ant-test-0000", http_client=http_client(args, anthropic.DefaultAsyncHttpxClient), max_retries=0)

    async def one(rounds):
        for prompt in rounds:
            messages, more = [{"role": "user", "content": prompt}], True
            while more and rounds.next_call():
                if rounds.stream:
                    async with client.messages.stream(**request(args, messages)) as stream:
                        message = await stream.get_final_message()
                else:
                    message = await client.messages.create(**request(args, messages))
                more = after(message, messages)
            print(text(message), flush=True)

    await asyncio.gather(*(one(rounds) for rounds in Rounds.shared(args)))


if __name__ == "__main__":
    options = parse(__doc__)
    asyncio.run(run_async(options)) if options.use_async else run(options)
