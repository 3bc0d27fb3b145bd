#!/usr/bin/env python3
"""A small agent on the real `google-genai` SDK. Arguments as anthropic_agent.py (no --async, no --http2)."""

from google import genai
from google.genai import types

from agent_args import Rounds, parse, run_tool


def config(args):
    schema = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
    declaration = types.FunctionDeclaration(name="run_shell", description="Runs a command", parameters_json_schema=schema)
    return types.GenerateContentConfig(
        system_instruction="You are a test agent.",
        tools=None if args.no_tools else [types.Tool(function_declarations=[declaration])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        thinking_config=types.ThinkingConfig(include_thoughts=True) if args.thinking else None,
    )


def run(args):
    client = genai.Client(api_key="test-key-0000", http_options=types.HttpOptions(base_url=args.base_url))
    rounds = Rounds(args)
    for prompt in rounds:
        contents, more = [types.Content(role="user", parts=[types.Part(text=prompt)])], True
        while more and rounds.next_call():
            request = {"model": args.model or "gemini-3.8-flash", "contents": contents, "config": config(args)}
            if rounds.stream:
                parts = [p for chunk in client.models.generate_content_stream(**request) for p in chunk.candidates[0].content.parts or []]
            else:
                parts = client.models.generate_content(**request).candidates[0].content.parts
            contents.append(types.Content(role="model", parts=parts))
            results = [
                types.Part(function_response=types.FunctionResponse(name=p.function_call.name, response={"output": run_tool(p.function_call.args["command"])}))
                for p in parts if p.function_call
            ]
            more = bool(results)
            if more:
                contents.append(types.Content(role="user", parts=results))
        print("".join(p.text or "" for p in parts if not p.thought), flush=True)


if __name__ == "__main__":
    run(parse(__doc__))
