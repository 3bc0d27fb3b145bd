#!/usr/bin/env python3
"""Makes a capture (pcap, nanoseconds, Ethernet, plaintext) of what `model_server.py --streams` kept.

    streams_to_pcap.py STREAMS.jsonl OUT.pcap [--port N] [--mss 1460] [--epoch]

Each read and write becomes TCP segments of the size `--mss`, with handshakes, acknowledgements and FINs. --epoch moves the
first packet to a fixed time, so that the same streams always give the same file.
"""

import argparse
import base64
import json
import struct

CLIENT, SERVER = bytes([127, 0, 0, 1]), bytes([127, 0, 0, 1])
SYN, ACK, FIN, PSH = 2, 16, 1, 8
EPOCH = 1_780_000_000_000_000_000


class Capture:
    def __init__(self, path):
        self.file = open(path, "wb")
        self.file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))

    def packet(self, at, frame):
        self.file.write(struct.pack("<IIII", at // 10**9, at % 10**9, len(frame), len(frame)) + frame)


class Connection:
    """Sequence numbers of one connection."""

    def __init__(self, capture, client_port, server_port, mss):
        self.capture, self.ports, self.mss = capture, (client_port, server_port), mss
        self.seq = {"request": 1000, "response": 5000}
        self.number = 0

    def segment(self, at, direction, flags, data=b""):
        other = "response" if direction == "request" else "request"
        ports = self.ports if direction == "request" else self.ports[::-1]
        tcp = struct.pack(">HHIIBBHHH", *ports, self.seq[direction] & 0xFFFFFFFF, self.seq[other] & 0xFFFFFFFF if flags & ACK else 0, 5 << 4, flags, 65535, 0, 0)
        self.number += 1
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp) + len(data), self.number & 0xFFFF, 0x4000, 64, 6, 0, CLIENT, SERVER)
        total = sum(struct.unpack(">10H", ip))
        total = (total & 0xFFFF) + (total >> 16)
        ip = ip[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + ip[12:]
        pseudo = CLIENT + SERVER + struct.pack(">BBH", 0, 6, len(tcp) + len(data)) + tcp + data + b"\0" * (len(data) % 2)
        total = sum(struct.unpack(f">{len(pseudo) // 2}H", pseudo))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        tcp = tcp[:16] + struct.pack(">H", ~total & 0xFFFF) + tcp[18:]
        self.capture.packet(at, b"\0" * 12 + b"\x08\0" + ip + tcp + data)
        self.seq[direction] += len(data) + (1 if flags & (SYN | FIN) else 0)

    def open(self, at):
        self.segment(at, "request", SYN)
        self.segment(at, "response", SYN | ACK)
        self.segment(at, "request", ACK)

    def data(self, at, direction, data):
        for start in range(0, len(data), self.mss):
            self.segment(at, direction, ACK | PSH, data[start:start + self.mss])
        self.segment(at, "response" if direction == "request" else "request", ACK)

    def close(self, at):
        self.segment(at, "request", FIN | ACK)
        self.segment(at, "response", FIN | ACK)
        self.segment(at, "request", ACK)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams")
    parser.add_argument("out")
    parser.add_argument("--port", type=int, help="the server's port; the real one by default")
    parser.add_argument("--mss", type=int, default=1460)
    parser.add_argument("--epoch", action="store_true")
    args = parser.parse_args()
    with open(args.streams) as file:
        rows = [json.loads(line) for line in file]
    shift = EPOCH - rows[0]["t"] if args.epoch and rows else 0
    capture, open_now, at = Capture(args.out), {}, 0
    for row in rows:
        at, data = row["t"] + shift, base64.b64decode(row["b64"])
        connection = open_now.get(row["conn"])
        if connection is None:
            port = lambda end: int(row[end].rsplit(":", 1)[1])
            connection = open_now[row["conn"]] = Connection(capture, port("client"), args.port or port("server"), args.mss)
            connection.open(at)
        if data:
            connection.data(at, row["dir"], data)
        elif row["dir"] == "request":
            connection.close(at)
            del open_now[row["conn"]]
    for connection in open_now.values():
        connection.close(at)


if __name__ == "__main__":
    main()
