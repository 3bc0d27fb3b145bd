#!/usr/bin/env python3
"""Measures the replay of generated captures and writes the "Replay" part of docs/benchmarks.md.

A row counts only if what was found equals the generator's ground truth; otherwise it says WRONG. Runs are interleaved,
the best of several counts, and the yardstick is CPU time (user and system, all threads), so that a busy machine matters
little. The other tools are measured when they are installed.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import section

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(command, **options):
    """CPU seconds, wall seconds, peak MB, output."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=err, **options)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begun
        out.seek(0)
        err.seek(0)
        if status != 0:
            raise SystemExit(f"{command[0]} failed: {err.read().decode()[-500:]}")
        return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, out.read().decode("utf-8", "replace")


class Row:
    def __init__(self, what, megabytes):
        self.what, self.megabytes = what, megabytes
        self.cpu = self.wall = float("inf")
        self.peak, self.note = 0, ""

    def add(self, cpu, wall, peak):
        self.cpu, self.wall, self.peak = min(self.cpu, cpu), min(self.wall, wall), max(self.peak, peak)

    def __str__(self):
        rate = self.megabytes / max(self.cpu, 1e-3)
        return f"| {self.what} | {rate:,.0f} | {self.cpu:.2f} | {self.wall:.2f} | {self.peak:,.0f} | {self.note} |"


def compare(found, truth, keys):
    wrong = [key for key in keys if found.get(key) != truth[key]]
    return "all equal" if not wrong else "WRONG: " + ", ".join(f"{key} {found.get(key)} != {truth[key]}" for key in wrong)


def measure(bin_dir, size, kind, rounds, directory):
    capture = f"{directory}/{kind}-{size}.pcap"
    examples = bin_dir / "examples"
    run([examples / "generate", capture, str(size), kind])
    truth = json.loads(pathlib.Path(f"{capture}.truth.json").read_text())
    megabytes = truth["file_bytes"] / 1e6
    heron, events = Row("heron replay, stored", megabytes), Row("file to events, one thread", megabytes)
    floor, copy = Row("page-cache read (floor)", megabytes), Row("memcpy (floor)", megabytes)
    workers = [Row(f"heron replay, {n} decode worker{'s' * (n > 1)}", megabytes) for n in (1, 2)] if kind == "history" else []
    others = []
    if shutil.which("tshark") and kind == "clean" and size <= 60:
        fields = ["-Y", "http.request", "-T", "fields", "-e", "http.request.uri"]
        others.append((Row("tshark, HTTP request lines only", megabytes), ["tshark", "-r", capture, *fields]))
    if shutil.which("tcpflow") and kind == "clean":
        others.append((Row("tcpflow -e http, no semantics", megabytes), ["tcpflow", "-e", "http", "-r", capture]))
    sizes = []
    for turn in range(rounds):
        floor.add(*run(["cp", capture, "/dev/null"])[:3]) if turn == 0 else None
        result = json.loads(run([examples / "events", capture, "3"])[3])
        events.add(megabytes / result["events_mb_per_cpu_s"], megabytes / result["events_mb_per_cpu_s"], result["peak_mb"])
        floor.cpu = min(floor.cpu, megabytes / result["read_mb_per_cpu_s"])
        copied = megabytes / result["copy_mb_per_cpu_s"]
        copy.add(copied, copied, result["peak_mb"])
        with tempfile.TemporaryDirectory(dir=directory) as home:
            database = f"{home}/heron.duckdb"
            command = [bin_dir / "heron", "replay", capture, "--db", database, "--no-console"]
            heron.add(*run(command, env={**os.environ, "HOME": home})[:3])
            sizes.append(sum(path.stat().st_size for path in pathlib.Path(home).rglob("*") if path.is_file()))
            for number, row in enumerate(workers, 1):
                command = [bin_dir / "heron", "replay", capture, "--no-console", "--no-retention", "--json=/dev/null", "--workers", str(number)]
                row.add(*run(command, env={**os.environ, "HOME": home})[:3])
            if turn == 0:
                stored = json.loads(run([examples / "stored", database])[3])
        if turn == 0:
            for row, command in others:
                with tempfile.TemporaryDirectory(dir=directory) as work:
                    row.add(*run(command, cwd=work)[:3])
    checked = json.loads(run([examples / "events", capture, "1", "check"])[3])
    if kind == "holes":
        sound = truth["calls"] - len([call for call in truth["damaged"] if call])
        whole = stored["calls"] - stored["flawed"]
        heron.note = f"{whole} whole of {sound} undamaged calls ({whole / sound:.1%}), {stored['flawed']} flagged"
        events.note = f"{checked['lost']:,} bytes told as lost"
    else:
        keys = ["calls", "turns", "input_tokens", "output_tokens", "request_bytes", "response_bytes", "bodies"]
        heron.note = compare(stored, truth, keys)
        events.note = compare(checked, truth, ["streams"])
    if kind == "clean":
        heron.note += f"; ended {exit_time(bin_dir / 'heron', capture, directory):.2f} s after the last packet"
    for row in workers:
        row.note = "nothing stored"
    heron.note += f"; database {min(sizes) / truth['file_bytes']:.1%} of the capture"
    title = f"### {kind}, {megabytes:.0f} MB: {truth['calls']} calls, {truth['turns']} turns, {truth['connections']} connections"
    lines = [title, "", "| what | MB per CPU-second | CPU s | wall s | peak MB | found |", "|---|---:|---:|---:|---:|---|"]
    return "\n".join(lines + [str(row) for row in (floor, copy, events, heron, *workers, *(row for row, _ in others))])


def exit_time(heron, capture, directory):
    """Seconds from the last byte of a capture that comes through a pipe to the end of the process."""
    with tempfile.TemporaryDirectory(dir=directory) as home, open(capture, "rb") as file:
        command = [heron, "replay", "-", "--db", f"{home}/heron.duckdb", "--no-console"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "HOME": home}, **quiet)
        shutil.copyfileobj(file, process.stdin, 1 << 20)
        process.stdin.close()
        last = time.monotonic()
        process.wait()
        return time.monotonic() - last


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin-dir", type=pathlib.Path, default=ROOT / "target" / "release")
    parser.add_argument("--sizes", default="50", help="megabytes, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", default=None, help="where captures are made")
    arguments = parser.parse_args()
    parts = []
    with tempfile.TemporaryDirectory(dir=arguments.work) as directory:
        for size in map(int, arguments.sizes.split(",")):
            for kind in ["clean", "disorder", "holes", "history"] if size <= 100 else ["clean", "history"]:
                parts.append(measure(arguments.bin_dir, size, kind, arguments.rounds, directory))
                print(parts[-1], flush=True)
    cores = os.cpu_count()
    about = (
        "## Replay\n\nGenerated captures (`benches/generate.rs`): agents that resend a growing history, streamed answers, short calls on\n"
        f"connections of their own; in `history` nothing but conversations of up to 600 KB a call. Best of {arguments.rounds} interleaved runs on {cores} cores; CPU time is that of all threads. A row\n"
        "counts only if calls, turns, tokens, sizes and the hash of every body equal what was generated."
    )
    section.write("replay", "\n\n".join([about, *parts]))


main()
