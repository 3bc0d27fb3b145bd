"""A small TLS server for the kernel tests: HTTP/1.1, keep-alive, standard library only.

Prints its port when it listens. `?size=N` in the path asks for an answer of N bytes, `&growing=1` for writes of 1, 2, 3, ...
bytes. Ends when its standard input does.
"""

import http.server
import os
import socketserver
import ssl
import sys
import threading
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self):
        length = int(self.headers.get("content-length", 0))
        while length > 0:
            length -= len(self.rfile.read(min(length, 1 << 16)))
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        size = int(query.get("size", ["2"])[0])
        self.send_response(200)
        self.send_header("content-length", str(size))
        self.end_headers()
        if self.command != "HEAD":
            self.body(size, "growing" in query)

    def body(self, size, growing):
        piece = 1 if growing else size
        while size > 0:
            self.wfile.write(b"R" * min(piece, size))
            size -= piece
            piece += 1

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main():
    server = Server(("127.0.0.1", 0), Handler)
    if "--plain" not in sys.argv:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(os.path.dirname(os.path.abspath(__file__)), "localhost.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


main()
