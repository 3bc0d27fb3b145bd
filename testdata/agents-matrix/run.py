#!/usr/bin/env python3
"""Runs one real agent for one turn with a tool call against the scripted server, in a network namespace of its own.

    run.sh AGENT [--keep DIR] [--result FILE] [--timeout S] [-- WRAPPER...]
    run.sh AGENT --attach [...] -- COMMAND...
    run.sh AGENT --host [...] -- COMMAND...
    run.sh --list

The namespace has a loopback device only; the agent gets a throw-away home, a dummy key, no inherited environment and
telemetry off. WRAPPER is put before the agent's command line, for instance `heron exec --json OUT --`; {dir} in it is
the run's directory. With --attach the agent starts alone; when its first answer has begun to stream, and is held there,
COMMAND is started ({pid} is the agent's), and when that has said on standard error that it watches, the stream goes on.
COMMAND gets SIGINT when the agent has ended. With --host COMMAND is started first, in a pid namespace of its own, and the agent
when COMMAND has said that it watches. Nothing waits by the clock. Says whether the server saw the turn complete: exit 0 if so.
"""

import argparse
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from fcntl import ioctl
from pathlib import Path

from agents import AGENTS, Place

HERE = Path(__file__).resolve().parent
NAMES = ["api.anthropic.com", "api.openai.com", "api.github.com", "generativelanguage.googleapis.com", "chatgpt.com", "api.cline.bot"]


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", ioctl(sock, 0x8913, request))[1]  # SIOCGIFFLAGS
        ioctl(sock, 0x8914, struct.pack("16sH14s", b"lo", flags | 1, b""))  # SIOCSIFFLAGS, IFF_UP


def own_hosts(directory):
    """In this mount namespace only: the vendors' names lead to the loopback device."""
    hosts = directory / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"127.0.0.1 {name}\n" for name in NAMES))
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)


def start_server(directory, cache, port, *more):
    argv = [str(cache / "venv/bin/python"), str(HERE.parent / "server/model_server.py"), "--dir", str(directory / "server"),
            "--record", str(directory / "record.jsonl"), "--streams", str(directory / "streams.jsonl"), "--tls-port", str(port), "--die-with-parent", *more]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=open(directory / "server.err", "wb"), text=True)
    line = server.stdout.readline()
    if not line:
        sys.exit("the scripted server did not start: " + (directory / "server.err").read_text()[-500:])
    return server, json.loads(line)


def children_of(pid):
    """All descendants, from /proc."""
    found, todo = [], [pid]
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    while todo:
        for child in parents.get(todo.pop(), []):
            found.append(child)
            todo.append(child)
    return found


def end_leftovers(spare):
    """Daemons that an agent left behind are children of this process now (it is their subreaper): end them by pid."""
    for _ in range(3):
        left = [pid for pid in children_of(os.getpid()) if pid not in spare]
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        if not left:
            return


class Attached:
    """A command that watches a running agent."""

    def __init__(self, command, directory, env):
        self.log = open(directory / "attach.err", "wb")
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=open(directory / "attach.out", "wb"), stderr=subprocess.PIPE)
        self.ready = threading.Event()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.log.write(line)
            self.log.flush()
            if b"watching" in line:
                self.ready.set()
        self.ready.set()

    def finish(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        self.reader.join()
        return code


def control(ready, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{ready['http_port']}{path}", timeout=150) as answer:
        return json.load(answer)


def judge(agent, record):
    """What the server saw."""
    rows = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    calls = [row for row in rows if row.get("kind") == "call"]
    tools = [row for row in calls if row["tool_calls"]]
    finals = [row for row in calls if "HERON-DONE" in (row.get("answer") or "") and (row["tool_results"] or not agent.tools)]
    return {
        "complete": bool(finals) and (bool(tools) or not agent.tools),
        "calls": len(calls), "tool_calls": sum(len(row["tool_calls"]) for row in calls), "other": len(rows) - len(calls),
        "protocols": sorted({row["protocol"] for row in calls}), "wire_apis": sorted({row["wire_api"] for row in calls}),
        "marker": next((w for row in finals[-1:] for w in row["answer"].split() if w.startswith("HERON-DONE")), None),
    }


def watch(process, command, directory, env, ready):
    """Starts the observer in the middle of the first answer, then lets the answer go on."""
    control(ready, "/__wait?gated=1&timeout=100")
    attached = Attached([part.replace("{pid}", str(process.pid)) for part in command], directory, env)
    attached.ready.wait(100)
    control(ready, "/__continue?all=1")
    return attached


def inside(args, wrapper):
    agent = AGENTS[args.agent]
    loopback_up()
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    directory = Path(args.keep or tempfile.mkdtemp(prefix="heron-agent-"))
    directory.mkdir(parents=True, exist_ok=True)
    own_hosts(directory)
    cache = Path(os.environ.get("HERON_TEST_CACHE") or HERE.parents[1] / "target/test-cache").resolve()
    server, ready = start_server(directory, cache, 443, *agent.server, *(["--gate", "2"] if args.attach else []))
    home, work = directory / "home", directory / "work"
    home.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    place = Place(f"https://localhost:{ready['tls_port']}", f"http://localhost:{ready['http_port']}", ready["ca"], home, work,
                  Path(os.environ.get("HERON_AGENTS_DIR", "/tmp/agents")), cache)
    argv, extra = agent.start(place)
    env = {
        "HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "xterm", "LANG": "C.UTF-8", "TMPDIR": str(directory), "SHELL": "/bin/bash",
        "SSL_CERT_FILE": place.ca, "NODE_EXTRA_CA_CERTS": place.ca, "REQUESTS_CA_BUNDLE": place.ca, "DENO_CERT": place.ca, "CURL_CA_BUNDLE": place.ca,
        "DO_NOT_TRACK": "1", "NO_COLOR": "1", "CI": "1", **extra,
    }
    wrapper = [part.replace("{dir}", str(directory)) for part in wrapper]
    command = argv if args.attach or args.host else wrapper + argv
    attached = None
    if args.host:
        attached = Attached(wrapper, directory, env)
        attached.ready.wait(100)
    began = time.monotonic()
    with open(directory / "stdout", "wb") as out, open(directory / "stderr", "wb") as err:
        process = subprocess.Popen(command, cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        if args.attach:
            attached = watch(process, wrapper, directory, env, ready)
        try:
            code = process.wait(args.timeout or agent.timeout)
        except subprocess.TimeoutExpired:
            code = "timeout"
    took = time.monotonic() - began
    observer = attached.finish() if attached else None
    end_leftovers({server.pid})
    server.terminate()
    server.wait()
    result = {"agent": args.agent, "exit": code, "seconds": round(took, 1), "observer": observer, **judge(agent, directory / "record.jsonl")}
    output = (directory / "stdout").read_text(errors="replace")
    result["printed"] = bool(result["marker"] and result["marker"] in output)
    if args.result:
        Path(args.result).write_text(json.dumps(result) + "\n")
    print(json.dumps(result))
    if not result["complete"]:
        for name in ("stdout", "stderr", "server.err"):
            text = (directory / name).read_text(errors="replace").strip()
            if text:
                print(f"--- {name}\n" + text[-2500:], file=sys.stderr)
    if not args.keep:
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(0 if result["complete"] else 1)


def main():
    argv = sys.argv[1:]
    wrapper = []
    if "--" in argv:
        at = argv.index("--")
        argv, wrapper = argv[:at], argv[at + 1:]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", nargs="?", choices=list(AGENTS), metavar="AGENT")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--attach", action="store_true", help="COMMAND watches the running agent")
    parser.add_argument("--host", action="store_true", help="COMMAND watches this pid namespace")
    parser.add_argument("--keep", metavar="DIR", help="keep everything of the run here: record, output, configuration")
    parser.add_argument("--result", metavar="FILE")
    parser.add_argument("--timeout", type=int)
    args = parser.parse_args(argv)
    if args.list or not args.agent:
        print("\n".join(AGENTS))
        return
    if os.environ.get("HERON_AGENT_NETNS") != "1":
        os.environ["HERON_AGENT_NETNS"] = "1"
        if not args.host:
            os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv])
        # The agent's name comes late in the command line: this process is not to be taken for the agent.
        options = [word for name in ("keep", "result", "timeout") if getattr(args, name) for word in (f"--{name}", str(getattr(args, name)))]
        os.execvp("unshare", ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, sys.argv[0],
                              "--host", *(options or ["--timeout", "300"]), args.agent, "--", *wrapper])
    inside(args, wrapper)


if __name__ == "__main__":
    main()
