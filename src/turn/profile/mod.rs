//! Profiles: how each agent is recognised, and what it says of its own accord. Nothing else: a profile never decides
//! where a turn begins, and without any profile the turns are the same.
//!
//! One file per agent; this file holds what they share and the order in which they are tried.

mod agents;
mod sdks;
mod side_calls;

use std::sync::OnceLock;

use memchr::memmem::{self, Finder};

use crate::event::ProcessInfo;
use crate::wire::{Call, Content, Role};

use super::Agent;

pub(super) use side_calls::{
    MONITOR_SYSTEMS, SIDE_REQUESTS, SIDE_SYSTEMS, SUMMARY_REQUESTS, SUMMARY_SENTENCES, SUMMARY_SYSTEMS, TITLE_OWNERS,
    TITLE_VERBS,
};

/// How one agent is recognised. Every list may be empty.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// The name in output (`claude-code`).
    pub kind: &'static str,
    /// Beginnings of the `user-agent` header (lower case), each ending where the version begins.
    pub user_agents: &'static [&'static str],
    /// Headers that only this agent sends: name, and the beginning of the value (empty for any), in lower case.
    pub headers: &'static [(&'static str, &'static str)],
    /// Names of the executable or script, without directory.
    pub programs: &'static [&'static str],
    /// Parts of a path on the command line or of the executable (`node_modules/@openai/codex/`).
    pub paths: &'static [&'static str],
    /// Sentences at the beginning of its system prompt (lower case).
    pub systems: &'static [&'static str],
    /// Tools that together only this agent offers.
    pub tools: &'static [&'static str],
}

/// Which agent made a call.
pub(super) fn recognise<'a>(call: &Call, processes: impl Iterator<Item = &'a ProcessInfo>) -> Agent {
    by_headers(call, agents::AGENTS)
        .or_else(|| by_system(call))
        .or_else(|| by_process(processes))
        .or_else(|| by_tools(call))
        .or_else(|| by_google(call))
        .or_else(|| by_headers(call, sdks::SDKS))
        .or_else(|| by_stainless(call))
        .or_else(|| by_product(call))
        .unwrap_or_else(|| Agent { kind: "unknown".into(), version: None, recognised_by: None })
}

/// True for the kinds of agents, false for libraries and what nobody knows.
pub(super) fn is_agent(kind: &str) -> bool {
    agents::AGENTS.iter().any(|profile| profile.kind == kind)
}

fn agent(kind: &str, version: Option<String>, by: &str) -> Agent {
    Agent { kind: kind.into(), version, recognised_by: Some(by.into()) }
}

fn by_headers(call: &Call, profiles: &[Profile]) -> Option<Agent> {
    let user_agent = call.request_header("user-agent").unwrap_or_default().to_ascii_lowercase();
    for profile in profiles {
        for prefix in profile.user_agents {
            if let Some(at) = find_product(&user_agent, prefix) {
                let version = user_agent.get(at + prefix.len()..).and_then(version_in);
                return Some(agent(profile.kind, version, "user-agent"));
            }
        }
    }
    profiles.iter().find_map(|profile| {
        let named = profile.headers.iter().any(|(name, start)| {
            call.request_header(name).is_some_and(|value| value.to_ascii_lowercase().starts_with(start))
        });
        named.then(|| agent(profile.kind, None, "headers"))
    })
}

/// Where a product name stands in a user agent: at its beginning, or at the beginning of a later word.
fn find_product(user_agent: &str, name: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = memmem::find(user_agent.as_bytes().get(from..)?, name.as_bytes()) {
        let at = from + at;
        let before = user_agent.get(..at)?.chars().next_back();
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '-' && c != '_' && c != '/') {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// What follows a product's name: `/1.2.3 (x)`, `-tui/1.2.3/model`, ` 1.2.3` -> `1.2.3`.
fn version_in(rest: &str) -> Option<String> {
    let rest = rest.trim_start_matches([' ', '(', '@']);
    let word = rest.split([' ', ';', ',', ')']).next().unwrap_or_default();
    let version = word
        .split('/')
        .map(|part| part.trim_start_matches('v'))
        .find(|part| part.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(version.chars().take_while(|c| c.is_ascii_alphanumeric() || ".-+_".contains(*c)).collect())
}

fn by_system(call: &Call) -> Option<Agent> {
    let mut head = String::new();
    let early = call.messages.iter().take(3).filter(|message| message.role != Role::Assistant);
    for content in early.flat_map(|message| message.content.iter().take(3)) {
        if let Content::Text { text } = content {
            head.push_str(beginning(text, 600));
            head.push('\n');
        }
    }
    head.make_ascii_lowercase();
    let (_, profile) = systems().iter().find(|(sentence, _)| sentence.find(head.as_bytes()).is_some())?;
    Some(agent(profile.kind, None, "system prompt"))
}

/// The first so many characters.
fn beginning(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// Every agent's sentences, in the agents' order, ready to be searched for.
fn systems() -> &'static [(Finder<'static>, &'static Profile)] {
    static SYSTEMS: OnceLock<Vec<(Finder<'static>, &'static Profile)>> = OnceLock::new();
    SYSTEMS.get_or_init(|| {
        let sentences = |profile: &'static Profile| profile.systems.iter().map(move |s| (Finder::new(*s), profile));
        agents::AGENTS.iter().flat_map(sentences).collect()
    })
}

/// Which known agent a process is, by its executable and command line alone.
pub fn agent_of_process(info: &ProcessInfo) -> Option<&'static str> {
    profile_of_process(info).map(|profile| profile.kind)
}

fn by_process<'a>(mut processes: impl Iterator<Item = &'a ProcessInfo>) -> Option<Agent> {
    processes.find_map(profile_of_process).map(|profile| agent(profile.kind, None, "process"))
}

fn profile_of_process(info: &ProcessInfo) -> Option<&'static Profile> {
    let words = std::iter::once(info.exe.as_str()).chain(info.cmdline.iter().take(4).map(String::as_str));
    for word in words.filter(|word| !word.contains('\n') && word.len() < 4_096) {
        let name = word.rsplit('/').next().unwrap_or(word);
        let name = [".js", ".mjs", ".cjs", ".py"].iter().find_map(|ext| name.strip_suffix(ext)).unwrap_or(name);
        let found = agents::AGENTS
            .iter()
            .find(|profile| profile.programs.contains(&name) || profile.paths.iter().any(|path| word.contains(path)));
        if found.is_some() {
            return found;
        }
    }
    None
}

fn by_tools(call: &Call) -> Option<Agent> {
    let offered = |name: &str| call.tools_offered.iter().any(|tool| tool.name == name);
    let profile = agents::AGENTS
        .iter()
        .find(|profile| !profile.tools.is_empty() && profile.tools.iter().all(|tool| offered(tool)))?;
    Some(agent(profile.kind, None, "tools"))
}

fn by_google(call: &Call) -> Option<Agent> {
    let (kind, rest) = sdks::google_genai(call.request_header("user-agent")?)?;
    Some(agent(kind, version_in(rest), "user-agent"))
}

/// The SDKs that Stainless generates name their language and version in headers.
fn by_stainless(call: &Call) -> Option<Agent> {
    let language = match call.request_header("x-stainless-lang")? {
        "python" => "python",
        "js" => "node",
        other => other,
    };
    let vendor = if call.provider.is_empty() { "openai" } else { call.provider.as_str() };
    let version = call.request_header("x-stainless-package-version").map(str::to_owned);
    Some(agent(&format!("{vendor}-{language}"), version, "headers"))
}

/// The first product of a user agent that no profile knows, as it names itself.
fn by_product(call: &Call) -> Option<Agent> {
    let user_agent = call.request_header("user-agent")?;
    let product = user_agent.split([' ', ';', ',']).next()?;
    let (name, version) = product.split_once('/').unwrap_or((product, ""));
    if name.is_empty() || name.len() > 64 {
        return None;
    }
    Some(agent(&name.to_ascii_lowercase(), version_in(version), "user-agent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_found_at_the_beginning_of_a_word() {
        let version = |user_agent: &str, name: &str| {
            find_product(user_agent, name).and_then(|at| version_in(&user_agent[at + name.len()..]))
        };
        assert_eq!(version("claude-cli/2.1.329 (external, cli)", "claude-cli").as_deref(), Some("2.1.329"));
        assert_eq!(version("x/1 ai/5.0.1 runtime/node", "ai/").as_deref(), Some("5.0.1"));
        assert_eq!(version("geminicli-tui/0.61.0/gemini-3 (linux)", "geminicli").as_deref(), Some("0.61.0"));
        assert_eq!(version("ai-sdk/anthropic/4.0.42 x/9", "ai-sdk/").as_deref(), Some("4.0.42"));
        assert_eq!(version("copilot (linux) x/9", "copilot"), None);
        assert_eq!(find_product("asyncopenai/python 1.0", "openai/python"), None);
        assert_eq!(find_product("my-codex/1", "codex"), None);
    }

    #[test]
    fn names_are_lower_case_where_they_are_compared_so() {
        for profile in agents::AGENTS.iter().chain(sdks::SDKS) {
            let lists = [profile.user_agents, profile.systems];
            assert!(lists.iter().flat_map(|l| l.iter()).all(|text| text.to_lowercase() == **text), "{}", profile.kind);
            assert!(profile.headers.iter().all(|(_, value)| value.to_lowercase() == *value), "{}", profile.kind);
        }
        for text in SIDE_SYSTEMS.iter().chain(SUMMARY_SYSTEMS).chain(MONITOR_SYSTEMS) {
            assert_eq!(text.to_lowercase(), **text);
        }
    }
}
