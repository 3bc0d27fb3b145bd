"""Ollama's own API: /api/chat and /api/generate (NDJSON), /api/embed, /api/tags, /api/show, /api/version."""

from exchange import Cut, Reply, json_reply
from script import Conversation, Tool

from . import call_facts, compact, usage_facts
from .openai_chat import read as read_chat

AT = "2026-11-20T10:00:00.123456789Z"


def done(model, plan, more):
    u = plan.usage
    return {
        "model": model, "created_at": AT, **more, "done": True, "done_reason": "stop", "total_duration": 5043500667, "load_duration": 50186250,
        "prompt_eval_count": u["input_uncached"], "prompt_eval_duration": 325953000, "eval_count": u["output_text"], "eval_duration": 4709213000,
    }


def chat(request, app):
    return answer(request, app, "ollama.chat", read_chat(request.json()))


def generate(request, app):
    body = request.json()
    count = 1 + (1 if body.get("system") else 0)
    return answer(request, app, "ollama.generate", Conversation(body.get("model"), True, count, body.get("prompt") or "", 0))


def answer(request, app, wire_api, conversation):
    conversation.stream = request.json().get("stream", True)
    plan = app.script.plan(request, conversation)
    model = conversation.model
    operation = "chat" if wire_api == "ollama.chat" else "text_completion"
    facts = call_facts(wire_api, "ollama", operation, conversation, plan)
    if plan.do.get("error") in ("401", "429", "500", "529"):
        status = int(plan.do["error"].replace("529", "503"))
        facts["error"] = {"kind": f"http_{status}", "message": "model failed"}
        return json_reply(status, {"error": "model failed"}, facts, directives=plan.do)
    facts.update(
        response_model=model, answer=plan.full_text, finish_reason="stop",
        tool_calls=[{"id": "", "name": c.name, "arguments": c.arguments} for c in plan.calls],
        usage=usage_facts(input_uncached=plan.usage["input_uncached"], output_text=plan.usage["output_text"]),
    )
    calls = [{"function": {"name": c.name, "arguments": c.arguments}} for c in plan.calls]
    part = (lambda text, **more: {"message": {"role": "assistant", "content": text, **more}}) if wire_api == "ollama.chat" else (lambda text, **more: {"response": text})
    if not conversation.stream:
        more = {"tool_calls": calls} if calls else {}
        return json_reply(200, done(model, plan, part(plan.full_text, **more)), facts, directives=plan.do)

    def pieces(pace):
        line = lambda value: compact(value).encode() + b"\n"
        for i, text in enumerate(plan.text):
            if plan.do.get("error") in ("mid", "cut") and i == len(plan.text) // 2:
                facts.update(finish_reason=None, usage=usage_facts(), usage_final=False, tool_calls=[], answer=None)
                facts["error"] = {"kind": "cut", "message": ""}
                if plan.do["error"] == "cut":
                    raise Cut
                facts["error"] = {"kind": None, "message": "an error was encountered while running the model"}
                yield line({"error": "an error was encountered while running the model"})
                return
            pace.token()
            yield line({"model": model, "created_at": AT, **part(text), "done": False})
        if calls:
            yield line({"model": model, "created_at": AT, **part("", tool_calls=calls), "done": False})
        yield line(done(model, plan, part("")))

    return Reply(200, [("content-type", "application/x-ndjson")], pieces(app.pace(plan.do)), True, facts, plan.do)


def embed(request, app):
    body = request.json()
    n = app.script.number()
    inputs = body.get("input") if isinstance(body.get("input"), list) else [body.get("input")]
    facts = call_facts("ollama.embed", "ollama", "embeddings", Conversation(body.get("model"), False, 0, "", 0), None, call=n)
    facts.update(response_model=body.get("model"), messages=None, usage=usage_facts(input_uncached=5 + n))
    vectors = [[((n + i + k) % 100) / 128 for k in range(8)] for i in range(len(inputs))]
    return json_reply(200, {"model": body.get("model"), "embeddings": vectors, "total_duration": 14143917, "load_duration": 1019500, "prompt_eval_count": 5 + n}, facts)
