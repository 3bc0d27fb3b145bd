"""Tests of the scripted server itself: what the record says is what a client really sent and received.

    target/test-cache/venv/bin/python -m unittest discover -s testdata/server
"""

import base64
import hashlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest

import h2.config
import h2.connection
import h2.events

HERE = os.path.dirname(os.path.abspath(__file__))
ASK = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


class Server:
    def __init__(self, *args):
        self.dir = tempfile.TemporaryDirectory()
        self.record_path = os.path.join(self.dir.name, "record.jsonl")
        argv = [sys.executable, os.path.join(HERE, "model_server.py"), "--dir", self.dir.name, "--record", self.record_path, "--die-with-parent", *args]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.ready = json.loads(self.process.stdout.readline())
        self.context = ssl.create_default_context(cafile=self.ready["ca"])

    def connect(self):
        return http.client.HTTPSConnection("localhost", self.ready["tls_port"], context=self.context, timeout=60)

    def ask(self, body, headers=(), path="/v1/messages", connection=None):
        own = connection or self.connect()
        try:
            own.request("POST", path, json.dumps(body), {"content-type": "application/json", **dict(headers)})
            answer = own.getresponse()
            return answer, answer.read()
        finally:
            if connection is None:
                own.close()

    def control(self, path):
        connection = http.client.HTTPConnection("localhost", self.ready["http_port"], timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        try:
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def record(self, ended):
        """The record once so many exchanges have ended, in the order in which they began."""
        status, _ = self.control(f"/__wait?ended={ended}&timeout=60")
        assert status == 200
        with open(self.record_path) as file:
            return sorted((json.loads(line) for line in file), key=lambda row: row["n"])

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        self.dir.cleanup()


class ServerTest(unittest.TestCase):
    def setUp(self):
        self.server = Server()
        self.addCleanup(lambda: self.server.close())

    def test_the_record_holds_the_bytes_of_every_encoding_and_framing(self):
        asked, answers = [], []
        for encoding in ("", "gzip", "deflate", "br", "zstd"):
            for framing in ("chunked", "length", "close"):
                for stream in (True, False):
                    do = json.dumps({"encoding": encoding, "framing": framing, "chunk": [1, 7, 300]})
                    answer, body = self.server.ask({**ASK, "stream": stream}, {"accept-encoding": encoding, "x-heron-do": do})
                    self.assertEqual(answer.getheader("content-encoding"), encoding or None)
                    asked.append(stream)
                    answers.append(body)
        rows = self.server.record(len(answers))
        for row, body, stream in zip(rows, answers, asked):
            self.assertEqual(base64.b64decode(row["response_body"]["b64"]), body)
            self.assertEqual(row["response_body"]["sha256"], hashlib.sha256(body).hexdigest())
            self.assertEqual(row["stream"], stream)
            self.assertTrue(row["complete"])
            decoded = base64.b64decode(row["response_decoded"]["b64"]).decode()
            self.assertIn(f"HERON-DONE-{row['call']}", decoded)

    def test_tokens_tell_the_calls_apart(self):
        connection = self.server.connect()
        self.addCleanup(connection.close)
        for _ in range(20):
            self.server.ask(ASK, connection=connection)
        rows = self.server.record(20)
        self.assertEqual(len({row["usage"]["input_total"] for row in rows}), 20)
        self.assertEqual(len({row["usage"]["output_total"] for row in rows}), 20)
        self.assertEqual({row["client"] for row in rows}, {rows[0]["client"]})

    def test_a_tool_result_ends_the_turn(self):
        tool = {"name": "Bash", "input_schema": {"type": "object", "properties": {"command": {"type": "string"}, "why": {"type": "string"}}, "required": ["command", "why"]}}
        _, body = self.server.ask({**ASK, "tools": [tool]})
        answer = json.loads(body)
        use = answer["content"][-1]
        self.assertEqual((answer["stop_reason"], use["name"]), ("tool_use", "Bash"))
        self.assertEqual(use["input"], {"command": "echo heron-probe-1", "why": "heron probe"})
        history = [*ASK["messages"], {"role": "assistant", "content": answer["content"]}, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use["id"], "content": "x"}]}]
        _, body = self.server.ask({**ASK, "tools": [tool], "messages": history})
        self.assertEqual(json.loads(body)["stop_reason"], "end_turn")
        self.assertIn("HERON-DONE-2", body.decode())

    def test_errors_come_as_asked(self):
        for name, status in (("429", 429), ("529", 529), ("500", 500), ("401", 401)):
            answer, body = self.server.ask(ASK, {"x-heron-do": json.dumps({"error": name})})
            self.assertEqual((answer.status, json.loads(body)["type"]), (status, "error"))
        answer, body = self.server.ask({**ASK, "stream": True}, {"x-heron-do": '{"error": "mid"}'})
        self.assertEqual(answer.status, 200)
        self.assertIn(b"event: error", body)
        self.assertNotIn(b"message_stop", body)
        with self.assertRaises(http.client.IncompleteRead):
            self.server.ask({**ASK, "stream": True}, {"x-heron-do": '{"error": "cut"}'})
        rows = self.server.record(6)
        self.assertEqual([row["error"]["kind"] for row in rows], ["rate_limit_error", "overloaded_error", "api_error", "authentication_error", "overloaded_error", "cut"])
        self.assertEqual([row["complete"] for row in rows], [True] * 5 + [False])

    def test_a_gated_stream_waits_for_its_permit(self):
        got = []

        def ask():
            got.append(self.server.ask({**ASK, "stream": True}, {"x-heron-do": '{"gate": 2}'})[1])

        asking = threading.Thread(target=ask)
        asking.start()
        status, state = self.server.control("/__wait?gated=1&timeout=60")
        self.assertEqual((status, state["waiting"], state["ended"], got), (200, 1, 0, []))
        self.server.control("/__continue")
        asking.join()
        self.assertIn(b"message_stop", got[0])

    def test_what_is_no_llm_call_is_recorded_as_such(self):
        connection = self.server.connect()
        self.addCleanup(connection.close)
        connection.request("POST", "/api/event_logging/batch", b"x" * 5000)
        self.assertEqual(json.loads(connection.getresponse().read())["received"], 5000)
        connection.request("POST", "/upload/204", b"y")
        self.assertEqual(connection.getresponse().read(), b"")
        connection.request("GET", "/v1/models")
        connection.getresponse().read()
        rows = self.server.record(3)
        self.assertEqual([(row["kind"], row["status"]) for row in rows], [("other", 200), ("other", 204), ("aux_api", 200)])

    def test_http2_carries_interleaved_streams_within_the_windows(self):
        context = ssl.create_default_context(cafile=self.server.ready["ca"])
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(("localhost", self.server.ready["tls_port"]), timeout=60) as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
            conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
            conn.initiate_connection()
            for stream_id in (1, 3, 5):
                head = [(":method", "POST"), (":path", "/v1/messages"), (":scheme", "https"), (":authority", "localhost"), ("x-heron-do", '{"answer_bytes": 200000}')]
                conn.send_headers(stream_id, head)
                conn.send_data(stream_id, json.dumps({**ASK, "stream": True}).encode(), end_stream=True)
            sock.sendall(conn.data_to_send())
            bodies, ended = {1: b"", 3: b"", 5: b""}, set()
            while len(ended) < 3:
                for event in conn.receive_data(sock.recv(65536)):
                    if isinstance(event, h2.events.DataReceived):
                        bodies[event.stream_id] += event.data
                        conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamEnded):
                        ended.add(event.stream_id)
                sock.sendall(conn.data_to_send())
        rows = self.server.record(3)
        for row in rows:
            self.assertEqual(row["protocol"], "h2")
            self.assertEqual(base64.b64decode(row["response_body"]["b64"]), bodies[row["stream_id"]])


if __name__ == "__main__":
    unittest.main()
