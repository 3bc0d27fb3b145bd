"""A TLS client for the kernel tests. Usage: client.py PORT STEP...

Steps share one connection: `post:PATH:SIZE` (head and body in one write), `get:PATH`, `new` (a new connection), `fork` (the rest
runs in a child on a connection of its own), `wait` (reads one line from standard input, after printing `waiting`), `repeat:N:STEP`
(the step N times), `say:WORD` (prints it), `plain` (no TLS from the next connection on).
"""

import os
import socket
import ssl
import sys

PORT = int(sys.argv[1])


def connect(plain):
    if plain:
        return socket.create_connection(("127.0.0.1", PORT))
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection(("127.0.0.1", PORT)), server_hostname="localhost")


def exchange(conn, head, body=b""):
    conn.sendall(head + body)
    data = b""
    while b"\r\n\r\n" not in data:
        data += conn.recv(65536)
    headers, _, rest = data.partition(b"\r\n\r\n")
    length = int(next(line for line in headers.lower().split(b"\r\n") if line.startswith(b"content-length:"))[15:])
    while len(rest) < length:
        rest += conn.recv(65536)


class Client:
    conn = None
    plain = False

    def step(self, step):
        kind, _, rest = step.partition(":")
        if kind == "new":
            self.conn = None
        elif kind == "wait":
            print("waiting", flush=True)
            os.read(0, 1)
        elif kind == "plain":
            self.plain = True
        elif kind == "say":
            print(rest, flush=True)
        elif kind == "repeat":
            times, _, inner = rest.partition(":")
            for _ in range(int(times)):
                self.step(inner)
        else:
            self.conn = self.conn or connect(self.plain)
            path, _, size = rest.partition(":")
            size = int(size or 0)
            head = f"{kind.upper()} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n".encode()
            exchange(self.conn, head, b"B" * size)


def main():
    client = Client()
    for step in sys.argv[2:]:
        if step == "fork":
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                return
            client.conn = None
        else:
            client.step(step)


main()
