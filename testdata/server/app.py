"""Routes a request to its wire API, and answers everything that is not LLM traffic plainly."""

import itertools
import re
import threading

from apis import anthropic, bedrock, gemini, ollama, openai_chat, openai_responses
from exchange import Gate, Pace, Reply, json_reply

MODELS = ["claude-sonnet-5-5", "claude-haiku-5", "gpt-5-mini", "gpt-5.6", "gemini-3.8-flash", "qwen3:8b"]

# Tail of the path -> handler; the same tails that agents append to whatever base URL they were given.
POSTS = [
    (re.compile(r"/v1/messages/count_tokens$"), anthropic.count_tokens),
    (re.compile(r"/messages$"), anthropic.messages),
    (re.compile(r"/chat/completions$"), openai_chat.chat),
    (re.compile(r"/responses$"), openai_responses.responses),
    (re.compile(r"/completions$"), openai_chat.completions),
    (re.compile(r"/embeddings$"), openai_chat.embeddings),
    (re.compile(r"/api/chat$"), ollama.chat),
    (re.compile(r"/api/generate$"), ollama.generate),
    (re.compile(r"/api/embed$"), ollama.embed),
]


class App:
    """The server behind every transport."""

    def __init__(self, script, record, delay_ms=0, gate=None):
        self.script = script
        self.record = record
        self.delay_ms = delay_ms
        self.gate_after = gate
        self.gate = Gate()
        self.tap = None
        self.websockets = True
        self.histories = {}
        self.numbers = itertools.count(1)
        self.connections = itertools.count(1)
        self.lock = threading.Lock()
        self.begun = 0
        self.ended = 0
        self.idle = threading.Condition(self.lock)

    def pace(self, do):
        return Pace(self.gate, do.get("delay_ms", self.delay_ms), do.get("gate", self.gate_after))

    def began(self):
        with self.lock:
            self.begun += 1

    def finished(self):
        with self.lock:
            self.ended += 1
            self.idle.notify_all()

    def control(self, request):
        """The endpoints under /__, which steer the server and are in no record; None for every other path."""
        if not request.path.startswith("/__"):
            return None
        query = request.query
        if request.path == "/__continue":
            self.gate.release(int(query.get("count", "1")), query.get("all") == "1")
        elif request.path == "/__wait":
            # Returns when so many streams stand at the gate, or so many exchanges have ended.
            timeout = float(query.get("timeout", "300"))
            if "gated" in query:
                waiting = self.gate.await_waiting(int(query["gated"]), timeout)
                if waiting < int(query["gated"]):
                    return json_reply(504, {"waiting": waiting})
            if "ended" in query:
                with self.lock:
                    if not self.idle.wait_for(lambda: self.ended >= int(query["ended"]), timeout):
                        return json_reply(504, {"ended": self.ended})
        elif request.path != "/__state":
            return json_reply(404, {"error": "no such control"})
        with self.lock:
            state = {"begun": self.begun, "ended": self.ended, "calls": self.script.calls, "waiting": self.gate.waiting}
        return json_reply(200, state)

    def answer(self, request):
        """The reply to any request; an answer that is not streamed waits at the gate before it begins."""
        reply = self._route(request)
        gate = reply.directives.get("gate", self.gate_after)
        if gate is not None and not reply.stream and reply.facts.get("call"):
            self.gate.pass_through()
        return reply

    def _route(self, request):
        if request.method == "POST":
            for pattern, handler in POSTS:
                if pattern.search(request.path):
                    return handler(request, self)
            reply = bedrock.handle(request, self) or gemini.handle(request, self)
            if reply:
                return reply
        return self._other(request)

    def _other(self, request):
        path = request.path
        other = {"kind": "other"}
        if request.header("upgrade").lower() == "websocket":
            return json_reply(426, {"error": {"message": "no WebSockets here"}}, other)
        if request.method in ("GET", "HEAD"):
            aux = {"kind": "aux_api"}
            if path.endswith("/v1beta/models"):
                listed = [{"name": f"models/{m}", "supportedGenerationMethods": ["generateContent"]} for m in MODELS]
                return json_reply(200, {"models": listed}, aux)
            if path.endswith("/models") and "client_version" in request.query:
                return json_reply(200, {"models": []}, aux)
            if path.endswith("/models"):
                listed = [{"id": m, "type": "model", "object": "model", "display_name": m, "created": 1780000000, "created_at": "2026-01-01T00:00:00Z", "owned_by": "heron"} for m in MODELS]
                return json_reply(200, {"object": "list", "data": listed, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}, aux)
            if path.endswith("/api/tags"):
                return json_reply(200, {"models": [{"name": m, "model": m, "size": 1, "details": {}} for m in MODELS]}, aux)
            if path.endswith("/api/version"):
                return json_reply(200, {"version": "0.13.0"}, aux)
            match = re.match(r"^/bytes/(\d+)$", path)
            if match:
                return Reply(200, [("content-type", "application/octet-stream")], [b"x" * min(int(match[1]), 1 << 26)], False, other)
            if path in ("/", "/health", "/ok", "/api/hello"):
                return json_reply(200, {"ok": True}, other)
            return json_reply(404, {"error": {"message": "not found", "type": "not_found_error"}}, other)
        if path.endswith("/api/show"):
            return json_reply(200, {"details": {}, "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 131072}, "capabilities": ["completion", "tools"]}, {"kind": "aux_api"})
        rpc = request.json()
        if rpc.get("jsonrpc") == "2.0":
            # An MCP client at the door: a call too, but none of a model's.
            error = {"jsonrpc": "2.0", "id": rpc.get("id"), "error": {"code": -32601, "message": "Method not found"}}
            return json_reply(200, error, {"kind": "aux_api", "jsonrpc": True})
        if path.endswith("/204"):
            return Reply(204, [], [], False, other)
        return json_reply(200, {"ok": True, "received": len(request.body_wire)}, other)
