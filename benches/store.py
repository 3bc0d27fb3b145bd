#!/usr/bin/env python3
"""Measures the store (benches/store.rs) and writes the "Store" part of docs/benchmarks.md.

The yardstick is CPU time (user and system, all threads), so that a busy machine matters little.
"""
import argparse
import json
import subprocess

import section


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", default="10000,1000000", help="sizes of the databases of short calls, separated by commas")
    parser.add_argument("--binary", help="the benchmark, built already")
    arguments = parser.parse_args()
    command = [arguments.binary] if arguments.binary else ["cargo", "bench", "-q", "--bench", "store", "--"]
    command += arguments.calls.split(",")
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    results = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    lines = [
        "## Store", "",
        "What the writer takes: each call with its place, rows, bodies, messages and the final checkpoint included. CPU time is that of all threads.", "",
        "| what | calls | MB of bodies | calls per CPU-second | MB per CPU-second | on disk, of the bodies | bytes on disk per call |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in results:
        share, each = r["disk_bytes"] / r["body_bytes"], r["disk_bytes"] / r["calls"]
        lines.append(
            f"| {r['what']} | {r['calls']:,} | {r['body_bytes'] / 1e6:,.0f} | {r['calls_per_cpu_second']:,.0f} "
            f"| {r['mb_per_cpu_second']:,.0f} | {share:.1%} | {each:,.0f} |"
        )
    read = [r for r in results if "milliseconds" in r]
    lines += ["", "What reading takes, in milliseconds of CPU (the least of 10):", ""]
    lines.append("| what | " + " | ".join(f"{r['calls']:,} calls" for r in read) + " |")
    lines.append("|---|" + "---:|" * len(read))
    for name in read[0]["milliseconds"] if read else []:
        lines.append(f"| {name} | " + " | ".join(f"{r['milliseconds'][name]:,.1f}" for r in read) + " |")
    text = "\n".join(lines)
    print(text)
    section.write("store", text)


main()
