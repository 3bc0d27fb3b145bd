"""HTTP/1.1 on one connection: keep-alive, pipelining, chunked and sized bodies, Expect, encodings, odd writes."""

import time

import websocket
from encoding import decode, encoder
from exchange import Cut, Request

MAX_HEAD = 1 << 20


class Closed(Exception):
    """The peer is gone."""


class Reader:
    """Buffered reads from a socket."""

    def __init__(self, sock, first=b""):
        self.sock = sock
        self.buffer = bytearray(first)
        self.first_byte = None

    def fill(self):
        try:
            data = self.sock.recv(1 << 18)
        except (OSError, ValueError) as err:
            raise Closed from err
        if not data:
            raise Closed
        self.buffer += data

    def until(self, mark, limit=MAX_HEAD):
        start = 0
        while True:
            at = self.buffer.find(mark, start)
            if at >= 0:
                return self.take(at + len(mark))
            if len(self.buffer) > limit:
                raise Closed
            start = max(0, len(self.buffer) - len(mark))
            self.fill()

    def take(self, count):
        while len(self.buffer) < count:
            self.fill()
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def wait(self):
        """Until the next request's first byte."""
        if not self.buffer:
            self.fill()
        return time.time_ns()


def read_body(reader, headers):
    find = lambda name: next((v for k, v in headers if k.lower() == name), "")
    if "chunked" in find("transfer-encoding").lower():
        body = bytearray()
        while True:
            size = int(reader.until(b"\r\n").split(b";")[0].strip(), 16)
            if size == 0:
                while reader.until(b"\r\n") != b"\r\n":
                    pass
                return bytes(body)
            body += reader.take(size)
            reader.take(2)
    length = find("content-length")
    return reader.take(int(length)) if length else b""


def serve(sock, app, conn, tls, client, server, first=b""):
    """Serves the connection until it ends."""
    reader = Reader(sock, first)
    try:
        while True:
            started = reader.wait()
            head = reader.until(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            method, target, version = lines[0].split(" ", 2)
            headers = [(k.strip(), v.strip()) for k, _, v in (line.partition(":") for line in lines[1:] if line)]
            find = lambda name: next((v for k, v in headers if k.lower() == name), "")
            if find("expect").lower() == "100-continue":
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = read_body(reader, headers)
            request = Request(next(app.numbers), conn, "h1", tls, client, server, method, target, headers, body, body, head)
            times = {"t_request_first": started, "t_request_last": time.time_ns()}
            if find("upgrade").lower() == "websocket" and app.websockets:
                websocket.serve(sock, reader, request, app)
                return
            close = find("connection").lower() == "close" or version == "HTTP/1.0"
            if not exchange(sock, app, request, times, close) or close:
                return
    except (Closed, OSError, ValueError):
        return


def undo_encoding(request):
    name = request.header("content-encoding")
    if name:
        try:
            request.body = decode(request.body_wire, name)
        except ValueError as err:
            request.flaw = str(err)


def chosen_encoding(request, reply):
    """The content encoding that the directives ask for and the client accepts."""
    wanted = reply.directives.get("encoding") or ""
    if wanted.startswith("force:"):
        return wanted[6:]
    accepted = [part.split(";")[0].strip() for part in request.header("accept-encoding").lower().split(",")]
    return wanted if wanted in accepted else ""


def cut_up(data, sizes):
    """The data in writes of the sizes asked for, over and over; in one when none are."""
    if not sizes:
        return [data] if data else []
    out, at, i = [], 0, 0
    while at < len(data):
        size = max(1, sizes[i % len(sizes)])
        out.append(data[at:at + size])
        at, i = at + size, i + 1
    return out


def exchange(sock, app, request, times, close):
    """Answers one request; False when the connection must end."""
    undo_encoding(request)
    control = app.control(request)
    reply = control or app.answer(request)
    if control is None:
        app.began()
    encoding = chosen_encoding(request, reply)
    z = encoder(encoding)
    framing = reply.directives.get("framing") or ("chunked" if reply.stream else "length")
    bodyless = request.method == "HEAD" or reply.status in (204, 304)
    wire, decoded, complete = bytearray(), bytearray(), False
    sizes = reply.directives.get("chunk")

    def send(data):
        for part in cut_up(data, sizes):
            sock.sendall(b"%x\r\n%s\r\n" % (len(part), part) if framing == "chunked" else part)
            wire.extend(part)

    try:
        if encoding:
            reply.headers.append(("content-encoding", encoding))
        pieces = iter(reply.pieces)
        whole = b""
        if framing == "length":
            plain = b"".join(pieces)
            whole = z.piece(plain) + z.end() if encoding else plain
            if reply.status != 204:
                reply.headers.append(("content-length", str(len(whole))))
        elif framing == "chunked" and not bodyless:
            reply.headers.append(("transfer-encoding", "chunked"))
        if close or framing == "close":
            reply.headers.append(("connection", "close"))
        interim = reply.directives.get("interim")
        if interim:
            sock.sendall(b"HTTP/1.1 %d Interim\r\nlink: </style.css>; rel=preload\r\n\r\n" % interim)
        lines = [f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Status')}", *(f"{k}: {v}" for k, v in reply.headers)]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        times["t_response_first"] = time.time_ns()
        if framing == "length":
            body = b"" if bodyless else whole
            if body and not sizes and len(body) < 1 << 14:
                sock.sendall(head + body)
                wire += body
            else:
                sock.sendall(head)
                send(body)
            decoded += b"" if bodyless else plain
        else:
            sock.sendall(head)
            if not bodyless:
                for piece in pieces:
                    send(z.piece(piece))
                    decoded += piece
                send(z.end())
                if framing == "chunked":
                    sock.sendall(b"0\r\n\r\n")
        complete = True
    except (Cut, OSError):
        return False
    finally:
        times["t_response_last"] = time.time_ns()
        if control is None:
            app.record.write(request, reply, bytes(wire), bytes(decoded), complete, times)
            app.finished()
    return framing != "close"


REASONS = {
    200: "OK", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests",
    426: "Upgrade Required", 500: "Internal Server Error", 503: "Service Unavailable", 504: "Gateway Timeout", 529: "Overloaded",
}
