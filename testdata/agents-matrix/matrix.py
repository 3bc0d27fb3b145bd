#!/usr/bin/env python3
"""Runs the real agents under heron, compares every call with the scripted server's record, and writes the matrix.

    matrix.py --heron PATH [--out docs/agents.md] [--agents a,b,...] [--modes exec,attach,host] [--results FILE.jsonl] [--keep DIR]

Needs root (BPF, network namespaces). Installs what is missing (install.sh). Exit 1 when an agent that completed its turn was
not seen completely. `--results` adds to a file, and takes what is not run now from it, so that one agent can be repeated.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from agents import AGENTS, HERE, Place, pinned_version

EXEC = ["exec", "--no-console", "--json", "{dir}/calls.jsonl", "--"]
ATTACH = ["attach", "{pid}", "--tree", "--no-console", "--json", "{dir}/calls.jsonl"]

HOST = ["serve", "--config", "{dir}/heron.toml", "--db", "{dir}/heron.duckdb", "--json", "{dir}/calls.jsonl"]
# Interpreters, SDKs and tools are no agents by themselves: host mode is told of them by a rule, and knows the others itself.
BY_RULE = ("py-", "js-", "node", "bun", "deno", "go", "rust", "curl", "gh")


def run(command, **more):
    return subprocess.run(command, capture_output=True, text=True, **more)


def one(name, mode, heron, keep):
    """One run: what the agent did, what heron saw, and how the two agree."""
    directory = Path(keep or tempfile.mkdtemp(prefix="heron-matrix-")) / f"{name}-{mode}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    how = {"exec": [], "attach": ["--attach"], "host": ["--host"]}[mode]
    wrapper = [heron, *{"exec": EXEC, "attach": ATTACH, "host": HOST}[mode]]
    if mode == "host":
        (directory / "heron.toml").write_text("[console]\nenabled = false\n" + (rule(name) if by_rule(name) else ""))
    ran = run([str(HERE / "run.sh"), name, "--keep", str(directory), "--result", str(directory / "result.json"), *how, "--", *wrapper])
    result = json.loads((directory / "result.json").read_text()) if (directory / "result.json").exists() else {"complete": False, "error": ran.stderr[-300:]}
    calls = directory / "calls.jsonl"
    summary = {"expected": result.get("calls", 0), "paired": 0, "fidelity": 0.0, "differences": None}
    if calls.exists() and result.get("calls"):
        # What began before heron was there cannot be seen from its beginning: those calls may be missing or flagged.
        lenient = ["--allow-missing", str(begun_before(directory)), "--attached"] if mode == "attach" else []
        prompt = AGENTS[name].prompt
        if prompt and mode != "attach":
            lenient += ["--one-turn", prompt]
        if AGENTS[name].stops_early:
            lenient.append("--client-may-stop")
        check = run([sys.executable, str(HERE.parent / "check_record.py"), "--record", str(directory / "record.jsonl"), "--calls", str(calls),
                     "--json", str(directory / "check.json"), "--turns", "--require-process", *lenient])
        (directory / "check.txt").write_text(check.stdout + check.stderr)
        if (directory / "check.json").exists():
            summary = json.loads((directory / "check.json").read_text())
        summary["said"] = check.stdout.strip().splitlines()[:6]
    row = {"agent": name, "mode": mode, **result, "check": summary, "stacks": stacks(calls)}
    if not keep:
        shutil.rmtree(directory.parent, ignore_errors=True)
    return row


def begun_before(directory):
    """How many calls stood at the gate when heron came: those that had begun before the first of them ended."""
    rows = [json.loads(line) for line in (directory / "record.jsonl").read_text().splitlines()]
    calls = [row for row in rows if row.get("kind") == "call"]
    first_end = min((row["t_response_last"] for row in calls), default=0)
    return sum(1 for row in calls if row["t_request_first"] < first_end)


def stacks(calls):
    """The executables that heron names as the callers."""
    if not calls.exists():
        return []
    rows = [json.loads(line) for line in calls.read_text().splitlines() if line.strip()]
    return sorted({Path(row["process"]["exe"]).name for row in rows if row.get("type") == "call" and row.get("process") and row["process"].get("exe")})


def by_rule(name):
    return name.startswith(BY_RULE)


def rule(name):
    """By the script that an interpreter is given, else by the program."""
    argv, _ = command_line(name)
    script = next((word for word in argv if word.endswith((".py", ".mjs", ".sh"))), None)
    condition = f'arg = "{script}"' if script else f'exe = "{os.path.realpath(executable(name))}"'
    return f'[[watch]]\nname = "{name}"\n{condition}\n'


def command_line(name):
    with tempfile.TemporaryDirectory() as home:
        agents = Path(os.environ.get("HERON_AGENTS_DIR", "/tmp/agents"))
        cache = Path(os.environ.get("HERON_TEST_CACHE") or HERE.parents[1] / "target/test-cache")
        place = Place("https://localhost:443", "", "", Path(home), Path(home), agents, cache)
        return AGENTS[name].start(place)


def executable(name):
    """The program that the agent's command line begins with; of a script, its interpreter."""
    argv, extra = command_line(name)
    exe = shutil.which(argv[0], path=extra.get("PATH")) or argv[0]
    if not os.path.exists(exe):
        return exe
    for _ in range(3):  # a script's interpreter, and that one's
        with open(exe, "rb") as file:
            head = file.read(256).split(b"\n")[0].decode(errors="replace")
        if not head.startswith("#!"):
            break
        exe = shutil.which(head[2:].split()[-1].split("/")[-1], path=extra.get("PATH")) or head[2:].split()[0]
    return exe


def found(name, heron):
    """How heron finds the TLS functions of the agent's executable: `heron symbols` asked of it."""
    exe = executable(name)
    if not os.path.exists(exe):
        return ""
    said = run([heron, "symbols", "--json", os.path.realpath(exe)])
    try:
        libraries = [library for library in json.loads(said.stdout)["libraries"] if not library["fallback"]]
    except (ValueError, KeyError):
        return ""
    if not libraries:
        return "not in the program: in a library that it loads"
    hows = dict.fromkeys(how for function in libraries[0]["functions"][:2] for how in function["how"])
    return "; ".join(list(hows)[:3])


def cell(row):
    """One mode's cell."""
    if row is None:
        return "not run"
    if not row.get("complete"):
        return f"the agent's turn did not complete (exit {row.get('exit')})"
    check = row["check"]
    if check.get("allowed") and check["allowed"] == check["expected"]:
        return "no call after that"
    seen = f"{check['paired']} of {check['expected'] - check.get('allowed', 0)}"
    if check["differences"] == 0:
        return f"{seen}, all fields equal"
    if check["differences"] is None or not check["paired"]:
        return f"**{seen}**"
    return f"{seen}, {check['fidelity']:.1f}% of fields"


def markdown(rows, heron):
    by = {(row["agent"], row["mode"]): row for row in rows}
    version = run([heron, "--version"]).stdout.strip() or "heron"
    out = [
        "# Agents that heron was run with",
        "",
        "Produced by `make agents`: each client runs one turn against the scripted model server (real TLS, a network namespace with a loopback device only), and",
        "every call that heron reports is compared with the server's record: model, messages, tools, tool calls, tokens by class, finish reason, status, sizes, process.",
        "*exec*: the agent was started with `heron exec`. *attach*: heron came while the first answer was streaming; what had begun before does not count there.",
        "*host*: `heron serve` watched a pid namespace, and found the agent by itself when it was started (interpreters, SDKs and tools by a rule, marked +).",
        "\"n of m\" are calls (request and answer) seen of calls made.",
        "",
        f"{version}, Linux {platform.release()}, {platform.machine()}.",
        "",
        "*how found*: what `heron symbols` says of the started executable; where another one does the calling, its libraries are found through the maps.",
        "",
        "| client | version | TLS stack | how found | protocol | calling executable | exec | attach | host |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, agent in AGENTS.items():
        exec_row, attach_row, host_row = (by.get((name, mode)) for mode in ("exec", "attach", "host"))
        any_row = exec_row or attach_row or host_row
        if any_row is None:
            continue
        protocol = ", ".join({"h1": "HTTP/1.1", "h2": "HTTP/2", "ws": "WebSocket"}[p] for p in any_row.get("protocols", []))
        exes = ", ".join(any_row.get("stacks") or [])
        out.append(f"| {name} | {pinned_version(agent) or 'system'} | {agent.tls} | {found(name, heron)} | {protocol} | {exes} | {cell(exec_row)} | {cell(attach_row)} | {cell(host_row)}{' +' if by_rule(name) else ''} |")
    out += [
        "",
        "A WebSocket whose compression keeps its history (permessage-deflate with context takeover) cannot be read from the middle: attached to, it is read again after it reconnects.",
        "On HTTP/2, an answer that was under way when heron came is a call without its request (flaw `no_request`), in a turn of its own: where the record has it in the turn of what follows, the row is short of a field.",
        "Host mode meets a program while it runs already: what a client sends before its hooks are set is missed, and a WebSocket that was opened before cannot be read. A native client that calls within a",
        "fraction of a second of its start is the case (each row is the first run of its program on a busy machine); `heron exec` hooks it before its first instruction.",
        "rustls (Codex, Deno, ureq) is read below its records, at the AEAD functions that are found in the file.",
        "",
        "Not to be had from the package registries, so not in the matrix: Crush, Goose, the Cursor agent (their installers fetch from elsewhere); Amp (its backend cannot be pointed elsewhere).",
        "",
    ]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heron", required=True)
    parser.add_argument("--out")
    parser.add_argument("--agents", help="only these, by comma")
    parser.add_argument("--modes", default="exec,attach,host")
    parser.add_argument("--results", help="JSONL of results to add to")
    parser.add_argument("--keep", help="keep every run's directory here")
    parser.add_argument("--no-install", action="store_true")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("the matrix needs root: BPF programs and network namespaces")
    names = args.agents.split(",") if args.agents else list(AGENTS)
    heron = str(Path(args.heron).resolve())
    if not args.no_install:
        rows = sorted({row for name in names for row in (AGENTS[name].row, *AGENTS[name].also) if row})
        if rows and subprocess.run([str(HERE / "install.sh"), *rows]).returncode:
            print("some agents could not be installed: their rows will say so", file=sys.stderr)
    results = {}
    if args.results and os.path.exists(args.results):
        for line in Path(args.results).read_text().splitlines():
            row = json.loads(line)
            results[row["agent"], row["mode"]] = row
    failed = []
    for name in names:
        for mode in args.modes.split(","):
            row = one(name, mode, heron, args.keep)
            results[name, mode] = row
            print(f"{name} {mode}: {cell(row)}", flush=True)
            for line in row["check"].get("said", [])[:-1] if row["check"]["differences"] else []:
                print(f"    {line[:300]}", flush=True)
            if row.get("complete") and row["check"]["differences"] != 0:
                failed.append(f"{name} {mode}")
    if args.results:
        Path(args.results).write_text("".join(json.dumps(row) + "\n" for row in results.values()))
    if args.out:
        Path(args.out).write_text(markdown(list(results.values()), heron))
    if failed:
        print(f"{len(failed)} of {len(names) * len(args.modes.split(','))} not equal to the record: {', '.join(failed)}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
