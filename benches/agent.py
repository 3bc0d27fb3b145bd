#!/usr/bin/env python3
"""Measures what the kernel side costs and keeps, and writes the "Kernel" part of docs/benchmarks.md. Needs root.

Everything runs in a network namespace of its own, with private copies of the programs and libraries that are hooked. Runs with and
without heron are interleaved; cost is the agent's own CPU time, so that a busy machine matters little. A figure that the goal
needs equal to the truth (bytes, losses) says WRONG when it is not. Node, Bun and Claude Code are measured where they are.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BENCHES = ROOT / "benches"
DOC = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- kernel: begin -->", "<!-- kernel: end -->"
TICKS = os.sysconf("SC_CLK_TCK")
# A ring record's head, and the ring's own (docs/abi.md).
RECORD, RING = 72, 8


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def environment(directory, **more):
    """What a measured program sees: nothing of the caller's, a home of its own, private copies of the TLS libraries."""
    return {"PATH": os.environ["PATH"], "HOME": str(directory), "LD_LIBRARY_PATH": f"{directory}/lib", "LANG": "C.UTF-8",
            "NODE_TLS_REJECT_UNAUTHORIZED": "0", "NODE_NO_WARNINGS": "1", "DISABLE_TELEMETRY": "1", **more}


class Exec:
    """`heron exec` of a command, its console kept so that its counters can be asked for."""

    def __init__(self, lab, command, *options, keep=True):
        self.lab, self.port = lab, free_port()
        self.err = tempfile.TemporaryFile("w+")
        command = [str(lab.heron), "exec", "--no-retention", "--port", str(self.port), *(["--keep"] if keep else []), *options, "--", *command]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.err, text=True, env=lab.env)
        lab.running.append(self.process)

    def said(self):
        self.err.seek(0)
        return self.err.read()

    def wait_for(self, text):
        while text not in self.said():
            if self.process.poll() is not None:
                raise SystemExit(f"heron ended: {self.said()[-500:]}")
            time.sleep(0.01)

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
            return json.load(answer)

    def cpu(self):
        """Seconds of heron's own CPU time."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the command said nothing: {self.said()[-800:]}")
        return line

    def tell(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        """Waits for the command; gives heron's health and calls, and ends it."""
        self.wait_for("the command has ended")
        health, calls = self.ask("/api/health"), self.ask("/api/calls?limit=1000")["calls"]
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        return health, calls


class Lab:
    def __init__(self, args, directory):
        self.heron, self.directory = args.bin_dir / "heron", directory
        self.env, self.running = environment(directory), []
        (directory / "lib").mkdir()
        out = subprocess.run([sys.executable, "-c", "import _ssl, sys; print(_ssl.__file__, sys.executable)"], capture_output=True, text=True)
        module, self.python = out.stdout.split()
        for line in subprocess.run(["ldd", module], capture_output=True, text=True).stdout.splitlines():
            if found := re.search(r"lib(ssl|crypto)\S* => (\S+)", line):
                shutil.copy(found[2], directory / "lib")
        self.clients = {"Python": [self.python, str(BENCHES / "agent_client.py")]}
        for name, program in (("Node", args.node), ("Bun", args.bun)):
            if program and (path := shutil.which(program)):
                private = directory / name.lower()
                shutil.copy(os.path.realpath(path), private)
                self.clients[name] = [str(private), str(BENCHES / "agent_client.mjs")]
            else:
                print(f"SKIPPED {name}: not there", file=sys.stderr)
        self.server = subprocess.Popen([self.python, str(BENCHES / "agent_server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.at = self.server.stdout.readline().strip()

    def plain(self, command):
        out = subprocess.run(command, env=self.env, capture_output=True, text=True)
        if out.returncode != 0:
            raise SystemExit(f"{command[:2]} failed: {out.stderr[-500:]}")
        return json.loads(out.stdout)

    def traced(self, command):
        run = Exec(self, command)
        told = json.loads(run.line())
        return (told, *run.end())

    def close(self):
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
        self.server.stdin.close()
        self.server.wait()


def check(fine, text):
    return text if fine else f"WRONG: {text}"


def whole(health, truth):
    """Everything seen and nothing lost: what the kernel counted against what was sent."""
    counts = health["counters"]["kernel"]
    fine = counts["lost_bytes"] == counts["missed_bytes"] == 0 and counts["passed_bytes"] == truth
    return check(fine, f"{counts['passed_bytes']:,} of {truth:,} bytes")


def agents(lab, rounds):
    """CPU time per token flat out, and at 100 tokens a second."""
    rows = ["| client | untraced, us a token | traced | heron's share | of an agent at 100 tokens/s | p99 between tokens, untraced | traced |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name, client in lab.clients.items():
        # Short and often: the best run is one that nobody disturbed.
        flat = [*client, lab.at, "20000", "0", "100"]
        paced = [*client, lab.at, "500", "100", "100"]
        plain, traced, slow_plain, slow_traced = [], [], [], []
        for _ in range(3 * rounds):
            plain.append(lab.plain(flat)["cpu_us"] / 20_000)
            told, health, _ = lab.traced(flat)
            if health["counters"]["kernel"]["lost_bytes"]:
                raise SystemExit(f"{name}: bytes were lost")
            traced.append(told["cpu_us"] / 20_000)
        for _ in range(rounds):
            slow_plain.append(lab.plain(paced))
            slow_traced.append(lab.traced(paced)[0])
        core = lambda runs: min(run["cpu_us"] / run["seconds"] for run in runs) / 1e4
        p99 = lambda runs: statistics.median(run["p99_us"] for run in runs) / 1e3
        rows.append(f"| {name} | {min(plain):.2f} | {min(traced):.2f} | **{min(traced) - min(plain):+.2f} us** | "
                    f"{core(slow_traced) - core(slow_plain):+.2f}% of a core (own use {core(slow_plain):.1f}%) | {p99(slow_plain):.1f} ms | {p99(slow_traced):.1f} ms |")
    return rows


def bystander(lab, rounds):
    """A process that heron does not watch, with the same library file, while heron holds hooks on it for another."""
    client = [*lab.clients["Python"], lab.at, "20000", "0", "100"]
    alone, beside = [], []
    holder = [lab.python, "-c", "import ssl, sys; ssl.create_default_context(); print('up', flush=True); sys.stdin.readline()"]
    for _ in range(rounds):
        alone.append(lab.plain(client)["cpu_us"] / 20_000)
        run = Exec(lab, holder)
        run.line()
        beside.append(lab.plain(client)["cpu_us"] / 20_000)
        hits = sum(target["hits"] for target in run.ask("/api/health")["targets"])
        run.tell()
        run.end()
    return (f"An untraced process beside a traced one with the same libssl file: {min(alone):.2f} us a token alone, {min(beside):.2f} beside "
            f"({min(beside) - min(alone):+.2f} us; {check(hits == 0, f'{hits} of its calls reached a hook')}).")


def filtering(lab):
    told, health, calls = lab.traced([lab.python, str(BENCHES / "agent_mixed.py"), lab.at, "300"])
    counts = health["counters"]["kernel"]
    other = check(counts["filtered_bytes"] == told["other"] and counts["heads"] - counts["heads_passed"] > 0, f"{counts['filtered_bytes']:,} of {told['other']:,}")
    arrived = sorted(call["request_bytes"] for call in calls)
    singles = check(all(size in arrived for size in told["sizes"]), f"{len(told['sizes'])} writes from 1 KiB to 8 MiB arrived whole")
    decoded = sum(call["request_bytes"] + call["response_bytes"] for call in calls)
    return ["| mixed traffic (LLM, git, npm, telemetry on the same connections) | bytes |", "|---|---:|",
            f"| seen | {counts['seen_bytes']:,} |",
            f"| passed, of LLM requests and answers | {whole(health, told['llm'])} |",
            f"| decoded into bodies of {len(calls)} calls | {decoded:,} |",
            f"| counted and not copied, of anything else | {other} |", "", singles + ".", ""]


def ring(lab):
    """Bytes of the ring a byte of payload, by the record's layout and the number of records."""
    rows = ["| piece | records | ring bytes a payload byte |", "|---|---:|---:|"]
    for size, tokens in ((100, 20_000), (1_024, 5_000), (16_384, 1_000)):
        _, health, _ = lab.traced([*lab.clients["Python"], lab.at, str(tokens), "0", str(size)])
        counts = health["counters"]["kernel"]
        used = counts["passed_bytes"] + counts["records"] * (RECORD + RING + 4)
        rows.append(f"| {size:,} bytes | {counts['records']:,} | {used / counts['passed_bytes']:.2f} |")
    return rows


def bursts(lab, rounds):
    """64 agents: at a set rate, and flat out with heron stopped for a second."""
    command = lambda seconds, rate: [lab.python, str(BENCHES / "agent_burst.py"), "64", str(seconds), str(rate), "100"]

    def run(seconds, rate, stop=False):
        heron = Exec(lab, command(seconds, rate))
        heron.line()
        if stop:
            threading.Timer(0.3, heron.process.send_signal, (signal.SIGSTOP,)).start()
            threading.Timer(1.3, heron.process.send_signal, (signal.SIGCONT,)).start()
        heron.tell()
        told = json.loads(heron.line())
        return told, heron.end()[0]["counters"]["kernel"]

    def untraced(seconds, rate):
        process = subprocess.Popen(command(seconds, rate), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=lab.env)
        process.stdout.readline()
        return json.loads(process.communicate("\n")[0])

    rows = ["| 64 agents, 100-byte events | events a second | lost | agents' CPU, us an event |", "|---|---:|---:|---:|"]
    told, counts = run(2, 50_000)
    fine = counts["lost_bytes"] == 0 and counts["passed_bytes"] == told["bytes"]
    lost = check(fine, f"{counts['lost_bytes']:,} of {told['bytes']:,} bytes")
    rows.append(f"| 50,000 tokens a second (each written and read) for 2 s | {told['events'] / told['seconds']:,.0f} | "
                f"{lost} | {told['cpu_us'] / told['events']:.2f} |")
    per = {"untraced": [], "traced": [], "stopped": []}
    for _ in range(rounds):
        told = untraced(2, 0)
        per["untraced"].append((told["cpu_us"] / told["events"], told))
        for name in ("traced", "stopped"):
            told, counts = run(2, 0, stop=name == "stopped")
            exact = counts["passed_bytes"] + counts["lost_bytes"] == told["bytes"] == counts["seen_bytes"]
            told["lost"] = check(exact, f"{counts['lost_bytes']:,} + {counts['passed_bytes']:,} = {told['bytes']:,}")
            per[name].append((told["cpu_us"] / told["events"], told))
    for name, what in (("untraced", "flat out, untraced"), ("traced", "flat out, traced"), ("stopped", "flat out, heron stopped for a second")):
        cost, told = min(per[name], key=lambda run: run[0])
        rows.append(f"| {what} | {told['events'] / told['seconds']:,.0f} | {told.get('lost', '')} | {cost:.2f} |")
    return rows


def idle(lab):
    holder = [lab.python, "-c", "import ssl, sys; ssl.create_default_context(); print('up', flush=True); sys.stdin.readline()"]
    run = Exec(lab, holder)
    run.line()
    time.sleep(1)
    before, at = run.cpu(), time.monotonic()
    time.sleep(20)
    used = (run.cpu() - before) / (time.monotonic() - at)
    run.tell()
    run.end()
    return f"Idle beside an agent that waits, console up: {used * 100:.2f}% of a core."


def life(lab, rounds, big):
    """From the command line to hooks that are set, and from the command's end to heron's."""

    def once(command, *options):
        begun = time.monotonic()
        run = subprocess.Popen([str(lab.heron), "exec", "--no-retention", *options, "--", *command], env=lab.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        ready = None
        for line in run.stderr:
            if ready is None and "console at" in line:
                ready = time.monotonic() - begun
        out = run.stdout.read()
        run.wait()
        return ready, time.monotonic() - begun, out

    rows = ["| life cycle | best, ms | median, ms |", "|---|---:|---:|"]

    def row(what, values):
        rows.append(f"| {what} | {min(values) * 1e3:.0f} | {statistics.median(values) * 1e3:.0f} |")

    true = shutil.which("true")
    row("`heron exec --no-console -- true`, all of it", [once([true], "--no-console")[1] for _ in range(rounds)])
    programs = [("Python", [lab.python, "-c", "import ssl"])]
    if big and os.path.exists(big):
        private = lab.directory / "big"
        shutil.copy(os.path.realpath(big), private)
        programs.append((f"a program of {private.stat().st_size / 1e6:.0f} MB", [str(private), "--version"]))
    for name, command in programs:
        port = str(free_port())
        once(command, "--port", port)
        row(f"command line to hooks set, {name}", [once(command, "--port", port)[0] for _ in range(rounds)])
    stops = []
    for _ in range(rounds):
        _, _, out = once([lab.python, "-c", "import ssl, time; print(time.monotonic())"], "--no-console")
        stops.append(time.monotonic() - float(out))
    row("the command's last word to heron's end", stops)
    return rows


def sites(lab, big):
    """What a hit costs by the instruction under the probe."""
    files = [str(path) for path in lab.directory.glob("lib/libssl*")] + [command[0] for name, command in lab.clients.items() if name != "Python"]
    files += [os.path.realpath(big)] if big and os.path.exists(big) else []
    return subprocess.run([sys.executable, str(BENCHES / "kernel_sites.py"), str(lab.heron), *files], capture_output=True, text=True).stdout


def section(lab, rounds, big):
    parts = [f"## Kernel\n\nA local TLS server, clients with private copies of their TLS libraries, {os.cpu_count()} cores, kernel {os.uname().release.split('-')[0]}; best of {rounds} interleaved runs.\n"]
    parts += ["### Sites\n", sites(lab, big)]
    parts += ["### Traced agents\n", *agents(lab, rounds), "", bystander(lab, rounds), ""]
    parts += ["### Bytes\n", *filtering(lab), *ring(lab), ""]
    parts += ["### Bursts\n", *bursts(lab, rounds), "", idle(lab), ""]
    parts += ["### Life cycle\n", *life(lab, max(rounds, 5), big)]
    return "\n".join(parts)


def write(text):
    document, part = DOC.read_text(), f"{BEGIN}\n{text}\n{END}"
    if BEGIN in document:
        head, rest = document.split(BEGIN, 1)
        document = head + part + rest.split(END, 1)[1]
    else:
        document = f"{document.rstrip()}\n\n{part}\n"
    DOC.write_text(document)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin-dir", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--node", default="node")
    parser.add_argument("--bun", default="bun")
    parser.add_argument("--big", default="", help="a large program with TLS inside, for the life cycle")
    parser.add_argument("--only", default="", help="one part: sites, agents, bystander, filtering, ring, bursts, idle, life")
    parser.add_argument("--print", action="store_true", help="print instead of writing docs/benchmarks.md")
    args = parser.parse_args()
    if os.geteuid() != 0:
        return print("SKIPPED the kernel's benchmarks: they need root", file=sys.stderr)
    if os.environ.get("HERON_BENCH_INSIDE") != "1":
        inside = f"ip link set lo up && exec {sys.executable} {__file__} \"$@\""
        sys.exit(subprocess.run(["unshare", "-n", "sh", "-c", inside, "sh", *sys.argv[1:]], env={**os.environ, "HERON_BENCH_INSIDE": "1"}).returncode)
    args.bin_dir = args.bin_dir.resolve()
    with tempfile.TemporaryDirectory() as directory:
        lab = Lab(args, pathlib.Path(directory))
        try:
            if args.only:
                parts = {"sites": lambda: [sites(lab, args.big)], "agents": lambda: agents(lab, args.rounds), "bystander": lambda: [bystander(lab, args.rounds)], "filtering": lambda: filtering(lab),
                         "ring": lambda: ring(lab), "bursts": lambda: bursts(lab, args.rounds), "idle": lambda: [idle(lab)], "life": lambda: life(lab, args.rounds, args.big)}
                return print("\n".join(parts[args.only]()))
            text = section(lab, args.rounds, args.big)
        finally:
            lab.close()
    if args.print:
        return print(text)
    write(text)


main()
