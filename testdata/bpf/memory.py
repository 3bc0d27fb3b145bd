"""A streamed answer with both ends of its TLS connection in memory. Usage: memory.py EVENTS SIZE

Prints `go` when the connection is up; after a line on standard input the answer's EVENTS events of SIZE bytes are written and
read; then it prints how many bytes of plaintext passed through reads and writes, and waits for another line.
"""

import os
import ssl
import sys

EVENTS, SIZE = int(sys.argv[1]), int(sys.argv[2])
REQUEST = b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def pair():
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(os.path.join(os.path.dirname(os.path.abspath(__file__)), "localhost.pem"))
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.check_hostname, client_side.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client_side.wrap_bio(down, up), server_side.wrap_bio(up, down, server_side=True)]
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    return ends


def main():
    client, server = pair()
    print("go", flush=True)
    sys.stdin.readline()
    passed = 0
    for writer, reader, data in [(client, server, REQUEST), (server, client, HEAD)] + [(server, client, b"d" * SIZE)] * EVENTS:
        writer.write(data)
        passed += len(data) + len(reader.read(65536))
    print(passed, flush=True)
    sys.stdin.readline()


main()
