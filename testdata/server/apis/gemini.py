"""Gemini: models/NAME:generateContent, :streamGenerateContent (SSE or JSON array), :countTokens, :embedContent, and the
Code Assist form /v1internal:generateContent, which wraps both directions."""

import json
import re

from exchange import Cut, Reply, json_reply
from script import Conversation, Tool, is_prompt

from . import call_facts, compact, usage_facts

PATH = re.compile(r"^/(?P<version>v1internal|v\d\w*)(?:/.*?)??(?:/(?:models|endpoints|deployments)/(?P<model>[^/:]+))?:(?P<method>\w+)$")
ERRORS = {
    "401": (401, "UNAUTHENTICATED", "API key not valid"),
    "429": (429, "RESOURCE_EXHAUSTED", "Resource exhausted"),
    "500": (500, "INTERNAL", "Internal error"),
    "529": (503, "UNAVAILABLE", "The model is overloaded"),
}


def pick(value, name):
    """A field by its JSON name or by its snake_case name: clients send both."""
    value = value if isinstance(value, dict) else {}
    return value.get(name, value.get(re.sub(r"[A-Z]", lambda m: "_" + m[0].lower(), name)))


def read(body, model, stream):
    contents = body.get("contents") or []
    if isinstance(contents, dict):
        contents = [contents]
    prompt, results = "", 0
    for content in reversed(contents):
        parts = [p for p in content.get("parts") or [] if isinstance(p, dict)]
        answered = sum(1 for p in parts if pick(p, "functionResponse"))
        text = "\n".join(p.get("text") or "" for p in parts)
        if answered:
            results += answered
        elif content.get("role", "user") == "user" and is_prompt(text):
            prompt = text
            break
    tools = []
    for group in body.get("tools") or []:
        for function in pick(group, "functionDeclarations") or []:
            tools.append(Tool(function.get("name", ""), pick(function, "parametersJsonSchema") or function.get("parameters") or {}))
    config = pick(body, "generationConfig") or {}
    schema = pick(config, "responseJsonSchema") or pick(config, "responseSchema")
    if schema is None and pick(config, "responseMimeType") == "application/json":
        schema = {"type": "object"}
    thinking = pick(config, "thinkingConfig") or {}
    return Conversation(
        model=model, stream=stream,
        messages=len(contents) + (1 if pick(body, "systemInstruction") else 0),
        prompt=prompt, tool_results=results, tools=tools, schema=schema, thinking=bool(pick(thinking, "includeThoughts")), rounds=results,
    )


def handle(request, app):
    """Any Gemini path; None when it is not one."""
    match = PATH.match(request.path)
    if not match or request.method != "POST":
        return None
    method, body = match["method"], request.json()
    inner = match["version"] == "v1internal"
    model = body.get("model") if inner else match["model"]
    request_body = (body.get("request") or {}) if inner else body
    provider = "gcp.vertex_ai" if "/projects/" in request.path else "gcp.gemini"
    if method == "countTokens":
        n = app.script.number()
        facts = call_facts("gemini.generate_content", provider, "count_tokens", read(request_body, model, False), None, call=n, usage_final=False)
        return json_reply(200, {"totalTokens": 900 + n}, facts)
    if method in ("embedContent", "batchEmbedContents"):
        n = app.script.number()
        value = {"values": [((n + k) % 100) / 128 for k in range(8)]}
        out = {"embedding": value} if method == "embedContent" else {"embeddings": [value for _ in request_body.get("requests") or []]}
        return json_reply(200, out, {"kind": "aux_api", "call": n})
    if method not in ("generateContent", "streamGenerateContent"):
        return json_reply(200, {}, {"kind": "other"})
    return generate(request, app, request_body, model, method == "streamGenerateContent", inner, provider)


def generate(request, app, body, model, stream, inner, provider):
    conversation = read(body, model, stream)
    plan = app.script.plan(request, conversation)
    facts = call_facts("gemini.generate_content", provider, "generate_content", conversation, plan)
    if plan.do.get("error") in ERRORS:
        status, kind, text = ERRORS[plan.do["error"]]
        facts["error"] = {"kind": kind, "message": text}
        return json_reply(status, {"error": {"code": status, "message": text, "status": kind}}, facts, directives=plan.do)
    u = plan.usage
    facts.update(
        response_model=model, answer=plan.full_text, finish_reason="STOP",
        tool_calls=[{"id": f"fc_{c.id}", "name": c.name, "arguments": c.arguments} for c in plan.calls],
        usage=usage_facts(input_uncached=u["input_uncached"], cache_read=u["cache_read"], output_text=u["output_text"],
                          output_reasoning=u["output_reasoning"] if plan.thinking else None),
    )
    wrap = (lambda chunk: {"response": chunk, "traceId": f"t{plan.n}"}) if inner else (lambda chunk: chunk)
    if not stream:
        parts = [p for chunk in chunks(model, plan, None, facts) for p in chunk["candidates"][0]["content"]["parts"]]
        whole = chunk_of(model, plan, merge(parts), "STOP", u["output_text"])
        return json_reply(200, wrap(whole), facts, directives=plan.do)
    made = (wrap(chunk) for chunk in chunks(model, plan, app.pace(plan.do), facts))
    if request.query.get("alt") == "sse":
        pieces = (f"data: {compact(chunk)}\r\n\r\n".encode() for chunk in made)
        return Reply(200, [("content-type", "text/event-stream")], pieces, True, facts, plan.do)
    return Reply(200, [("content-type", "application/json; charset=UTF-8")], array(made), True, facts, plan.do)


def merge(parts):
    """Adjacent text parts become one, as in an answer that is not streamed."""
    out = []
    for part in parts:
        plain = set(part) == {"text"}
        if plain and out and set(out[-1]) == {"text"}:
            out[-1] = {"text": out[-1]["text"] + part["text"]}
        else:
            out.append(part)
    return out


def array(made):
    """The default stream format: one JSON array, pretty-printed, an element at a time."""
    first = True
    for chunk in made:
        yield (("[" if first else ",\n") + json.dumps(chunk, indent=2, ensure_ascii=False)).encode()
        first = False
    yield b"]\n"


def chunk_of(model, plan, parts, finish, candidates_tokens):
    u = plan.usage
    prompt = u["input_uncached"] + u["cache_read"]
    thoughts = {"thoughtsTokenCount": u["output_reasoning"]} if plan.thinking else {}
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": prompt, "cachedContentTokenCount": u["cache_read"], "candidatesTokenCount": candidates_tokens, **thoughts,
            "totalTokenCount": prompt + candidates_tokens + (u["output_reasoning"] if plan.thinking else 0),
        },
        "modelVersion": model, "responseId": f"r-{plan.n:08d}",
    }


def chunks(model, plan, pace, facts):
    """The stream's elements; the usage is cumulative and the last one counts."""
    groups = [[{"text": plan.thinking, "thought": True}]] if plan.thinking else []
    groups += [[{"text": part}] for part in plan.text]
    if plan.calls:
        groups.append([{"functionCall": {"id": f"fc_{c.id}", "name": c.name, "args": c.arguments}, "thoughtSignature": "Q2g="} for c in plan.calls])
    for i, parts in enumerate(groups):
        if pace and plan.do.get("error") in ("mid", "cut") and i == len(groups) // 2:
            facts.update(finish_reason=None, usage_final=False, tool_calls=[], answer=None)
            if plan.do["error"] == "cut":
                facts["error"] = {"kind": "cut", "message": ""}
                raise Cut
            facts["error"] = {"kind": "UNAVAILABLE", "message": "The model is overloaded"}
            yield {"error": {"code": 503, "message": "The model is overloaded", "status": "UNAVAILABLE"}}
            return
        if pace:
            pace.token()
        last = i == len(groups) - 1
        yield chunk_of(model, plan, parts, "STOP" if last else None, plan.usage["output_text"] if last else min(i, plan.usage["output_text"]))
