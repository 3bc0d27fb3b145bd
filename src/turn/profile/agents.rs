//! The agents, one table each. A table that stands earlier wins, so what is built on another stands before it.

use super::Profile;

/// In the order in which they are tried.
pub(super) const AGENTS: &[Profile] = &[
    CLAUDE_AGENT_SDK,
    CLAUDE_CODE,
    CODEX,
    QWEN_CODE,
    GEMINI_CLI,
    KILO,
    OPENCODE,
    OPENCLAW,
    HERMES,
    COPILOT_CLI,
    AIDER,
    ROO_CODE,
    CLINE,
    CRUSH,
    GOOSE,
];

/// Programs around the bundled Claude Code; it says so in its user agent and its system prompt.
const CLAUDE_AGENT_SDK: Profile = Profile {
    kind: "claude-agent-sdk",
    user_agents: &["agent-sdk", "claude-agent-sdk"],
    headers: &[],
    programs: &[],
    paths: &["claude_agent_sdk/_bundled", "@anthropic-ai/claude-agent-sdk"],
    systems: &["anthropic's claude agent sdk"],
    tools: &[],
};

const CLAUDE_CODE: Profile = Profile {
    kind: "claude-code",
    user_agents: &["claude-cli", "claude-code"],
    headers: &[("x-claude-code-session-id", "")],
    programs: &["claude"],
    paths: &["@anthropic-ai/claude-code"],
    systems: &["you are claude code"],
    tools: &["Bash", "TodoWrite", "Glob", "Grep"],
};

const CODEX: Profile = Profile {
    kind: "codex",
    user_agents: &["codex_cli_rs", "codex_exec", "codex-tui", "codex_tui", "codex_vscode", "codex_sdk_ts", "codex"],
    headers: &[("originator", "codex"), ("x-codex-turn-metadata", ""), ("x-codex-window-id", "")],
    programs: &["codex", "codex-exec"],
    paths: &["@openai/codex"],
    systems: &["you are codex", "running in the codex cli"],
    tools: &["apply_patch", "update_plan"],
};

const QWEN_CODE: Profile = Profile {
    kind: "qwen-code",
    user_agents: &["qwencode", "qwen-code"],
    headers: &[],
    programs: &["qwen"],
    paths: &["@qwen-code/qwen-code"],
    systems: &["you are qwen code"],
    tools: &[],
};

const GEMINI_CLI: Profile = Profile {
    kind: "gemini-cli",
    user_agents: &["geminicli-a2a-server", "geminicli", "gemini-cli"],
    headers: &[],
    programs: &["gemini"],
    paths: &["@google/gemini-cli"],
    systems: &[
        "you are gemini cli",
        "this is the gemini cli",
        "you are an interactive cli agent specializing in software engineering tasks",
    ],
    tools: &["run_shell_command", "google_web_search", "read_many_files"],
};

const KILO: Profile = Profile {
    kind: "kilo",
    user_agents: &["kilo-code", "kilocode", "kilo"],
    headers: &[("x-kilocode-version", ""), ("x-title", "kilo")],
    programs: &["kilo", "kilocode"],
    paths: &["@kilocode/cli"],
    systems: &["you are kilo"],
    tools: &[],
};

const OPENCODE: Profile = Profile {
    kind: "opencode",
    user_agents: &["opencode"],
    headers: &[("x-opencode-session", ""), ("x-opencode-client", ""), ("x-title", "opencode")],
    programs: &["opencode"],
    paths: &["opencode-ai", "opencode-linux-"],
    systems: &["you are opencode"],
    tools: &[],
};

const OPENCLAW: Profile = Profile {
    kind: "openclaw",
    user_agents: &["openclaw", "clawdbot", "moltbot"],
    headers: &[("x-title", "openclaw")],
    programs: &["openclaw", "openclaw-agent"],
    paths: &["node_modules/openclaw/"],
    systems: &["running inside openclaw"],
    tools: &["sessions_spawn", "sessions_list"],
};

const HERMES: Profile = Profile {
    kind: "hermes",
    user_agents: &["hermes-agent", "hermesagent", "hermes_agent", "hermes"],
    headers: &[("x-title", "hermes agent"), ("x-openrouter-title", "hermes agent")],
    programs: &["hermes", "hermes-agent"],
    paths: &["hermes_agent/", "hermes-agent/"],
    systems: &["you are hermes agent"],
    tools: &["delegate_task", "session_search"],
};

const COPILOT_CLI: Profile = Profile {
    kind: "copilot-cli",
    user_agents: &["github-copilot-cli", "copilot-cli", "copilot", "githubcopilotchat"],
    headers: &[("copilot-integration-id", ""), ("x-initiator", "")],
    programs: &["copilot"],
    paths: &["@github/copilot"],
    systems: &["you are the github copilot cli", "you are github copilot cli"],
    tools: &["report_intent"],
};

/// Sends no header of its own but through OpenRouter.
const AIDER: Profile = Profile {
    kind: "aider",
    user_agents: &["aider"],
    headers: &[("x-title", "aider"), ("http-referer", "https://aider.chat")],
    programs: &["aider"],
    paths: &["/aider/main", "/aider/__main__"],
    systems: &[
        "act as an expert software developer",
        "act as an expert code analyst",
        "act as an expert architect engineer",
    ],
    tools: &[],
};

const ROO_CODE: Profile = Profile {
    kind: "roo-code",
    user_agents: &["roocode", "roo-code"],
    headers: &[("x-title", "roo code")],
    programs: &[],
    paths: &[],
    systems: &["you are roo,"],
    tools: &[],
};

const CLINE: Profile = Profile {
    kind: "cline",
    user_agents: &["cline"],
    headers: &[("x-title", "cline"), ("http-referer", "https://cline.bot"), ("x-cline-version", "")],
    programs: &["cline"],
    paths: &["node_modules/cline/"],
    systems: &["you are cline"],
    tools: &["attempt_completion", "ask_followup_question"],
};

const CRUSH: Profile = Profile {
    kind: "crush",
    user_agents: &["charm-crush", "charm crush", "crush"],
    headers: &[("x-title", "crush")],
    programs: &["crush"],
    paths: &["@charmland/crush"],
    systems: &["you are crush"],
    tools: &[],
};

const GOOSE: Profile = Profile {
    kind: "goose",
    user_agents: &["goose", "goosed"],
    headers: &[("x-title", "goose"), ("http-referer", "https://block.github.io/goose")],
    programs: &["goose", "goosed"],
    paths: &[],
    systems: &["ai agent called goose", "you are goose"],
    tools: &["developer__shell", "developer__text_editor"],
};
