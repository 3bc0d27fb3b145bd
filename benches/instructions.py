#!/usr/bin/env python3
"""Counts the instructions of each stage on small generated captures, and holds them against `instructions.json`.

The program is `stages` (benches/stages.rs) in the profile of the tests, so that nothing is built for this alone; counts
of an unoptimised build are several times those of a release, but what makes one grow makes the other grow. Counts do not
depend on load or clock. They do depend on the compiler and on the vector instructions that libraries choose, so on
another compiler, without AVX2 or without valgrind nothing is compared, loudly.

`instructions.py PROGRAM` compares; `instructions.py PROGRAM --write` measures and writes new ceilings.
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

CEILINGS = pathlib.Path(__file__).resolve().parent / "instructions.json"
STAGES = ["events", "http", "wire", "turn"]
KINDS = ["tokens", "history"]
MARGIN = 1.25


def skip(why):
    print(f"\n*** SKIPPED: instruction counts are not compared: {why} ***\n", file=sys.stderr)
    sys.exit(0)


def compiler():
    return subprocess.run(["rustc", "-V"], capture_output=True, text=True).stdout.strip()


def count(program, kind):
    """Instructions per byte of capture, by stage."""
    native = subprocess.run([program, "run", kind], capture_output=True, text=True)
    if native.returncode != 0:
        sys.exit(f"{program} run {kind} failed:\n{native.stderr}")
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / "counts"
        # Each stage is a function of the program, called once and in this order: a dump when it is left holds its count.
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=*::counted_events"]
        command += [f"--dump-after=*::counted_{stage}" for stage in STAGES]
        run = subprocess.run([*command, program, "run", kind], capture_output=True, text=True)
        if run.returncode != 0:
            skip(f"valgrind cannot run the program here: {run.stderr[-300:]}")
        found = {}
        for path in out.parent.iterdir():
            text = path.read_text(errors="replace")
            trigger, total = re.search(r"--dump-after=.*counted_(\w+)", text), re.search(r"^totals: (\d+)", text, re.M)
            if trigger and total:
                found[trigger[1]] = int(total[1])
        if sorted(found) != sorted(STAGES):
            skip(f"valgrind did not tell the stages apart (found {sorted(found)})")
        size = int(run.stdout.split()[-1])
        return {stage: round(found[stage] / size, 2) for stage in STAGES}


def main():
    program, *rest = sys.argv[1:]
    if not shutil.which("valgrind"):
        skip("valgrind is not installed")
    if "avx2" not in pathlib.Path("/proc/cpuinfo").read_text():
        skip("this processor has no AVX2")
    if rest == ["--write"]:
        ceilings = {kind: {stage: round(n * MARGIN, 1) for stage, n in count(program, kind).items()} for kind in KINDS}
        CEILINGS.write_text(json.dumps({"compiler": compiler(), "instructions_per_byte_at_most": ceilings}, indent=2) + "\n")
        print(CEILINGS.read_text())
        return
    known = json.loads(CEILINGS.read_text())
    if known["compiler"] != compiler():
        skip(f"the ceilings are those of {known['compiler']}, and this is {compiler()}")
    over = []
    for kind in KINDS:
        counts = count(program, kind)
        ceilings = known["instructions_per_byte_at_most"][kind]
        for stage in STAGES:
            verdict = "ok" if counts[stage] <= ceilings[stage] else "OVER"
            print(f"instructions per byte, {kind:8} {stage:7} {counts[stage]:8.2f} of at most {ceilings[stage]:8.1f}  {verdict}")
            if verdict != "ok":
                over.append(f"{kind}/{stage}")
    if over:
        sys.exit(f"more instructions than the ceilings of {CEILINGS.name} allow: {', '.join(over)}. See docs/benchmarks.md.")


main()
