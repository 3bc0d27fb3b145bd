"""OpenAI Responses: POST /v1/responses (SSE or one object), and the same events over a WebSocket."""

from exchange import Cut, Reply, json_reply
from script import Conversation, Tool, is_prompt

from . import SSE, call_facts, compact, split, sse, text_of, usage_facts
from .openai_chat import CREATED, ERRORS, known_usage, provider, refusal

RESULTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output", "shell_call_output", "tool_search_output")


def items(body):
    given = body.get("input")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return [item for item in given or [] if isinstance(item, dict)]


def tools_in(given, namespace=""):
    tools = []
    for tool in given or []:
        kind = tool.get("type", "function")
        if kind == "function":
            tools.append(Tool(tool.get("name", ""), tool.get("parameters") or {}, "function", namespace))
        elif kind == "custom":
            tools.append(Tool(tool.get("name", ""), {}, "custom", namespace))
        elif kind == "local_shell":
            tools.append(Tool("local_shell", {}, "local_shell"))
        elif kind == "namespace":
            tools.extend(tools_in(tool.get("tools"), tool.get("name", "")))
    return tools


def read(body, history=()):
    """The conversation; `history` is what the server keeps under `previous_response_id`."""
    given = items(body)
    prompt, results = "", 0
    for item in reversed([*history, *given]):
        if item.get("type") in RESULTS:
            results += 1
        elif item.get("role") == "user" and is_prompt(text_of(item.get("content"))):
            prompt = text_of(item.get("content"))
            break
    tools = tools_in(body.get("tools"))
    for item in given:
        tools += tools_in(item.get("tools")) if item.get("type") == "additional_tools" else []
    wanted = (body.get("text") or {}).get("format") or {}
    conversation = Conversation(
        model=body.get("model"),
        stream=bool(body.get("stream")),
        messages=len(given) + (1 if body.get("instructions") else 0),
        prompt=prompt,
        tool_results=results,
        tools=tools,
        schema=wanted.get("schema") if wanted.get("type") == "json_schema" else None,
        thinking=bool((body.get("reasoning") or {}).get("summary")),
        rounds=results,
    )
    conversation.offered = len(body.get("tools") or [])
    return conversation


def tool_item(call):
    """A plan's tool call as an output item."""
    where = {"namespace": call.namespace} if call.namespace else {}
    if call.kind == "custom":
        return {"id": f"ctc_{call.id}", "type": "custom_tool_call", "status": "completed", "call_id": f"call_{call.id}", "name": call.name, "input": call.arguments.get("input", ""), **where}
    if call.kind == "local_shell":
        return {"id": f"lsh_{call.id}", "type": "local_shell_call", "status": "completed", "call_id": f"call_{call.id}", "action": call.arguments}
    return {"id": f"fc_{call.id}", "type": "function_call", "status": "completed", "call_id": f"call_{call.id}", "name": call.name, "arguments": compact(call.arguments), **where}


def output_items(plan):
    out = []
    if plan.thinking:
        out.append({"id": f"rs_{plan.n:06d}", "type": "reasoning", "summary": [{"type": "summary_text", "text": plan.thinking}]})
    if plan.full_text:
        out.append({"id": f"msg_{plan.n:06d}", "type": "message", "status": "completed", "role": "assistant",
                    "content": [{"type": "output_text", "text": plan.full_text, "annotations": [], "logprobs": []}]})
    return out + [tool_item(call) for call in plan.calls]


def response(model, plan, body, status, output):
    u = plan.usage
    ins, outs = u["input_uncached"] + u["cache_read"], u["output_text"] + u["output_reasoning"]
    usage = None
    if status in ("completed", "incomplete"):
        usage = {
            "input_tokens": ins, "input_tokens_details": {"cached_tokens": u["cache_read"]},
            "output_tokens": outs, "output_tokens_details": {"reasoning_tokens": u["output_reasoning"]}, "total_tokens": ins + outs,
        }
    return {
        "id": f"resp_{plan.n:08d}", "object": "response", "created_at": CREATED, "status": status, "error": None, "incomplete_details": None,
        "instructions": None, "metadata": {}, "model": model, "output": output, "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"), "reasoning": {"effort": None, "summary": None}, "service_tier": "default",
        "store": False, "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "usage": usage, "user": None,
    }


def begin(request, app, body, history=()):
    """Plan and facts of one response."""
    conversation = read(body, history)
    plan = app.script.plan(request, conversation)
    model = conversation.model or "gpt-5.6"
    facts = call_facts("openai.responses", provider(request), "chat", conversation, plan)
    facts.update(
        response_model=model, answer=plan.full_text, finish_reason="completed", usage=known_usage(plan), tools_offered=conversation.offered,
        tool_calls=[{"id": f"call_{c.id}", "name": c.name, "arguments": c.arguments} for c in plan.calls],
    )
    return conversation, plan, model, facts


def responses(request, app):
    body = request.json()
    history = app.histories.get(body.get("previous_response_id"), [])
    conversation, plan, model, facts = begin(request, app, body, history)
    headers = [("x-request-id", f"req_{plan.n:08d}")]
    if plan.do.get("error") in ERRORS:
        facts.update(response_model=None, answer=None, finish_reason=None, usage=usage_facts(), tool_calls=[])
        return refusal(plan, facts, headers)
    app.histories[f"resp_{plan.n:08d}"] = [*history, *items(body), *output_items(plan)]
    if conversation.stream:
        pieces = (sse(event, event["type"]) for event in events(model, plan, body, facts, app.pace(plan.do)))
        return Reply(200, [SSE, *headers], pieces, True, facts, plan.do)
    return json_reply(200, response(model, plan, body, "completed", output_items(plan)), facts, headers, plan.do)


def events(model, plan, body, facts, pace):
    """The events of a streamed response, numbered."""
    for number, event in enumerate(_events(model, plan, body, facts, pace)):
        yield {**event, "sequence_number": number}


def _events(model, plan, body, facts, pace):
    yield {"type": "response.created", "response": response(model, plan, body, "in_progress", [])}
    yield {"type": "response.in_progress", "response": response(model, plan, body, "in_progress", [])}
    trouble = plan.do.get("error")
    for index, item in enumerate(output_items(plan)):
        kind = item["type"]
        if kind == "reasoning":
            yield from _reasoning(index, item, pace)
        elif kind == "message":
            for step, event in enumerate(_message(index, item, plan, pace)):
                if trouble in ("mid", "cut") and step == 2 + max(1, len(plan.text) // 2):
                    facts.update(finish_reason="failed", tool_calls=[], usage=usage_facts(), usage_final=False, answer=None)
                    if trouble == "cut":
                        facts["finish_reason"] = None
                        facts["error"] = {"kind": "cut", "message": ""}
                        raise Cut
                    facts["error"] = {"kind": "server_error", "message": "The server had an error"}
                    failed = response(model, plan, body, "failed", [])
                    failed["error"] = {"code": "server_error", "message": "The server had an error"}
                    yield {"type": "response.failed", "response": failed}
                    return
                yield event
        else:
            yield from _tool(index, item, pace)
    yield {"type": "response.completed", "response": response(model, plan, body, "completed", output_items(plan))}


def _reasoning(index, item, pace):
    at = {"item_id": item["id"], "output_index": index, "summary_index": 0}
    text = item["summary"][0]["text"]
    yield {"type": "response.output_item.added", "output_index": index, "item": {**item, "summary": []}}
    yield {"type": "response.reasoning_summary_part.added", **at, "part": {"type": "summary_text", "text": ""}}
    for part in split(text):
        pace.token()
        yield {"type": "response.reasoning_summary_text.delta", **at, "delta": part}
    yield {"type": "response.reasoning_summary_text.done", **at, "text": text}
    yield {"type": "response.reasoning_summary_part.done", **at, "part": {"type": "summary_text", "text": text}}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _message(index, item, plan, pace):
    at = {"item_id": item["id"], "output_index": index, "content_index": 0}
    yield {"type": "response.output_item.added", "output_index": index, "item": {**item, "status": "in_progress", "content": []}}
    yield {"type": "response.content_part.added", **at, "part": {"type": "output_text", "text": "", "annotations": [], "logprobs": []}}
    for part in plan.text:
        pace.token()
        yield {"type": "response.output_text.delta", **at, "delta": part, "logprobs": [], "obfuscation": "x9"}
    yield {"type": "response.output_text.done", **at, "text": plan.full_text, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": item["content"][0]}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _tool(index, item, pace):
    kind = item["type"]
    at = {"item_id": item["id"], "output_index": index}
    if kind == "local_shell_call":
        yield {"type": "response.output_item.added", "output_index": index, "item": {**item, "status": "in_progress"}}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
        return
    key, name = ("input", "custom_tool_call_input") if kind == "custom_tool_call" else ("arguments", "function_call_arguments")
    yield {"type": "response.output_item.added", "output_index": index, "item": {**item, "status": "in_progress", key: ""}}
    for part in split(item[key]):
        pace.token()
        yield {"type": f"response.{name}.delta", **at, "delta": part}
    yield {"type": f"response.{name}.done", **at, "name": item["name"], key: item[key]}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def socket_message(request, app, body):
    """One `response.create` over a WebSocket: (facts, directives, iterator of server messages)."""
    history = app.histories.get(body.get("previous_response_id"), [])
    if body.get("generate") is False:
        conversation = read(body, history)
        plan = app.script.plan(request, conversation)
        model = conversation.model or "gpt-5.6"
        plan.text, plan.calls, plan.thinking = [], [], ""
        facts = call_facts("openai.responses", provider(request), "chat", conversation, plan)
        facts.update(response_model=model, finish_reason="completed", usage=known_usage(plan), tools_offered=conversation.offered, warm_up=True, stream=True)
        app.histories[f"resp_{plan.n:08d}"] = [*history, *items(body)]
        return facts, plan.do, events(model, plan, body, facts, app.pace({}))
    conversation, plan, model, facts = begin(request, app, body, history)
    facts["stream"] = True
    app.histories[f"resp_{plan.n:08d}"] = [*history, *items(body), *output_items(plan)]
    if plan.do.get("error") in ERRORS:
        status, kind, code, text = ERRORS[plan.do["error"]]
        facts.update(response_model=None, answer=None, finish_reason=None, usage=usage_facts(), tool_calls=[])
        facts["error"] = {"kind": code or kind, "kinds": [k for k in (code, kind) if k], "message": text}
        return facts, plan.do, iter([{"type": "error", "status": status, "error": {"type": kind, "code": code, "message": text}}])
    return facts, plan.do, events(model, plan, body, facts, app.pace(plan.do))
