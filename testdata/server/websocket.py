"""WebSocket (RFC 6455) with permessage-deflate (RFC 7692, context takeover unless declined), for OpenAI Responses.

One `response.create` message and the events up to its end are one exchange of the record; the bodies are the messages,
joined by newlines."""

import base64
import hashlib
import json
import struct
import time
import zlib
from dataclasses import replace

from apis import openai_responses
from apis import compact
from exchange import Cut, Reply

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TAIL = b"\x00\x00\xff\xff"


class Socket:
    """Frames on one connection."""

    def __init__(self, sock, reader, deflate, server_takeover, client_takeover):
        self.sock, self.reader = sock, reader
        self.deflate, self.server_takeover, self.client_takeover = deflate, server_takeover, client_takeover
        self._fresh_out()
        self._fresh_in()

    def _fresh_out(self):
        self.out = zlib.compressobj(6, zlib.DEFLATED, -15)

    def _fresh_in(self):
        self.inflater = zlib.decompressobj(-15)

    def _frame(self):
        b0, b1 = self.reader.take(2)
        length = b1 & 0x7F
        if length == 126:
            length = struct.unpack(">H", self.reader.take(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self.reader.take(8))[0]
        mask = self.reader.take(4) if b1 & 0x80 else b""
        data = self.reader.take(length)
        if mask:
            key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
            data = (int.from_bytes(data, "big") ^ key).to_bytes(length, "big") if length else b""
        return b0, data

    def receive(self):
        """The next text message, with the time of its first frame; None at close."""
        whole, compressed, started = bytearray(), False, None
        while True:
            b0, data = self._frame()
            opcode = b0 & 0x0F
            if opcode == 8:
                self.send_frame(8, data[:2])
                return None, None
            if opcode == 9:
                self.send_frame(10, data)
                continue
            if opcode == 10:
                continue
            if opcode in (1, 2):
                compressed, started = bool(b0 & 0x40), time.time_ns()
            whole += data
            if b0 & 0x80:
                if compressed:
                    whole = bytearray(self.inflater.decompress(bytes(whole) + TAIL))
                    if not self.client_takeover:
                        self._fresh_in()
                return bytes(whole), started

    def send_frame(self, opcode, data, rsv=0):
        size = len(data)
        head = bytes([0x80 | rsv | opcode])
        head += bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size) if size < 65536 else b"\x7f" + struct.pack(">Q", size)
        self.sock.sendall(head + data)

    def send_text(self, data):
        if not self.deflate:
            return self.send_frame(1, data)
        packed = self.out.compress(data) + self.out.flush(zlib.Z_SYNC_FLUSH)
        if not self.server_takeover:
            self._fresh_out()
        self.send_frame(1, packed[:-4], 0x40)


def serve(sock, reader, request, app):
    """Accepts the upgrade, then answers each `response.create`."""
    key = request.header("sec-websocket-key").encode()
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
    offer = request.header("sec-websocket-extensions").lower()
    deflate = "permessage-deflate" in offer and app.script.defaults.get("deflate", True)
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
    server_takeover = "server_no_context_takeover" not in offer
    client_takeover = "client_no_context_takeover" not in offer
    if deflate:
        agreed = ["permessage-deflate"]
        agreed += [] if server_takeover else ["server_no_context_takeover"]
        agreed += [] if client_takeover else ["client_no_context_takeover"]
        lines.append("Sec-WebSocket-Extensions: " + "; ".join(agreed))
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    ws = Socket(sock, reader, deflate, server_takeover, client_takeover)
    while True:
        message, started = ws.receive()
        if message is None:
            return
        cycle(ws, request, message, started, app)


def cycle(ws, upgrade, message, started, app):
    """One response cycle."""
    request = replace(upgrade, n=next(app.numbers), protocol="ws", body_wire=message, body=message, head=b"")
    body = request.json()
    if body.get("type") != "response.create":
        return
    body = {**(body.pop("response", None) or {}), **body}
    times = {"t_request_first": started, "t_request_last": time.time_ns()}
    app.began()
    facts, do, events = openai_responses.socket_message(request, app, body)
    # The upgrade's status; the messages have none of their own.
    reply = Reply(101, [], [], True, facts, do)
    sent, complete = [], False
    times["t_response_first"] = time.time_ns()
    try:
        if do.get("rate_limits", True):
            limits = compact({"type": "codex.rate_limits", "plan_type": "pro", "rate_limits": {"allowed": True, "limit_reached": False, "primary": {"used_percent": 12, "window_minutes": 300, "reset_at": 1780003600}}}).encode()
            ws.send_text(limits)
            sent.append(limits)
        for event in events:
            data = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
            ws.send_text(data)
            sent.append(data)
        complete = True
    except Cut:
        ws.sock.close()
    finally:
        times["t_response_last"] = time.time_ns()
        joined = b"\n".join(sent)
        app.record.write(request, reply, joined, joined, complete, times)
        app.finished()
