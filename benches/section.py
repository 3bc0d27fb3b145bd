"""Writes one part of docs/benchmarks.md, between its two markers."""
import pathlib

DOC = pathlib.Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def write(name, text):
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    document = DOC.read_text() if DOC.exists() else "# Benchmarks\n\n`make bench` measures and writes this file.\n"
    part = f"{begin}\n{text}\n{end}"
    if begin in document:
        head, rest = document.split(begin, 1)
        document = head + part + rest.split(end, 1)[1]
    else:
        document = document.rstrip() + "\n\n" + part + "\n"
    DOC.write_text(document)
