#!/usr/bin/env python3
"""Runs a real agent over several prompts (resumed, interrupted, compacted, with sub-agents) against the scripted server, and
holds heron's turns against what was asked.

    sessions.py AGENT --heron PATH [--out DIR] [--steps resume,tools,interrupt,agent,compact]
    sessions.py --list

The run is like `run.py`'s: a network namespace with a loopback device, a throw-away home, dummy keys. HERON_AGENTS_DIR says where
install.sh put the agents. What the server read and wrote
becomes a capture, DIR/AGENT.pcap, and `heron replay` tells its turns. Each prompt must be one turn with its own words, all turns of one
session; a sub-agent's turn must hang below its parent's. `HERON_CAPTURES=DIR cargo test --test turn_captures` then holds the turns
with all headers against those with none. Prints one line of JSON; exit 0 when all is as asked."""

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from agents import AGENTS, PROMPT, Place
from run import HERE, control, end_leftovers, loopback_up, own_hosts, start_server


def after(flag, *more):
    """The arguments of a first prompt with more behind one of them."""
    return lambda argv: [word for given in argv for word in ([given, *more] if given == flag else [given])]


def append(*more):
    return lambda argv: [*argv, *more]


# How each agent is told to go on with its last session, and the name of its sub-agent tool with arguments.
RESUME = {
    "claude": append("--continue"), "claude-mid": append("--continue"),
    "codex-h2": after("exec", "resume", "--last"), "codex-ws": after("exec", "resume", "--last"), "codex-mid": after("exec", "resume", "--last"),
    "gemini": append("--resume", "latest"), "qwen": append("--continue"), "opencode": after("run", "--continue"), "kilo": after("run", "--continue"),
    "copilot": append("--continue"), "copilot-responses": append("--continue"), "openclaw": append(), "hermes": append("--continue"),
    "aider": append("--restore-chat-history"),
}
SUB_AGENT = {
    "claude": ("Agent", {"description": "probe", "prompt": "Say which probe you ran as the sub-agent.", "subagent_type": "general-purpose"}),
    "claude-mid": ("Agent", {"description": "probe", "prompt": "Say which probe you ran as the sub-agent.", "subagent_type": "general-purpose"}),
    "opencode": ("task", {"description": "probe", "prompt": "Say which probe you ran as the sub-agent.", "subagent_type": "general"}),
    "kilo": ("task", {"description": "probe", "prompt": "Say which probe you ran as the sub-agent.", "subagent_type": "general"}),
    "qwen": ("agent", {"description": "probe", "prompt": "Say which probe you ran as the sub-agent.", "subagent_type": "general-purpose"}),
    "gemini": ("invoke_agent", {"agent_name": "generalist", "prompt": "Say which probe you ran as the sub-agent."}),
    "copilot": ("task", {"agent_type": "general-purpose", "name": "probe", "description": "probe", "prompt": "Say which probe you ran as the sub-agent."}),
    "hermes": ("delegate_task", {"goal": "Say which probe you ran as the sub-agent."}),
}
COMPACT = {"claude": "/compact", "claude-mid": "/compact", "qwen": "/compress", "gemini": "/compress"}


def steps_of(agent, wanted):
    """(name, prompt, what the model is to do) in order; a step that waits at a gate is interrupted there."""
    steps = [("first", "Run the heron probe, then tell what it printed.", {})]
    if "resume" in wanted:
        steps.append(("resume", "Thank you. Now run it once more.", {}))
    if "tools" in wanted:
        steps.append(("tools", "Run the probe twice at once, then twice again.", {"tool_calls": 2, "tool_rounds": 2}))
    if "interrupt" in wanted:
        steps.append(("interrupt", "Tell a long story about probes.", {"tool": False, "tokens": 40, "gate": 4}))
        steps.append(("after", "Never mind the story, run the probe.", {}))
    if "agent" in wanted and agent in SUB_AGENT:
        tool, arguments = SUB_AGENT[agent]
        steps.append(("agent", "Let a sub-agent run the probe.", {"tool": tool, "args": arguments}))
    if "compact" in wanted and agent in COMPACT:
        steps.append(("compact", COMPACT[agent], {}))
        steps.append(("compacted", "Go on from the summary and run the probe.", {}))
    return steps


def scenario(steps):
    return {"rules": [{"when": {"prompt": re.escape(prompt)}, "do": do} for _, prompt, do in steps if do]}


def run_step(argv, step, place, env, directory, ready, timeout):
    name, interrupted = step[0], "gate" in step[2]
    with open(directory / f"{name}.out", "wb") as out, open(directory / f"{name}.err", "wb") as err:
        process = subprocess.Popen(argv, cwd=place.work, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        if interrupted:
            control(ready, "/__wait?gated=1&timeout=100")
            process.send_signal(signal.SIGINT)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            code = "timeout"
    if interrupted:
        control(ready, "/__continue?all=1")
    return code


def judge(lines, steps, agent):
    turns = sorted((line for line in lines if line["type"] == "turn"), key=lambda turn: turn["started_at"])
    top = [turn for turn in turns if turn["parent_turn_id"] is None]
    asked = [prompt for name, prompt, _ in steps if name != "compact"]
    said = lambda turn: turn["prompt"].strip().strip('"')  # OpenCode puts a prompt into quotation marks
    wrong = []
    if [said(turn) for turn in top] != asked:
        wrong.append({"asked": asked, "prompts": [turn["prompt"] for turn in top]})
    if len({turn["session_id"] for turn in turns}) != 1:
        wrong.append({"sessions": len({turn["session_id"] for turn in turns})})
    for turn in top:
        interrupted = any("gate" in do and prompt == said(turn) for _, prompt, do in steps)
        if (turn["status"] in ("interrupted", "cut")) != interrupted:
            wrong.append({"prompt": turn["prompt"], "status": turn["status"]})
    below = [turn["prompt"] for turn in turns if turn["parent_turn_id"]]
    if (len(below) > 0) != any(name == "agent" for name, _, _ in steps):
        wrong.append({"below": below})
    kinds = {turn["agent"]["kind"] for turn in turns}
    calls = [line for line in lines if line["type"] == "call"]
    return {
        "agent": agent, "turns": len(top), "below": len(below), "calls": len(calls), "auxiliary": sum(call["auxiliary"] for call in calls),
        "kinds": sorted(kinds), "findings": sorted({line["kind"] for line in lines if line["type"] == "finding"}), "wrong": wrong,
    }


def inside(args):
    loopback_up()
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    agent = AGENTS[args.agent]
    directory = Path(args.out).resolve() / args.agent
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    own_hosts(directory)
    cache = Path(os.environ.get("HERON_TEST_CACHE") or HERE.parents[1] / "target/test-cache").resolve()
    steps, codes = steps_of(args.agent, args.steps.split(",")), {}
    (directory / "scenario.json").write_text(json.dumps(scenario(steps)))
    server, ready = start_server(directory, cache, 443, *agent.server, "--scenario", str(directory / "scenario.json"))
    home, work = directory / "home", directory / "work"
    home.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    place = Place(f"https://localhost:{ready['tls_port']}", f"http://localhost:{ready['http_port']}", ready["ca"], home, work,
                  Path(os.environ["HERON_AGENTS_DIR"]), cache)
    argv, extra = agent.start(place)
    env = {
        "HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "xterm", "LANG": "C.UTF-8", "TMPDIR": str(directory), "SHELL": "/bin/bash",
        "SSL_CERT_FILE": place.ca, "NODE_EXTRA_CA_CERTS": place.ca, "REQUESTS_CA_BUNDLE": place.ca, "DO_NOT_TRACK": "1", "NO_COLOR": "1", "CI": "1", **extra,
    }
    for number, step in enumerate(steps):
        command = [step[1] if word == PROMPT else word for word in (argv if number == 0 else RESUME[args.agent](argv))]
        codes[step[0]] = run_step(command, step, place, env, directory, ready, args.timeout)
        end_leftovers({server.pid})
    server.terminate()
    server.wait()
    capture = Path(args.out).resolve() / f"{args.agent}.pcap"
    subprocess.run([sys.executable, str(HERE.parent / "streams_to_pcap.py"), str(directory / "streams.jsonl"), str(capture)], check=True)
    replay = subprocess.run([args.heron, "replay", "--no-retention", "--no-console", "--json", str(capture)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    (directory / "turns.jsonl").write_bytes(replay.stdout)
    result = {**judge([json.loads(line) for line in replay.stdout.splitlines()], steps, args.agent), "exits": codes}
    print(json.dumps(result, ensure_ascii=False))
    sys.exit(1 if result["wrong"] else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", nargs="?", choices=list(RESUME), metavar="AGENT")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--heron")
    parser.add_argument("--out", default="target/agent-sessions")
    parser.add_argument("--steps", default="resume,tools,interrupt,agent,compact")
    parser.add_argument("--timeout", type=int, default=150)
    args = parser.parse_args()
    if args.list or not args.agent:
        print("\n".join(RESUME))
        return
    if os.environ.get("HERON_AGENT_NETNS") != "1":
        os.environ["HERON_AGENT_NETNS"] = "1"
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv])
    inside(args)


if __name__ == "__main__":
    main()
