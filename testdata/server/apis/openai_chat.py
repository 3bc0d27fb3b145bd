"""OpenAI Chat Completions and its many relatives, Completions (legacy) and Embeddings."""

import base64
import struct

from exchange import Cut, Reply, json_reply
from script import Conversation, Tool, is_prompt

from . import SSE, call_facts, compact, split, sse, text_of, usage_facts

CREATED = 1780000000
ERRORS = {
    "401": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided"),
    "429": (429, "rate_limit_error", "rate_limit_exceeded", "Rate limit reached"),
    "500": (500, "server_error", None, "The server had an error"),
    "529": (503, "server_error", None, "The engine is overloaded"),
}


def provider(request):
    """What Host says; a local server speaks as `openai`."""
    host = (request.header("host") or request.header(":authority")).split(":")[0]
    known = {"openrouter.ai": "openrouter", "api.deepseek.com": "deepseek", "api.mistral.ai": "mistral_ai"}
    return known.get(host, "openai")


def read(body):
    messages = [m for m in body.get("messages") or [] if isinstance(m, dict)]
    prompt, results = "", 0
    for message in reversed(messages):
        if message.get("role") in ("tool", "function"):
            results += 1
        elif message.get("role") == "user" and is_prompt(text_of(message.get("content"))):
            prompt = text_of(message.get("content"))
            break
    tools = []
    for tool in body.get("tools") or []:
        function = tool.get("function") or {}
        tools.append(Tool(function.get("name", ""), function.get("parameters") or {}))
    schema = None
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema") or {}
    elif wanted.get("type") == "json_object":
        schema = {"type": "object"}
    return Conversation(
        model=body.get("model"),
        stream=bool(body.get("stream")),
        messages=len(messages),
        prompt=prompt,
        tool_results=results,
        tools=tools,
        schema=schema,
        thinking="deepseek-r" in str(body.get("model")) or "reasoner" in str(body.get("model")),
        rounds=results,
    )


def chat(request, app):
    body = request.json()
    conversation = read(body)
    plan = app.script.plan(request, conversation)
    facts = call_facts("openai.chat", provider(request), "chat", conversation, plan)
    headers = [("x-request-id", f"req_{plan.n:08d}")]
    refused = refusal(plan, facts, headers)
    if refused:
        return refused
    model = conversation.model or "gpt-5-mini"
    with_usage = plan.do.get("usage", not conversation.stream or bool((body.get("stream_options") or {}).get("include_usage")))
    facts["response_model"] = model
    facts["answer"] = plan.full_text
    facts["finish_reason"] = "tool_calls" if plan.calls else "stop"
    facts["tool_calls"] = [{"id": f"call_{c.id}", "name": c.name, "arguments": c.arguments} for c in plan.calls]
    if with_usage:
        facts["usage"] = known_usage(plan)
    if conversation.stream:
        pace = app.pace(plan.do)
        return Reply(200, [SSE, *headers], stream(model, plan, facts, with_usage, pace), True, facts, plan.do)
    message = {"role": "assistant", "content": plan.full_text or None, "refusal": None, "annotations": []}
    if plan.thinking:
        message["reasoning_content"] = plan.thinking
    if plan.calls:
        message["tool_calls"] = [wire_call(c) for c in plan.calls]
    value = {
        "id": f"chatcmpl-{plan.n:08d}", "object": "chat.completion", "created": CREATED, "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": facts["finish_reason"]}],
        "service_tier": "default", "system_fingerprint": "fp_heron",
    }
    if with_usage:
        value["usage"] = wire_usage(plan)
    return json_reply(200, value, facts, headers, plan.do)


def refusal(plan, facts, headers):
    """The unary error that a directive asks for."""
    if plan.do.get("error") not in ERRORS:
        return None
    status, kind, code, text = ERRORS[plan.do["error"]]
    facts["error"] = {"kind": code or kind, "kinds": [k for k in (code, kind) if k], "message": text}
    return json_reply(status, {"error": {"message": text, "type": kind, "param": None, "code": code}}, facts, headers, plan.do)


def wire_call(call):
    return {"id": f"call_{call.id}", "type": "function", "function": {"name": call.name, "arguments": compact(call.arguments)}}


def known_usage(plan):
    u = plan.usage
    return usage_facts(input_uncached=u["input_uncached"], cache_read=u["cache_read"], output_text=u["output_text"], output_reasoning=u["output_reasoning"])


def wire_usage(plan):
    u = plan.usage
    prompt, completion = u["input_uncached"] + u["cache_read"], u["output_text"] + u["output_reasoning"]
    return {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": u["cache_read"], "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": u["output_reasoning"], "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    }


def stream(model, plan, facts, with_usage, pace):
    base = {"id": f"chatcmpl-{plan.n:08d}", "object": "chat.completion.chunk", "created": CREATED, "model": model, "service_tier": "default", "system_fingerprint": "fp_heron"}
    nothing = {"usage": None} if with_usage else {}

    def chunk(delta, finish=None):
        return sse({**base, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], **nothing})

    trouble = plan.do.get("error")
    yield chunk({"role": "assistant", "content": None if plan.calls and not plan.text else "", "refusal": None})
    if plan.thinking:
        yield b": keep-alive\n\n"
        for part in split(plan.thinking):
            pace.token()
            yield chunk({"reasoning_content": part})
    for i, part in enumerate(plan.text):
        if trouble in ("mid", "cut") and i == max(1, len(plan.text) // 2):
            facts.update(finish_reason=None, tool_calls=[], usage=usage_facts(), usage_final=False, answer="".join(plan.text[:i]))
            if trouble == "cut":
                facts["error"] = {"kind": "cut", "message": ""}
                raise Cut
            facts["error"] = {"kind": "server_error", "message": "The server had an error"}
            yield sse({"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}})
            return
        pace.token()
        yield chunk({"content": part})
    for index, call in enumerate(plan.calls):
        yield chunk({"tool_calls": [{"index": index, "id": f"call_{call.id}", "type": "function", "function": {"name": call.name, "arguments": ""}}]})
        for part in split(compact(call.arguments)):
            pace.token()
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    yield chunk({}, facts["finish_reason"])
    if with_usage:
        yield sse({**base, "choices": [], "usage": wire_usage(plan)})
    yield b"data: [DONE]\n\n"


def completions(request, app):
    """POST /v1/completions: text only."""
    body = request.json()
    prompt = body.get("prompt") if isinstance(body.get("prompt"), str) else str(body.get("prompt"))
    conversation = Conversation(body.get("model"), bool(body.get("stream")), 1, prompt or "", 0)
    plan = app.script.plan(request, conversation)
    model = conversation.model or "gpt-3.5-turbo-instruct"
    facts = call_facts("openai.completions", provider(request), "text_completion", conversation, plan)
    facts.update(response_model=model, finish_reason="stop", answer=plan.full_text, usage=known_usage(plan))
    base = {"id": f"cmpl-{plan.n:08d}", "object": "text_completion", "created": CREATED, "model": model}
    if not conversation.stream:
        choice = {"index": 0, "text": plan.full_text, "logprobs": None, "finish_reason": "stop"}
        return json_reply(200, {**base, "choices": [choice], "usage": wire_usage(plan)}, facts, directives=plan.do)

    def pieces(pace):
        for part in plan.text:
            pace.token()
            yield sse({**base, "choices": [{"index": 0, "text": part, "logprobs": None, "finish_reason": None}]})
        yield sse({**base, "choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}], "usage": wire_usage(plan)})
        yield b"data: [DONE]\n\n"

    return Reply(200, [SSE], pieces(app.pace(plan.do)), True, facts, plan.do)


def embeddings(request, app):
    """POST /v1/embeddings."""
    body = request.json()
    inputs = body.get("input") if isinstance(body.get("input"), list) else [body.get("input")]
    n = app.script.number()
    conversation = Conversation(body.get("model"), False, 0, "", 0)
    facts = call_facts("openai.embeddings", provider(request), "embeddings", conversation, None, call=n)
    facts.update(response_model=body.get("model"), messages=None, usage=usage_facts(input_uncached=5 + n))
    data = []
    for index in range(len(inputs)):
        vector = [((n * 31 + index * 7 + k) % 100) / 128 for k in range(8)]
        packed = base64.b64encode(struct.pack("<8f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": packed if body.get("encoding_format") == "base64" else vector})
    value = {"object": "list", "data": data, "model": body.get("model"), "usage": {"prompt_tokens": 5 + n, "total_tokens": 5 + n}}
    return json_reply(200, value, facts)
