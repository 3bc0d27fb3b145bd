"""The ground truth: one JSON line per exchange, written when the exchange ends and flushed at once.

Fields that heron's `--json` has too carry the same names (docs/output.md). The others:

  n                  number of the exchange on this server; conn: number of the connection; protocol: h1, h2 or ws
  kind               "call" (an LLM call), "aux_api" (count_tokens, model lists, ...) or "other" (not LLM traffic)
  request_head       h1 only: the head exactly as received, base64
  request_body, response_body        as on the wire after transfer decoding (for ws: the messages joined by newlines)
  request_decoded, response_decoded  the same without content encoding
                     each {"len", "sha256", "b64"}; b64 is left out with --bodies hash
  complete           the answer was sent to its end
  usage_final        the usage is the call's last word (false: the stream broke before)
  t_*                nanoseconds since 1970
"""

import base64
import hashlib
import json
import threading


def describe(data, keep):
    """What the record says about a run of bytes."""
    out = {"len": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if keep:
        out["b64"] = base64.b64encode(data).decode()
    return out


class Record:
    """Appends exchanges to a JSONL file; also counts them for the control endpoints."""

    def __init__(self, path, bodies):
        self.file = open(path, "ab") if path else None
        self.keep = bodies == "full"
        self.lock = threading.Lock()

    def write(self, request, reply, sent_wire, sent_decoded, complete, times):
        """`sent_wire`/`sent_decoded`: the response body that really went out."""
        if self.file is None:
            return
        line = {
            "n": request.n,
            "conn": request.conn,
            "protocol": request.protocol,
            "stream_id": request.stream_id,
            "tls": request.tls,
            "client": request.client,
            "server": request.server,
            "method": request.method,
            "path": request.target,
            "request_headers": [[name, value] for name, value in request.headers],
            "request_body": describe(request.body_wire, self.keep),
            "request_decoded": describe(request.body, self.keep),
            "status": reply.status,
            "response_headers": [[name, value] for name, value in reply.headers],
            "response_body": describe(sent_wire, self.keep),
            "response_decoded": describe(sent_decoded, self.keep),
            "complete": complete,
            **reply.facts,
            **times,
        }
        if request.head:
            line["request_head"] = base64.b64encode(request.head).decode()
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":"), default=str).encode() + b"\n"
        with self.lock:
            self.file.write(data)
            self.file.flush()
