"""Keeps the plaintext of every connection, in order and with times: `--streams FILE`, one JSON line per read or write.

`streams_to_pcap.py` makes a capture of it, so that what a TLS client said can be replayed as packets."""

import base64
import json
import threading
import time


class Tap:
    def __init__(self, path):
        self.file = open(path, "ab")
        self.lock = threading.Lock()

    def note(self, conn, client, server, direction, data):
        line = {"conn": conn, "client": client, "server": server, "t": time.time_ns(), "dir": direction, "b64": base64.b64encode(data).decode()}
        with self.lock:
            self.file.write(json.dumps(line).encode() + b"\n")
            self.file.flush()


class TappedSocket:
    """A socket whose reads and writes are noted."""

    def __init__(self, sock, tap, conn, client, server):
        self.sock = sock
        self.note = lambda direction, data: tap.note(conn, client, server, direction, data)
        self.ended = False

    def recv(self, size):
        try:
            data = self.sock.recv(size)
        except OSError:
            self._end()
            raise
        if data:
            self.note("request", data)
        else:
            self._end()
        return data

    def _end(self):
        """The client's end, once: also of one that went away in the middle of an answer."""
        if not self.ended:
            self.ended = True
            self.note("request", b"")

    def sendall(self, data):
        self.note("response", bytes(data))
        self.sock.sendall(data)

    def pending(self):
        return self.sock.pending() if hasattr(self.sock, "pending") else 0

    def fileno(self):
        return self.sock.fileno()

    def close(self):
        self._end()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
