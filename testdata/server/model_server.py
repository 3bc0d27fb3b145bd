#!/usr/bin/env python3
"""The scripted model server: real TLS with its own CA, HTTP/1.1, HTTP/2 and WebSocket, seven wire APIs, and a record of
everything that it received and sent. It binds 127.0.0.1 only and calls nobody.

    model_server.py --dir DIR [--record R.jsonl] [--scenario S.json] [--bodies full|hash] [--no-h2] [--no-websocket]
                    [--tls-port N] [--http-port N] [--token-delay-ms N] [--gate N] [--streams T.jsonl] [--die-with-parent]

It writes its CA and leaf into DIR, and when it is ready prints one line:
    {"tls_port": 40443, "http_port": 40080, "ca": "DIR/ca.pem", "pid": 123}
What it answers: script.py. What it writes down: record.py. GET /__state, /__wait?gated=1|ended=N and /__continue steer it.
"""

import argparse
import ctypes
import json
import os
import signal
import socket
import ssl
import sys
import threading

import certs
import http1
import http2
from app import App
from record import Record
from script import Script
from tap import Tap, TappedSocket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def arguments():
    parser = argparse.ArgumentParser(description="scripted model server")
    parser.add_argument("--dir", required=True, help="where the CA and the certificates go")
    parser.add_argument("--record", help="JSONL file to append every exchange to")
    parser.add_argument("--scenario", help="JSON file: defaults and rules (script.py)")
    parser.add_argument("--bodies", choices=["full", "hash"], default="full", help="keep bodies in the record, or their hash only")
    parser.add_argument("--no-h2", action="store_true", help="offer HTTP/1.1 only")
    parser.add_argument("--no-websocket", action="store_true", help="refuse WebSocket upgrades with 426")
    parser.add_argument("--tls-port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--token-delay-ms", type=float, default=0)
    parser.add_argument("--gate", type=int, help="stop every stream after so many tokens until GET /__continue")
    parser.add_argument("--streams", help="JSONL file for every connection's plaintext, for streams_to_pcap.py")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the process that started the server ends")
    return parser.parse_args()


def tls_context(paths, offer_h2):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths["leaf"], paths["key"])
    context.set_alpn_protocols(["h2", "http/1.1"] if offer_h2 else ["http/1.1"])
    return context


def handle(sock, peer, app, context):
    """One connection, from its first byte to its end."""
    conn = next(app.connections)
    client = "%s:%d" % peer[:2]
    server = "%s:%d" % sock.getsockname()[:2]
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        if context:
            sock = context.wrap_socket(sock, server_side=True)
        is_h2 = context and sock.selected_alpn_protocol() == "h2"
        if app.tap:
            sock = TappedSocket(sock, app.tap, conn, client, server)
        with sock:
            if is_h2:
                http2.serve(sock, app, conn, True, client, server)
                return
            first = sock.recv(1 << 16)
            if not context and first.startswith(PREFACE[:len(first)]) and len(first) >= 3:
                http2.serve(sock, app, conn, False, client, server, first)
            elif first:
                http1.serve(sock, app, conn, bool(context), client, server, first)
    except OSError:
        pass  # a client that went away or refused our certificate: nothing to record


def listen(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(512)
    return sock


def accept(listener, app, context):
    while True:
        sock, peer = listener.accept()
        threading.Thread(target=handle, args=(sock, peer, app, context), daemon=True).start()


def main():
    args = arguments()
    parent = os.getppid()
    if args.die_with_parent:
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            sys.exit(1)
    threading.stack_size(1 << 20)
    scenario = {}
    if args.scenario:
        with open(args.scenario) as file:
            scenario = json.load(file)
    paths = certs.make(args.dir)
    app = App(Script(scenario, {}), Record(args.record, args.bodies), args.token_delay_ms, args.gate)
    app.websockets = not args.no_websocket
    app.tap = Tap(args.streams) if args.streams else None
    tls, plain = listen(args.tls_port), listen(args.http_port)
    context = tls_context(paths, not args.no_h2)
    for listener, how in ((tls, context), (plain, None)):
        threading.Thread(target=accept, args=(listener, app, how), daemon=True).start()
    ready = {"tls_port": tls.getsockname()[1], "http_port": plain.getsockname()[1], "ca": os.path.abspath(paths["ca"]), "pid": os.getpid()}
    print(json.dumps(ready), flush=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    os._exit(0)


if __name__ == "__main__":
    main()
