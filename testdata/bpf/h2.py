"""HTTP/2 over TLS with frames made by hand, for the kernel tests; standard library only.

`h2.py serve` prints its port, and ends when its standard input does. It answers each request with a head and a data frame of 1000
bytes at once, and with the rest (`?size=N` bytes, and a last frame of 100 bytes) when a ping comes for all streams that wait.
It writes in pieces that know nothing of frames.

`h2.py PORT STEP...`: `open:PATH:SIZE` begins the next stream (with a request body of SIZE bytes, or a model call's for `call`)
and reads until its first data frame, `rest` lets the server end all streams and reads them, `wait` prints
`waiting` and reads a line from standard input.
"""

import os
import socket
import ssl
import struct
import sys
import threading
import urllib.parse

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PIECE = 10007
CALL = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hello"}]}'


def frame(kind, flags, stream, body=b""):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


class Frames:
    def __init__(self, conn):
        self.conn, self.buffer = conn, b""

    def take(self, n):
        while len(self.buffer) < n:
            more = self.conn.recv(5000)
            if not more:
                raise EOFError
            self.buffer += more
        taken, self.buffer = self.buffer[:n], self.buffer[n:]
        return taken

    def next(self):
        head = self.take(9)
        body = self.take(int.from_bytes(head[:3], "big"))
        return head[3], head[4], int.from_bytes(head[5:], "big"), body


def write(conn, data):
    for at in range(0, len(data), PIECE):
        conn.sendall(data[at : at + PIECE])


def path_of(block):
    at = block.index(b"\x04") + 1
    return block[at + 1 : at + 1 + block[at]].decode()


def serve(conn):
    frames = Frames(conn)
    assert frames.take(len(PREFACE)) == PREFACE
    conn.sendall(frame(SETTINGS, 0, 0))
    waiting = {}
    try:
        while True:
            kind, flags, stream, body = frames.next()
            if kind == HEADERS:
                query = urllib.parse.parse_qs(urllib.parse.urlparse(path_of(body)).query)
                waiting[stream] = int(query.get("size", ["0"])[0])
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                conn.sendall(frame(HEADERS, END_HEADERS, stream, b"\x88") + frame(DATA, 0, stream, b"F" * 1000))
            if kind == PING:
                out = b""
                # One frame of each in turn.
                left = dict(waiting)
                while left:
                    for stream in list(left):
                        size = min(16384, left[stream])
                        if size:
                            out += frame(DATA, 0, stream, b"R" * size)
                            left[stream] -= size
                        else:
                            out += frame(DATA, END_STREAM, stream, b"E" * 100)
                            del left[stream]
                waiting.clear()
                write(conn, out)
    except EOFError:
        pass


def server():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(os.path.dirname(os.path.abspath(__file__)), "localhost.pem"))
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            conn, _ = listener.accept()
            serve(context.wrap_socket(conn, server_side=True))

    threading.Thread(target=accept, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


def client(port, steps):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    conn = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
    conn.sendall(PREFACE + frame(SETTINGS, 0, 0))
    frames, stream, open_streams = Frames(conn), 1, set()
    for step in steps:
        kind, _, rest = step.partition(":")
        if kind == "wait":
            print("waiting", flush=True)
            os.read(0, 1)
        elif kind == "open":
            path, _, size = rest.partition(":")
            body = CALL if size == "call" else b"B" * int(size or 0)
            size = len(body)
            block = (b"\x83" if size else b"\x82") + b"\x87\x01\x09localhost\x04" + bytes([len(path)]) + path.encode()
            out = frame(HEADERS, END_HEADERS | (0 if size else END_STREAM), stream, block)
            while size:
                n = min(size, 16384)
                size -= n
                out += frame(DATA, 0 if size else END_STREAM, stream, body[-n:] if not size else body[-size - n : -size])
            write(conn, out)
            while frames.next()[0] != DATA:
                pass
            open_streams.add(stream)
            stream += 2
        elif kind == "rest":
            conn.sendall(frame(PING, 0, 0, b"continue"))
            while open_streams:
                kind, flags, which, _ = frames.next()
                if kind == DATA and flags & END_STREAM:
                    open_streams.remove(which)


if sys.argv[1] == "serve":
    server()
else:
    client(int(sys.argv[1]), sys.argv[2:])
