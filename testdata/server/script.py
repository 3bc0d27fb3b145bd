"""What the model "says": decides from a conversation whether to answer with a tool call or with text.

Built in, for any agent: the first user prompt gets a tool call (a shell-like tool among those offered, with a harmless
`echo heron-probe-N`), a tool result gets the final answer with the marker HERON-DONE-N. All content derives from the
number N of the call, so that two swapped answers never look alike.

Directives change that. Where they come from, the later wins: the scenario file's "defaults", its matching "rules"
({"when": {"path"|"prompt"|"model": regex, "n": [numbers], "tool_results": number}, "do": {...}}), the request header
`x-heron-do: {...}`, and `[[heron: {...}]]` in the last user prompt. They are:

  encoding       gzip, deflate, br or zstd, when the client accepts it ("force:br" when it does not)
  chunk          [sizes]: cut the body into writes (and h1 chunks) of these sizes, over and over
  framing        h1: "chunked", "length" or "close"
  interim        h1: a status such as 103, sent before the answer
  error          "429", "529", "500", "401" (unary), "mid" (an error event inside a 200 stream), "cut" (the connection ends)
  tokens         number of text deltas;  answer: the exact text;  answer_bytes: pad the answer to that size
  delay_ms       wait before every token;  gate: stop after so many tokens until GET /__continue
  tool           the tool to call, or false for none;  args: its arguments;  tool_calls: how many at once
  tool_rounds    tool calls before the final answer (1);  thinking, usage: true or false instead of what the request asks
"""

import json
import re
import threading
from dataclasses import dataclass, field

SHELL_NAME = re.compile(r"bash|shell|exec|terminal|run_command|command", re.I)
SHELL_ARGUMENT = ("command", "cmd", "commands", "script", "code")
DIRECTIVE = re.compile(r"\[\[heron:\s*(\{.*?\})\s*\]\]", re.S)
NOT_A_PROMPT = ("<system-reminder", "[SYSTEM NOTIFICATION", "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT")
GLYPHS = ["naïve", "façade", "Ωmega", "日本語", "прив\u0435т", "🚀", "👩\u200d💻", "—", "“quoted”", "\\back", '"dq"', "tab\there", "नमस्ते", "𝔘nicode"]


@dataclass
class Tool:
    """A tool that the request offers; `kind` is function, custom or local_shell."""

    name: str
    schema: dict
    kind: str = "function"
    namespace: str = ""


@dataclass
class Conversation:
    """What every API's request comes down to."""

    model: str
    stream: bool
    messages: int
    prompt: str
    tool_results: int
    tools: list = field(default_factory=list)
    schema: dict = None
    thinking: bool = False
    rounds: int = 0


@dataclass
class Plan:
    """What to answer with."""

    n: int
    thinking: str
    text: list
    calls: list
    usage: dict
    do: dict

    @property
    def full_text(self):
        return "".join(self.text)


@dataclass
class ToolCall:
    id: str
    name: str
    arguments: dict
    kind: str = "function"
    namespace: str = ""


def example(schema, depth=0):
    """A value that fits a JSON schema, well enough for tool arguments and forced JSON answers."""
    if not isinstance(schema, dict) or depth > 8:
        return None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example(schema[key][0], depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    kind = (kind or ("object" if "properties" in schema else "string")).lower()
    if kind == "object":
        return {k: example(v, depth + 1) for k, v in (schema.get("properties") or {}).items() if k in (schema.get("required") or [])}
    if kind == "array":
        return [example(schema.get("items") or {}, depth + 1)] if schema.get("minItems") else []
    return {"string": "heron probe", "integer": 1, "number": 1, "boolean": False, "null": None}.get(kind, "heron probe")


def shell_argument(tool):
    """The argument of a tool that takes a command line, and its schema."""
    props = (tool.schema or {}).get("properties") or {}
    for name in SHELL_ARGUMENT:
        if name in props:
            return name, props[name]
    return None, None


def choose_tool(tools, wanted):
    """The tool to call: the one wanted, else a shell-like one, else the only one offered."""
    if wanted is False:
        return None
    if isinstance(wanted, str):
        return next((t for t in tools if t.name == wanted), None)
    shells = [t for t in tools if t.kind == "local_shell" or (SHELL_NAME.search(t.name) and shell_argument(t)[0])]
    # `bash` before `write_to_terminal`: the plainest name first.
    shells.sort(key=lambda t: (len(t.name), t.name))
    if shells:
        return shells[0]
    return tools[0] if len(tools) <= 2 and tools else None


def arguments_for(tool, n):
    """Arguments that fit the tool's schema, with the probe command where a command is asked for."""
    line = f"echo heron-probe-{n}"
    if tool.kind == "local_shell":
        return {"type": "exec", "command": ["bash", "-lc", line], "env": {}}
    if tool.kind == "custom":
        return {"input": line}
    args = example(tool.schema) if tool.schema else {}
    args = args if isinstance(args, dict) else {}
    name, schema = shell_argument(tool)
    if name:
        kind = str(schema.get("type", "string")).lower() if not isinstance(schema.get("type"), list) else "string"
        if kind == "array":
            item = str((schema.get("items") or {}).get("type", "string")).lower()
            args[name] = [line] if name == "commands" and item == "string" else ["bash", "-lc", line]
        else:
            args[name] = line
    return args


def is_prompt(text):
    """Whether a user message's text is a person's prompt and not an agent's reminder."""
    return bool(text.strip()) and not text.lstrip().startswith(NOT_A_PROMPT)


class Script:
    """The scenario: numbers the calls and plans each answer."""

    def __init__(self, scenario, defaults):
        self.defaults = {**(scenario.get("defaults") or {}), **defaults}
        self.rules = scenario.get("rules") or []
        self.calls = 0
        self.lock = threading.Lock()

    def number(self):
        with self.lock:
            self.calls += 1
            return self.calls

    def directives(self, request, conversation, n):
        do = dict(self.defaults)
        for rule in self.rules:
            if self._matches(rule.get("when") or {}, request, conversation, n):
                do.update(rule.get("do") or {})
        for text in [request.header("x-heron-do"), *DIRECTIVE.findall(conversation.prompt)[-1:]]:
            try:
                do.update(json.loads(text)) if text else None
            except ValueError:
                pass
        return do

    @staticmethod
    def _matches(when, request, conversation, n):
        texts = {"path": request.path, "prompt": conversation.prompt, "model": conversation.model}
        return (
            all(re.search(when[key], text) for key, text in texts.items() if key in when)
            and ("n" not in when or n in when["n"])
            and ("tool_results" not in when or when["tool_results"] == conversation.tool_results)
        )

    def plan(self, request, conversation):
        n = self.number()
        do = self.directives(request, conversation, n)
        thinking = do.get("thinking", conversation.thinking)
        calls = []
        if conversation.schema is None and conversation.rounds < do.get("tool_rounds", 1):
            tool = choose_tool(conversation.tools, do.get("tool"))
            if tool:
                for k in range(do.get("tool_calls", 1)):
                    args = do["args"] if "args" in do else arguments_for(tool, n if k == 0 else f"{n}-{k}")
                    calls.append(ToolCall(f"{n:06d}_{k}", tool.name, args, tool.kind, tool.namespace))
        if conversation.schema is not None:
            text = [json.dumps(example(conversation.schema), ensure_ascii=False)]
        elif calls:
            text = ["I will run ", "a command — ", f"step {n}."]
        else:
            text = self._answer(n, do)
        thought = f"Thinking about call {n}: 考え中 …" if thinking else ""
        return Plan(n, thought, text, calls, self._usage(n, bool(thought)), do)

    @staticmethod
    def _answer(n, do):
        if "answer" in do:
            return [do["answer"][i:i + 7] for i in range(0, len(do["answer"]), 7)] or [""]
        count = do.get("tokens", 8)
        words = [f"{GLYPHS[(n * 5 + i * 3) % len(GLYPHS)]}{i} " for i in range(max(count - 2, 0))]
        text = [f"Answer {n}: "] + words + [f"HERON-DONE-{n}"]
        missing = do.get("answer_bytes", 0) - len("".join(text).encode())
        if missing > 0:
            filler = (f"line {n} 𝔘 of filler text; " * (missing // 20 + 1)).encode()[:missing].decode(errors="ignore")
            text[1:1] = [filler[i:i + 4096] for i in range(0, len(filler), 4096)]
        return text

    @staticmethod
    def _usage(n, thinking):
        """Numbers that differ from call to call and from bucket to bucket."""
        k = n % 4000
        return {
            "input_uncached": 1000 + 17 * k,
            "cache_read": 2000 + 5 * k,
            "cache_write_5m": 300 + 3 * k,
            "cache_write_1h": 700 + 2 * k,
            "output_text": 60 + k,
            "output_reasoning": 20 + k % 97 if thinking else 0,
        }
