"""Bedrock: /model/ID/invoke, /invoke-with-response-stream (Anthropic's bodies), /converse and /converse-stream, the streams in
AWS event-stream framing (prelude with two lengths and a CRC32, headers, payload, CRC32)."""

import base64
import re
import struct
import zlib
from urllib.parse import unquote

from exchange import Cut, Reply, json_reply
from script import Conversation, Tool

from . import anthropic, call_facts, compact, split, text_of, usage_facts

PATH = re.compile(r"^/model/(?P<model>[^/]+)/(?P<method>invoke|invoke-with-response-stream|converse|converse-stream)$")
STREAM = ("content-type", "application/vnd.amazon.eventstream")


def message(headers, payload):
    """One event-stream message."""
    packed = b"".join(struct.pack(">B", len(k)) + k.encode() + b"\x07" + struct.pack(">H", len(v)) + v.encode() for k, v in headers.items())
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    whole = prelude + packed + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def event(kind, value):
    return message({":event-type": kind, ":content-type": "application/json", ":message-type": "event"}, compact(value).encode())


def exception(kind, text):
    return message({":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}, compact({"message": text}).encode())


def handle(request, app):
    """Any Bedrock path; None when it is not one."""
    match = PATH.match(request.path)
    if not match or request.method != "POST":
        return None
    model, method = unquote(match["model"]), match["method"]
    return invoke(request, app, model, "stream" in method) if method.startswith("invoke") else converse(request, app, model, "stream" in method)


def invoke(request, app, model, stream):
    """Anthropic's body, without the model's name."""
    conversation = anthropic.read(request.json())
    conversation.model, conversation.stream = model, stream
    plan = app.script.plan(request, conversation)
    facts = call_facts("bedrock.invoke", "aws.bedrock", "chat", conversation, plan)
    refused = refusal(plan, facts)
    if refused:
        return refused
    answered = "claude-sonnet-5-5"
    u = plan.usage
    known = {k: u[k] for k in ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output_text")}
    if plan.thinking:
        known["output_reasoning"] = u["output_reasoning"]
    facts.update(
        response_model=answered, answer=plan.full_text, finish_reason="tool_use" if plan.calls else "end_turn", usage=usage_facts(**known),
        tool_calls=[{"id": f"toolu_{c.id}", "name": c.name, "arguments": c.arguments} for c in plan.calls],
    )
    if not stream:
        value = {**anthropic.envelope(answered, plan), "content": anthropic.content(plan), "stop_reason": facts["finish_reason"], "usage": anthropic.final_usage(plan)}
        return json_reply(200, value, facts, directives=plan.do)

    def pieces():
        for piece in anthropic.stream(answered, plan, facts, app.pace(plan.do)):
            data = piece.split(b"data: ", 1)[1].strip()
            if data.startswith(b'{"type":"error"'):
                facts["error"] = {"kind": "throttlingException", "message": "Too many requests"}
                yield exception("throttlingException", "Too many requests")
                return
            yield event("chunk", {"bytes": base64.b64encode(data).decode(), "p": "abcd"})

    return Reply(200, [STREAM, ("x-amzn-requestid", f"req-{plan.n:08d}")], pieces(), True, facts, plan.do)


def refusal(plan, facts):
    known = {"401": (403, "AccessDeniedException"), "429": (429, "ThrottlingException"), "500": (500, "InternalServerException"), "529": (503, "ServiceUnavailableException")}
    if plan.do.get("error") not in known:
        return None
    status, kind = known[plan.do["error"]]
    facts["error"] = {"kind": kind, "message": "refused"}
    return json_reply(status, {"message": "refused"}, facts, [("x-amzn-errortype", kind)], plan.do)


def read_converse(body, model, stream):
    prompt, results = "", 0
    given = [m for m in body.get("messages") or [] if isinstance(m, dict)]
    for item in reversed(given):
        parts = item.get("content") or []
        answered = sum(1 for part in parts if "toolResult" in part)
        if answered:
            results += answered
        elif item.get("role") == "user":
            prompt = text_of(parts)
            break
    tools = []
    for tool in (body.get("toolConfig") or {}).get("tools") or []:
        spec = tool.get("toolSpec") or {}
        tools.append(Tool(spec.get("name", ""), (spec.get("inputSchema") or {}).get("json") or {}))
    return Conversation(model, stream, len(given) + (1 if body.get("system") else 0), prompt, results, tools, rounds=results)


def converse(request, app, model, stream):
    conversation = read_converse(request.json(), model, stream)
    plan = app.script.plan(request, conversation)
    facts = call_facts("bedrock.converse", "aws.bedrock", "chat", conversation, plan)
    refused = refusal(plan, facts)
    if refused:
        return refused
    u = plan.usage
    facts.update(
        answer=plan.full_text, finish_reason="tool_use" if plan.calls else "end_turn",
        usage=usage_facts(**{k: u[k] for k in ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output_text")}),
        tool_calls=[{"id": f"tooluse_{c.id}", "name": c.name, "arguments": c.arguments} for c in plan.calls],
    )
    usage = {
        "inputTokens": u["input_uncached"], "outputTokens": u["output_text"], "totalTokens": facts["usage"]["input_total"] + u["output_text"],
        "cacheReadInputTokens": u["cache_read"], "cacheWriteInputTokens": u["cache_write_5m"] + u["cache_write_1h"],
        "cacheDetails": [{"ttl": "5m", "inputTokens": u["cache_write_5m"]}, {"ttl": "1h", "inputTokens": u["cache_write_1h"]}],
    }
    uses = [{"toolUseId": f"tooluse_{c.id}", "name": c.name, "input": c.arguments} for c in plan.calls]
    if not stream:
        content = ([{"text": plan.full_text}] if plan.full_text else []) + [{"toolUse": use} for use in uses]
        value = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": facts["finish_reason"], "usage": usage, "metrics": {"latencyMs": 1432}}
        return json_reply(200, value, facts, directives=plan.do)

    def pieces(pace):
        yield event("messageStart", {"role": "assistant", "p": "ab"})
        for i, part in enumerate(plan.text):
            if plan.do.get("error") in ("mid", "cut") and i == len(plan.text) // 2:
                facts.update(finish_reason=None, usage=usage_facts(), usage_final=False, tool_calls=[], answer=None)
                facts["error"] = {"kind": "cut", "message": ""}
                if plan.do["error"] == "cut":
                    raise Cut
                facts["error"] = {"kind": "throttlingException", "message": "Too many requests"}
                yield exception("throttlingException", "Too many requests")
                return
            pace.token()
            yield event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": part}, "p": "a"})
        yield event("contentBlockStop", {"contentBlockIndex": 0, "p": "a"})
        for index, use in enumerate(uses, 1):
            yield event("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}, "p": "a"})
            for part in split(compact(use["input"])):
                pace.token()
                yield event("contentBlockDelta", {"contentBlockIndex": index, "delta": {"toolUse": {"input": part}}, "p": "a"})
            yield event("contentBlockStop", {"contentBlockIndex": index, "p": "a"})
        yield event("messageStop", {"stopReason": facts["finish_reason"], "p": "a"})
        yield event("metadata", {"metrics": {"latencyMs": 1432}, "usage": usage, "p": "a"})

    return Reply(200, [STREAM, ("x-amzn-requestid", f"req-{plan.n:08d}")], pieces(app.pace(plan.do)), True, facts, plan.do)
