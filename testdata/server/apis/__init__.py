"""One module per wire API: a request in, a `Reply` out, with the facts that the record keeps."""

import json

SSE = ("content-type", "text/event-stream; charset=utf-8")


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def sse(value, name=None, newline="\n"):
    """One server-sent event."""
    head = f"event: {name}{newline}" if name else ""
    return f"{head}data: {compact(value)}{newline}{newline}".encode()


def split(text, parts=3):
    """A text cut into up to `parts` pieces."""
    size = max(1, -(-len(text) // parts))
    return [text[i:i + size] for i in range(0, len(text), size)] or [""]


def usage_facts(**known):
    """Usage in heron's buckets; what is not named is not known."""
    buckets = ["input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output_text", "output_reasoning"]
    usage = {name: known.get(name) for name in buckets}
    ins = [usage[n] for n in buckets[:4] if usage[n] is not None]
    outs = [usage[n] for n in buckets[4:] if usage[n] is not None]
    usage["input_total"] = sum(ins) if ins else None
    usage["output_total"] = sum(outs) if outs else None
    return usage


def call_facts(wire_api, provider, operation, conversation, plan, **more):
    """The facts that every call has."""
    return {
        "kind": "call",
        "call": plan.n if plan else None,
        "wire_api": wire_api,
        "provider": provider,
        "operation": operation,
        "request_model": conversation.model,
        "response_model": None,
        "stream": conversation.stream,
        "messages": conversation.messages,
        "tools_offered": len(conversation.tools),
        "tool_calls": [],
        "usage": usage_facts(),
        "usage_final": True,
        "finish_reason": None,
        "error": None,
        "prompt": conversation.prompt,
        "tool_results": conversation.tool_results,
        "answer": None,
        **more,
    }


def text_of(content):
    """The text of a string or of a list of content parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part.get("text") or "" for part in content if isinstance(part, dict) and part.get("text"))
    return ""
