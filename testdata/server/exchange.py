"""What the transports and the APIs hand to each other: a request, a reply, and the pace of a stream."""

import json
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    """One request, whatever carried it. `headers` are as received, in order, pseudo headers included."""

    n: int
    conn: int
    protocol: str
    tls: bool
    client: str
    server: str
    method: str
    target: str
    headers: list
    body_wire: bytes
    body: bytes
    head: bytes = b""
    stream_id: int = 0
    flaw: str = ""

    def __post_init__(self):
        parts = urlsplit(self.target)
        self.path = parts.path
        self.query = {k: v[-1] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}

    def header(self, name, default=""):
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return default

    def json(self):
        """The body as an object; {} when it is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass
class Reply:
    """An answer. `pieces` is an iterable of bytes; each piece is sent, and flushed, by itself when `stream` is set."""

    status: int
    headers: list
    pieces: object
    stream: bool = False
    facts: dict = field(default_factory=dict)
    directives: dict = field(default_factory=dict)


class Cut(Exception):
    """Raised by a reply's pieces: close the connection here, in the middle of the answer."""


def json_reply(status, value, facts=None, headers=(), directives=None):
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status, [("content-type", "application/json"), *headers], [data], False, facts or {}, directives or {})


class Gate:
    """Permits that `GET /__continue` hands out; a gated stream waits for one. `open` lets everything pass for good."""

    def __init__(self):
        self.cond = threading.Condition()
        self.permits = 0
        self.open = False
        self.waiting = 0

    def pass_through(self):
        with self.cond:
            self.waiting += 1
            self.cond.notify_all()
            while not (self.open or self.permits):
                self.cond.wait()
            self.waiting -= 1
            if not self.open:
                self.permits -= 1
            self.cond.notify_all()

    def release(self, count, forever):
        with self.cond:
            self.permits += count
            self.open = self.open or forever
            self.cond.notify_all()

    def await_waiting(self, count, timeout):
        """Waits until `count` streams stand at the gate; says how many do."""
        with self.cond:
            self.cond.wait_for(lambda: self.waiting >= count, timeout)
            return self.waiting


class Pace:
    """Called once before each token: delays, and stops at the gate after `gate` tokens."""

    def __init__(self, gate, delay_ms, gate_after):
        self.gate = gate
        self.delay = delay_ms / 1000
        self.gate_after = gate_after
        self.tokens = 0

    def token(self):
        if self.gate_after is not None and self.tokens == self.gate_after:
            self.gate.pass_through()
        if self.delay:
            time.sleep(self.delay)
        self.tokens += 1
