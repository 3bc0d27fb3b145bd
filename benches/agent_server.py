"""A TLS server that streams answers token by token, for benches/agent.py.

Prints its port. `POST /v1/messages?tokens=N&rate=R&size=S` is answered with N server-sent events of S bytes, one TLS record
each: R a second, or as fast as they go when R is 0. Any other path gets `size` bytes at once. Ends with its standard input.
"""
import os
import pathlib
import socket
import ssl
import sys
import threading
import time
import urllib.parse

CERT = pathlib.Path(__file__).resolve().parent.parent / "testdata" / "bpf" / "localhost.pem"
START = ('event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",'
         '"model":"claude-bench-1","content":[],"usage":{"input_tokens":7,"output_tokens":1}}}\n\n'
         'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n')
END = ('event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
       'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":%d}}\n\n'
       'event: message_stop\ndata: {"type":"message_stop"}\n\n')


def token(size):
    """One server-sent event of `size` bytes (at least the 100 of its frame)."""
    frame = 'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}\n\n'
    return (frame % ("w" * max(1, size - len(frame) + 2))).encode()


def request(conn):
    """The target of the next request, its body read; None at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = conn.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    left = length - len(body)
    while left > 0:
        left -= len(conn.recv(min(left, 1 << 20)))
    return head.split(b" ", 2)[1].decode()


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def stream(conn, tokens, rate, size):
    conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(START.encode()))
    # The size is that of the whole record: the event and its chunk's frame.
    event = chunk(token(size - 6))
    begun = time.perf_counter()
    for number in range(tokens):
        if rate:
            wait = begun + number / rate - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
        conn.sendall(event)
    conn.sendall(chunk((END % tokens).encode()) + b"0\r\n\r\n")


def serve(raw, context):
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(raw, server_side=True) as conn:
            while target := request(conn):
                url = urllib.parse.urlparse(target)
                query = {name: int(values[0]) for name, values in urllib.parse.parse_qs(url.query).items()}
                if url.path == "/v1/messages" and "tokens" in query:
                    stream(conn, query["tokens"], query.get("rate", 0), query.get("size", 100))
                else:
                    size = query.get("size", 2)
                    conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"R" * size)
    except (OSError, ssl.SSLError):
        pass  # the client has what it wanted


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERT)
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    while True:
        raw, _ = listener.accept()
        threading.Thread(target=serve, args=(raw, context), daemon=True).start()


main()
