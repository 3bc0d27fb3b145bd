"""Anthropic Messages: POST /v1/messages, /v1/messages/count_tokens."""

import base64

from exchange import Cut, Reply, json_reply
from script import Conversation, Tool, is_prompt

from . import SSE, call_facts, compact, split, sse, text_of, usage_facts

ERRORS = {
    "401": (401, "authentication_error", "invalid x-api-key"),
    "429": (429, "rate_limit_error", "This request would exceed your rate limit"),
    "500": (500, "api_error", "Internal server error"),
    "529": (529, "overloaded_error", "Overloaded"),
}


def read(body):
    """The conversation that a request body holds."""
    messages = [m for m in body.get("messages") or [] if isinstance(m, dict)]
    prompt, results = "", 0
    for message in reversed(messages):
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        found = sum(1 for p in parts if isinstance(p, dict) and p.get("type") == "tool_result")
        if message.get("role") != "user":
            continue
        if found:
            results += found
        elif any(is_prompt(p.get("text") or "") for p in parts if isinstance(p, dict)):
            prompt = text_of([p for p in parts if is_prompt(p.get("text") or "")])
            break
    tools = [Tool(t.get("name", ""), t.get("input_schema") or {}) for t in body.get("tools") or [] if isinstance(t, dict)]
    schema = ((body.get("output_config") or {}).get("format") or body.get("output_format") or {}).get("schema")
    return Conversation(
        model=body.get("model"),
        stream=bool(body.get("stream")),
        messages=len(messages) + (1 if body.get("system") else 0),
        prompt=prompt,
        tool_results=results,
        tools=tools,
        schema=schema,
        thinking=(body.get("thinking") or {}).get("type") in ("enabled", "adaptive"),
        rounds=results,
    )


def count_tokens(request, app):
    body = request.json()
    conversation = read(body)
    n = app.script.number()
    facts = call_facts("anthropic.messages", "anthropic", "count_tokens", conversation, None, stream=False, call=n)
    facts["usage"] = usage_facts(input_uncached=2000 + n)
    facts["usage_final"] = False  # a count, not a use: clients and tools differ on where it belongs
    return json_reply(200, {"input_tokens": 2000 + n}, facts, [("request-id", f"req_{n:08d}")])


def messages(request, app):
    body = request.json()
    conversation = read(body)
    plan = app.script.plan(request, conversation)
    model = conversation.model or "claude-sonnet-5-5"
    facts = call_facts("anthropic.messages", "anthropic", "chat", conversation, plan)
    headers = [("request-id", f"req_{plan.n:08d}")]
    error = plan.do.get("error")
    if error in ERRORS:
        status, kind, text = ERRORS[error]
        facts["error"] = {"kind": kind, "message": text}
        if status in (429, 529):
            headers.append(("retry-after", "1"))
        value = {"type": "error", "error": {"type": kind, "message": text}, "request_id": f"req_{plan.n:08d}"}
        return json_reply(status, value, facts, headers, plan.do)
    facts["response_model"] = model
    facts["answer"] = plan.full_text
    facts["finish_reason"] = "tool_use" if plan.calls else "end_turn"
    facts["tool_calls"] = [{"id": f"toolu_{c.id}", "name": c.name, "arguments": c.arguments} for c in plan.calls]
    u = plan.usage
    known = {k: u[k] for k in ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output_text")}
    if plan.thinking:
        known["output_reasoning"] = u["output_reasoning"]
    facts["usage"] = usage_facts(**known)
    if conversation.stream:
        pace = app.pace(plan.do)
        return Reply(200, [SSE, ("cache-control", "no-cache"), *headers], stream(model, plan, facts, pace), True, facts, plan.do)
    return json_reply(200, {**envelope(model, plan), "content": content(plan), "stop_reason": facts["finish_reason"],
                            "usage": final_usage(plan)}, facts, headers, plan.do)


def envelope(model, plan):
    return {"id": f"msg_{plan.n:08d}", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": None, "stop_sequence": None}


def input_usage(plan):
    u = plan.usage
    return {
        "input_tokens": u["input_uncached"],
        "cache_creation_input_tokens": u["cache_write_5m"] + u["cache_write_1h"],
        "cache_read_input_tokens": u["cache_read"],
        "cache_creation": {"ephemeral_5m_input_tokens": u["cache_write_5m"], "ephemeral_1h_input_tokens": u["cache_write_1h"]},
    }


def final_usage(plan):
    u = plan.usage
    details = {"output_tokens_details": {"thinking_tokens": u["output_reasoning"]}} if plan.thinking else {}
    return {**input_usage(plan), "output_tokens": u["output_text"] + u["output_reasoning"], "service_tier": "standard", **details}


def signature(plan):
    return base64.b64encode(f"signature {plan.n}".encode()).decode()


def content(plan):
    blocks = [{"type": "thinking", "thinking": plan.thinking, "signature": signature(plan)}] if plan.thinking else []
    if plan.full_text:
        blocks.append({"type": "text", "text": plan.full_text})
    return blocks + [{"type": "tool_use", "id": f"toolu_{c.id}", "name": c.name, "input": c.arguments} for c in plan.calls]


def stream(model, plan, facts, pace):
    event = lambda value: sse(value, value["type"])
    delta = lambda index, value: event({"type": "content_block_delta", "index": index, "delta": value})
    trouble = plan.do.get("error")
    yield event({"type": "message_start", "message": {**envelope(model, plan), "usage": {**input_usage(plan), "output_tokens": 1, "service_tier": "standard"}}})
    index = 0
    if plan.thinking:
        yield event({"type": "content_block_start", "index": index, "content_block": {"type": "thinking", "thinking": "", "signature": ""}})
        yield event({"type": "ping"})
        for part in split(plan.thinking):
            pace.token()
            yield delta(index, {"type": "thinking_delta", "thinking": part})
        yield delta(index, {"type": "signature_delta", "signature": signature(plan)})
        yield event({"type": "content_block_stop", "index": index})
        index += 1
    if plan.full_text:
        yield event({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}})
        for i, part in enumerate(plan.text):
            if trouble in ("mid", "cut") and i == max(1, len(plan.text) // 2):
                facts.update(finish_reason=None, tool_calls=[], usage_final=False, answer="".join(plan.text[:i]))
                if trouble == "cut":
                    facts["error"] = {"kind": "cut", "message": ""}
                    raise Cut
                facts["error"] = {"kind": "overloaded_error", "message": "Overloaded"}
                yield event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": f"req_{plan.n:08d}"})
                return
            pace.token()
            yield delta(index, {"type": "text_delta", "text": part})
        yield event({"type": "content_block_stop", "index": index})
        index += 1
    for call in plan.calls:
        yield event({"type": "content_block_start", "index": index, "content_block": {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": {}}})
        for part in ["", *split(compact(call.arguments))]:
            pace.token()
            yield delta(index, {"type": "input_json_delta", "partial_json": part})
        yield event({"type": "content_block_stop", "index": index})
        index += 1
    u = final_usage(plan)
    last = {k: u[k] for k in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens", "output_tokens_details") if k in u}
    yield event({"type": "message_delta", "delta": {"stop_reason": facts["finish_reason"], "stop_sequence": None}, "usage": last})
    yield event({"type": "message_stop"})
