"""HTTP/2 on one connection. One thread owns the socket and the protocol state; each stream's answer is made by a thread
of its own, which hands pieces over through a queue."""

import queue
import select
import socket
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from encoding import encoder
from exchange import Cut, Request
from http1 import chosen_encoding, cut_up, undo_encoding

# HTTP/1 framing headers have no place here.
HOP = ("transfer-encoding", "connection", "content-length")


class Stream:
    """What is known of one stream."""

    def __init__(self, headers):
        self.headers = headers
        self.body = bytearray()
        self.started = time.time_ns()
        self.pending = []  # writes that wait for the peer's window
        self.ended = False  # no more will be queued
        self.on_sent = None  # called once when the last byte has gone, or the stream was reset


class Connection:
    def __init__(self, sock, app, conn, tls, client, server):
        self.sock, self.app, self.conn, self.tls, self.client, self.server = sock, app, conn, tls, client, server
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.streams = {}
        self.outbox = queue.SimpleQueue()
        self.wake_read, self.wake_write = socket.socketpair()
        self.wake_read.setblocking(False)

    def serve(self, first=b""):
        self.h2.local_settings.initial_window_size = 1 << 24
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(1 << 24)
        try:
            self._flush()
            if first:
                self._received(first)
            while True:
                pending = getattr(self.sock, "pending", lambda: 0)()
                if not pending:
                    ready, _, _ = select.select([self.sock, self.wake_read], [], [])
                else:
                    ready = [self.sock]
                if self.wake_read in ready:
                    self._drain_wakes()
                if self.sock in ready:
                    data = self.sock.recv(1 << 18)
                    if not data or not self._received(data):
                        return
                self._pump()
        except (OSError, h2.exceptions.ProtocolError, ValueError):
            return
        finally:
            for stream in list(self.streams.values()):
                self._done(stream, False)
            self.wake_read.close()
            self.wake_write.close()

    def _drain_wakes(self):
        try:
            while self.wake_read.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def _received(self, data):
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.streams[event.stream_id] = Stream([(k, v) for k, v in event.headers])
            elif isinstance(event, h2.events.DataReceived):
                self.streams[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self._request(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                stream = self.streams.pop(event.stream_id, None)
                if stream:
                    self._done(stream, False)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self._flush()
                return False
        self._flush()
        return True

    @staticmethod
    def _done(stream, complete):
        if stream.on_sent:
            stream.on_sent(complete)
            stream.on_sent = None

    def _request(self, stream_id):
        stream = self.streams[stream_id]
        find = lambda name: next((v for k, v in stream.headers if k == name), "")
        body = bytes(stream.body)
        request = Request(next(self.app.numbers), self.conn, "h2", self.tls, self.client, self.server, find(":method"), find(":path"), stream.headers, body, body, b"", stream_id)
        undo_encoding(request)
        times = {"t_request_first": stream.started, "t_request_last": time.time_ns()}
        threading.Thread(target=self._answer, args=(request, stream, times), daemon=True).start()

    def _post(self, *message):
        self.outbox.put(message)
        try:
            self.wake_write.send(b"x")
        except OSError:
            pass

    def _answer(self, request, stream, times):
        """In the stream's own thread: makes the pieces."""
        control = self.app.control(request)
        reply = control or self.app.answer(request)
        if control is None:
            self.app.began()
        encoding = chosen_encoding(request, reply)
        z = encoder(encoding)
        if encoding:
            reply.headers.append(("content-encoding", encoding))
        wire, decoded = bytearray(), bytearray()
        bodyless = request.method == "HEAD" or reply.status in (204, 304)

        def sent(complete):
            times["t_response_last"] = time.time_ns()
            if control is None:
                self.app.record.write(request, reply, bytes(wire), bytes(decoded), complete, times)
                self.app.finished()

        def send(data):
            for part in cut_up(data, reply.directives.get("chunk")):
                wire.extend(part)
                self._post("data", request.stream_id, part)

        stream.on_sent = sent
        head = [(":status", str(reply.status)), *((k.lower(), v) for k, v in reply.headers if k.lower() not in HOP)]
        times["t_response_first"] = time.time_ns()
        self._post("head", request.stream_id, head)
        try:
            for piece in [] if bodyless else reply.pieces:
                decoded.extend(piece)
                send(z.piece(piece))
            if not bodyless:
                send(z.end())
        except Cut:
            self._post("reset", request.stream_id)
            return
        self._post("end", request.stream_id)

    def _pump(self):
        """Hands to the protocol what the answers' threads made, as far as the peer's windows allow."""
        while not self.outbox.empty():
            kind, stream_id, *rest = self.outbox.get()
            stream = self.streams.get(stream_id)
            if stream is None:
                continue
            if kind == "head":
                self.h2.send_headers(stream_id, rest[0])
            elif kind == "data":
                stream.pending.append(rest[0])
            elif kind == "end":
                stream.ended = True
            else:
                self._flow(stream_id, stream)
                self.h2.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
                self._flush()
                self._done(self.streams.pop(stream_id), False)
        for stream_id, stream in list(self.streams.items()):
            self._flow(stream_id, stream)
            if stream.ended and not stream.pending:
                self.h2.end_stream(stream_id)
                self._flush()
                self._done(self.streams.pop(stream_id), True)
        self._flush()

    def _flow(self, stream_id, stream):
        while stream.pending:
            room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
            if room <= 0:
                return
            part = stream.pending[0]
            self.h2.send_data(stream_id, part[:room])
            self._flush()
            if len(part) > room:
                stream.pending[0] = part[room:]
            else:
                stream.pending.pop(0)


def serve(sock, app, conn, tls, client, server, first=b""):
    Connection(sock, app, conn, tls, client, server).serve(first)
