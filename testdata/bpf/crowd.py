"""Many children of one process, each with a TLS connection of its own. Usage: crowd.py PORT CHILDREN

Prints `up` when all are forked; after a line on standard input each sends one request and reads its answer.
"""

import os
import socket
import ssl
import sys

PORT, CHILDREN = int(sys.argv[1]), int(sys.argv[2])
BODY = b"B" * 1000
REQUEST = b"POST /v1/messages?size=3000 HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


def child(go):
    os.read(go, 1)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", PORT)), server_hostname="localhost") as conn:
        conn.sendall(REQUEST)
        data = b""
        while not data.endswith(b"R" * 3000):
            data += conn.recv(65536)
    os._exit(0)


def main():
    go, tell = os.pipe()
    children = []
    for _ in range(CHILDREN):
        pid = os.fork()
        if pid == 0:
            os.close(tell)
            child(go)
        children.append(pid)
    print("up", flush=True)
    sys.stdin.readline()
    os.close(tell)
    failed = [pid for pid in children if os.waitpid(pid, 0)[1] != 0]
    sys.exit(1 if failed else 0)


main()
