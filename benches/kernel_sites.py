#!/usr/bin/env python3
"""What a probe costs by the instruction under it, and which instructions the hooked functions of some files have.

A page of machine code in a file of its own is called in a loop, without a probe and with an empty BPF program at its first
instruction; the floor beside it is a `getppid`. Usage: kernel_sites.py HERON FILE... (root, x86-64)
"""
import ctypes
import json
import mmap
import os
import platform
import struct
import subprocess
import sys
import tempfile
import time

PROG_LOAD, LINK_CREATE, NR_BPF = 5, 28, 321
KPROBE, UPROBE_MULTI, RETURN = 2, 48, 1
CALLS, TARGET = 20_000, 256
# The instruction in question, and what follows so that the function returns.
SITES = {
    "push": (b"\x55", b"\x5d\xc3"),
    "nop": (b"\x90", b"\xc3"),
    "call": (b"\xe8\0\0\0\0", b"\x58\xc3"),
    "js": (b"\x78\x00", b"\xc3"),
    "sub rsp": (b"\x48\x83\xec\x18", b"\x48\x83\xc4\x18\xc3"),
    "endbr64": (b"\xf3\x0f\x1e\xfa", b"\xc3"),
    "mov": (b"\x48\x89\xf8", b"\xc3"),
    "ret": (b"\xc3", b""),
}
STACK_MOVES = ("call",)  # no place for a return probe
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]


def bpf(command, attr):
    buffer = ctypes.create_string_buffer(attr, 128)
    fd = libc.syscall(NR_BPF, command, buffer, 128)
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command}): {os.strerror(ctypes.get_errno())}")
    return fd


def empty_program():
    code = ctypes.create_string_buffer(bytes.fromhex("b700000000000000" "9500000000000000"))
    licence = ctypes.create_string_buffer(b"GPL")
    attr = struct.pack("=IIQQIIQII16sII", KPROBE, 2, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0, 0, b"empty", 0, UPROBE_MULTI)
    return bpf(PROG_LOAD, attr)


def link(program, path, offset, flags):
    """A probe for this process alone."""
    name, offsets = ctypes.create_string_buffer(path.encode()), (ctypes.c_uint64 * 1)(offset)
    attr = struct.pack("=IIIIQQQQIII", program, 0, UPROBE_MULTI, 0, ctypes.addressof(name), ctypes.addressof(offsets), 0, 0, 1, flags, os.getpid())
    return bpf(LINK_CREATE, attr)


class Loop:
    """`f(n)` calls the code at TARGET n times."""

    def __init__(self, directory, name, code):
        self.path = os.path.join(directory, name.replace(" ", "-"))
        # push rbx; mov ebx, edi; again: call TARGET; dec ebx; jnz again; pop rbx; ret
        head = b"\x53\x89\xfb" + b"\xe8" + struct.pack("<i", TARGET - 8) + b"\xff\xcb\x75\xf7\x5b\xc3"
        with open(self.path, "wb") as file:
            file.write((head.ljust(TARGET, b"\xcc") + code).ljust(4096, b"\xcc"))
        with open(self.path, "rb") as file:
            # Not writable: the kernel sets no probes in writable memory.
            self.at = libc.mmap(None, 4096, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, file.fileno(), 0)
        self.call = ctypes.CFUNCTYPE(None, ctypes.c_int)(self.at)

    def once(self):
        """Nanoseconds of CPU time a call."""
        before = time.thread_time_ns()
        self.call(CALLS)
        return (time.thread_time_ns() - before) / CALLS


def prices(rounds=5):
    """By site: nanoseconds of an entry probe, and of entry and return together (None where a return has no place)."""
    program, told = empty_program(), {}
    with tempfile.TemporaryDirectory() as directory:
        loops = {name: Loop(directory, name, head + tail) for name, (head, tail) in SITES.items()}
        floor = Loop(directory, "getppid", b"\xb8\x6e\0\0\0\x0f\x05\xc3")
        best = {(name, what): float("inf") for name in SITES for what in ("none", "entry", "both")}
        getppid = float("inf")
        for _ in range(rounds):
            getppid = min(getppid, floor.once())
            for name, loop in loops.items():
                best[name, "none"] = min(best[name, "none"], loop.once())
                links = [link(program, loop.path, TARGET, 0)]
                best[name, "entry"] = min(best[name, "entry"], loop.once())
                if name not in STACK_MOVES:
                    links.append(link(program, loop.path, TARGET, RETURN))
                    best[name, "both"] = min(best[name, "both"], loop.once())
                for one in links:
                    os.close(one)
        for name in SITES:
            both = None if name in STACK_MOVES else best[name, "both"] - best[name, "none"]
            told[name] = (best[name, "entry"] - best[name, "none"], both)
    return getppid, told


def instruction(file, site):
    """What stands at a site, by the names above."""
    file.seek(site["file_offset"])
    code = file.read(15)
    if code[:1] in b"\x50\x51\x52\x53\x54\x55\x56\x57" or code[:1] == b"\x41" and 0x50 <= code[1] <= 0x57:
        return "push"
    if code[:1] == b"\xe8":
        return "call"
    if 0x70 <= code[0] <= 0x7f or code[:2] >= b"\x0f\x80" and code[:2] <= b"\x0f\x8f" or code[:1] in (b"\xe9", b"\xeb"):
        return "js"
    if code.startswith(b"\xf3\x0f\x1e\xfa"):
        return "endbr64"
    return "sub rsp" if code[:3] == b"\x48\x83\xec" else "nop" if code[:1] == b"\x90" else "mov"


def table(heron, files):
    getppid, price = prices()
    us = lambda ns: "–" if ns is None else f"{ns / 1e3:.2f}"
    rows = [f"An empty program under one instruction, CPU time of the process a hit; a `getppid` beside it: {us(getppid)} us.\n",
            "| instruction | entry, us | entry and return, us |", "|---|---:|---:|"]
    rows += [f"| `{name}` | {us(entry)} | {us(both)} |" for name, (entry, both) in price.items()]
    rows += ["", "| file | function | entry | return | price of a call, us |", "|---|---|---|---|---:|"]
    for path in files:
        libraries = json.loads(subprocess.run([heron, "symbols", "--json", path], capture_output=True, text=True, check=True).stdout)
        # A process has many files, a file is one.
        libraries = libraries.get("files", [libraries])[0]["libraries"]
        with open(path, "rb") as file:
            for function in (f for library in libraries for f in library["functions"]):
                if not function["hooked"] or not function["role"].startswith(("read", "write")) or not function["return_site"]:
                    continue
                entry, at_return = instruction(file, function["entry_site"]), instruction(file, function["return_site"])
                cost = price[entry][0] + (price[at_return][1] or price[at_return][0]) - price[at_return][0]
                if at_return != entry:
                    # Two places, two breakpoints.
                    cost = price[entry][0] + (price[at_return][1] or price[at_return][0])
                rows.append(f"| {os.path.basename(path)} | {function['symbol']} | `{entry}` {function['entry_site']['class']} | `{at_return}` {function['return_site']['class']} | {us(cost)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    if os.geteuid() != 0 or platform.machine() != "x86_64":
        sys.exit("SKIPPED the sites' prices: they need root and x86-64")
    print(table(sys.argv[1], sys.argv[2:]))
