#!/usr/bin/env python3
"""A small agent on `litellm`: OpenAI and Anthropic calls in turn. Arguments as anthropic_agent.py (no --async, no --http2)."""

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

from agent_args import Rounds, parse


def run(args):
    litellm.telemetry = False
    rounds = Rounds(args)
    for prompt in rounds:
        rounds.next_call()
        which = {"model": "anthropic/claude-sonnet-5-5", "api_base": args.base_url} if rounds.made % 2 else {"model": "openai/gpt-5-mini", "api_base": args.base_url.rstrip("/") + "/v1"}
        answer = litellm.completion(**which, api_key="sk-test-0000", messages=[{"role": "user", "content": prompt}], stream=rounds.stream, max_tokens=512)
        if rounds.stream:
            print("".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices), flush=True)
        else:
            print(answer.choices[0].message.content, flush=True)


if __name__ == "__main__":
    run(parse(__doc__))
