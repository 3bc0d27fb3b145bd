//! Which agent made a turn: by what each really sends, and by its process where it sends nothing of its own.
#![allow(clippy::unwrap_used)]

mod turn_world;

use turn_world::*;

/// Kind, version and sign of the agent of one call.
fn agent(build: impl Fn(&mut World) -> Chat) -> (String, Option<String>, Option<String>) {
    let mut world = World::new(Sight::All);
    let mut chat = build(&mut world);
    chat.user("hello");
    world.call(&mut chat, "a", says("hi"));
    world.end();
    let agent = world.turn("hello").agent.clone();
    (agent.kind, agent.version, agent.recognised_by)
}

fn expect(got: (String, Option<String>, Option<String>), kind: &str, version: Option<&str>, by: &str) {
    assert_eq!((got.0.as_str(), got.1.as_deref(), got.2.as_deref()), (kind, version, Some(by)));
}

#[test]
fn agents_are_known_by_their_user_agents() {
    for (user_agent, kind, version) in [
        ("claude-cli/2.1.329 (external, cli)", "claude-code", Some("2.1.329")),
        ("claude-cli/2.1.332 (external, sdk-py, agent-sdk/0.2.189)", "claude-agent-sdk", Some("0.2.189")),
        ("codex_exec/0.171.0 (Debian 12.0.0; x86_64) xterm (codex_exec; 0.171.0)", "codex", Some("0.171.0")),
        ("codex_cli_rs/0.99.0 (Debian 12.0.0; x86_64)", "codex", Some("0.99.0")),
        ("GeminiCLI-tui/0.61.0/gemini-3.1-pro-preview (linux; x64; terminal)", "gemini-cli", Some("0.61.0")),
        ("GeminiCLI/v0.9.0 (linux; x64)", "gemini-cli", Some("0.9.0")),
        ("QwenCode/0.24.4 (linux; x64)", "qwen-code", Some("0.24.4")),
        ("opencode/1.18.33 ai-sdk/provider-utils/4.0.23 runtime/bun/1.3.14", "opencode", Some("1.18.33")),
        ("Kilo-Code/7.7.9 ai-sdk/provider-utils/4.0.27 runtime/bun/1.3.14", "kilo", Some("7.7.9")),
        ("Charm-Crush/0.30.1 (https://charm.land/crush)", "crush", Some("0.30.1")),
        ("goose/1.20.0", "goose", Some("1.20.0")),
        ("ai-sdk/anthropic/4.0.42 ai-sdk/provider-utils/5.0.30 runtime/bun/1.3.13", "vercel-ai", Some("4.0.42")),
        ("ai/5.0.1 ai-sdk/provider-utils/3.0.0 runtime/node.js/24", "vercel-ai", Some("5.0.1")),
        ("Agents/Python 0.9.1", "openai-agents", Some("0.9.1")),
        ("OpenAI/Python 3.57.0", "openai-python", Some("3.57.0")),
        ("AsyncAnthropic/Python 1.17.0", "anthropic-python", Some("1.17.0")),
        ("Anthropic/JS 1.14.0", "anthropic-node", Some("1.14.0")),
        ("google-genai-sdk/1.30.0 gl-node/v24.22.3", "google-genai-node", Some("1.30.0")),
        ("langchain-anthropic/1.2.0", "langchain", Some("1.2.0")),
        ("litellm/1.110.2", "litellm", Some("1.110.2")),
        ("Boto3/1.44.8 md/Botocore#1.44.8 ua/2.1", "boto3", Some("1.44.8")),
        ("curl/7.88.1", "curl", Some("7.88.1")),
        ("Go-http-client/2.0", "go-http-client", Some("2.0")),
    ] {
        expect(agent(|_| chat(1, 1).header("User-Agent", user_agent)), kind, version, "user-agent");
    }
}

#[test]
fn agents_on_an_sdk_are_known_by_their_own_headers_and_prompts() {
    let sdk = || chat(1, 1).header("user-agent", "OpenAI/Python 2.24.0").header("x-stainless-lang", "python");
    let with_system = |system: &'static str| {
        move |_: &mut World| {
            let mut chat = sdk();
            chat.system(system);
            chat
        }
    };
    expect(agent(|_| sdk().header("X-Initiator", "user")), "copilot-cli", None, "headers");
    expect(agent(|_| sdk().header("x-title", "Cline")), "cline", None, "headers");
    expect(agent(|_| sdk().header("HTTP-Referer", "https://aider.chat")), "aider", None, "headers");
    expect(agent(|_| sdk().header("originator", "codex_vscode")), "codex", None, "headers");
    for (system, kind) in [
        ("You are Hermes Agent, an assistant.", "hermes"),
        ("You are a personal assistant running inside OpenClaw.", "openclaw"),
        ("Act as an expert software developer.", "aider"),
        ("You are Cline, a coding agent.", "cline"),
        ("You are Claude Code, Anthropic's official CLI for Claude.", "claude-code"),
        ("You are a general-purpose AI agent called goose.", "goose"),
        ("You are the GitHub Copilot CLI.", "copilot-cli"),
    ] {
        expect(agent(with_system(system)), kind, None, "system prompt");
    }
    expect(agent(with_system("You are a helpful assistant.")), "openai-python", Some("2.24.0"), "user-agent");
    let stainless =
        |_: &mut World| chat(1, 1).header("x-stainless-lang", "js").header("x-stainless-package-version", "0.128.0");
    expect(agent(stainless), "anthropic-node", Some("0.128.0"), "headers");
}

#[test]
fn agents_are_known_by_their_processes_and_those_that_started_them() {
    for (command, kind) in [
        (&["/home/u/.local/bin/claude", "-p", "x"][..], "claude-code"),
        (&["/usr/bin/node", "/x/node_modules/@google/gemini-cli/bundle/gemini.js", "-p"], "gemini-cli"),
        (&["/usr/bin/node", "/x/node_modules/@qwen-code/qwen-code/cli.js"], "qwen-code"),
        (&["/x/node_modules/@openai/codex-linux-x64/vendor/x86_64/bin/codex", "exec"], "codex"),
        (&["/usr/bin/python3", "/x/bin/aider", "--yes"], "aider"),
        (&["/usr/bin/python3", "/x/bin/hermes"], "hermes"),
    ] {
        let started = |world: &mut World| {
            world.exec(10, None, command);
            world.exec(11, Some(10), &["/usr/bin/worker"]);
            chat(11, 1)
        };
        expect(agent(started), kind, None, "process");
    }
    let other = |world: &mut World| {
        world.exec(10, None, &["/usr/bin/python3", "claude_report.py"]);
        chat(10, 1)
    };
    assert_eq!(agent(other).0, "unknown");
}

#[test]
fn a_sub_agent_that_only_its_library_shows_is_of_its_parents_kind() {
    let mut world = World::new(Sight::All);
    let mut main = chat(1, 1).header("user-agent", "ai-sdk/anthropic/4.0.42");
    main.system("You are Cline, a coding agent.").user("delegate it");
    world.call(&mut main, "m1", asks("t1", "spawn_agent", serde_json::json!({"task": "do the small part"})));
    let mut sub = chat(1, 2).header("user-agent", "ai-sdk/anthropic/4.0.42");
    sub.user("do the small part");
    world.call(&mut sub, "s1", says("done"));
    world.end();
    let agent = world.turn("do the small part").agent.clone();
    expect((agent.kind, agent.version, agent.recognised_by), "cline", None, "parent turn");
}
