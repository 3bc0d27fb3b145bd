//! Which processes are agents: built-in rules for the known ones.
//!
//! Only decides whom to look at; what an agent is called in turns is decided from its traffic.

use super::select::Wanted;
use crate::event::ProcessInfo;

/// A rule with the agent's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What to call it.
    pub name: String,
    /// Which processes.
    pub wanted: Wanted,
}

/// Native programs, by the last component of the executable.
const PROGRAMS: &[(&str, &str)] = &[
    ("claude", "Claude Code"),
    ("claude.exe", "Claude Code"),
    ("codex", "Codex CLI"),
    ("opencode", "OpenCode"),
    ("kilo", "Kilo"),
    ("copilot", "Copilot CLI"),
    ("cline", "Cline"),
    ("goose", "Goose"),
    ("goosed", "Goose"),
    ("crush", "Crush"),
    ("amp", "Amp"),
    ("cursor-agent", "Cursor agent"),
];

/// Programs of Node and Python, by a part of an argument (the script's path).
const SCRIPTS: &[(&str, &str)] = &[
    ("/claude-code/", "Claude Code"),
    ("/bin/claude", "Claude Code"),
    ("/@openai/codex/", "Codex CLI"),
    ("/gemini-cli/", "Gemini CLI"),
    ("/bin/gemini", "Gemini CLI"),
    ("/qwen-code/", "Qwen Code"),
    ("/bin/qwen", "Qwen Code"),
    ("/@github/copilot/", "Copilot CLI"),
    ("/openclaw", "OpenClaw"),
    ("/cline/", "Cline"),
    ("/bin/aider", "Aider"),
    ("/bin/hermes", "Hermes"),
    ("/opencode-ai/", "OpenCode"),
];

const INTERPRETERS: &[&str] = &["node*", "python*", "bun", "MainThread"];

/// The rules for known agents.
pub fn builtin() -> Vec<Rule> {
    let program = |(exe, name): &(&str, &str)| Rule {
        name: (*name).to_owned(),
        wanted: Wanted { exe: Some((*exe).to_owned()), ..Wanted::default() },
    };
    let script = |(arg, name): &(&str, &str)| {
        let (arg, name) = ((*arg).to_owned(), (*name).to_owned());
        INTERPRETERS.iter().map(move |exe| Rule {
            name: name.clone(),
            wanted: Wanted { exe: Some((*exe).to_owned()), arg: Some(arg.clone()), ..Wanted::default() },
        })
    };
    PROGRAMS.iter().map(program).chain(SCRIPTS.iter().flat_map(script)).collect()
}

/// The name of the first rule that a process fulfils.
pub fn name_of<'a>(rules: &'a [Rule], info: &ProcessInfo, pid: u32) -> Option<&'a str> {
    let fulfils = |rule: &&Rule| rule.wanted.matches_info(info, || super::select::cgroup(pid));
    rules.iter().find(fulfils).map(|rule| rule.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(exe: &str, cmdline: &[&str]) -> ProcessInfo {
        let cmdline = cmdline.iter().map(|arg| (*arg).to_owned()).collect();
        ProcessInfo { exe: exe.to_owned(), cmdline, ..ProcessInfo::default() }
    }

    #[test]
    fn known_agents_are_told_by_program_or_script_and_others_are_not() {
        let rules = builtin();
        let name = |info: &ProcessInfo| name_of(&rules, info, 1).map(str::to_owned);
        let claude = process("/home/a/node_modules/@anthropic-ai/claude-code-linux-x64/claude", &["claude", "-p"]);
        assert_eq!(name(&claude).as_deref(), Some("Claude Code"));
        let gemini = process("/usr/bin/node", &["node", "/home/a/.nvm/versions/node/v24/bin/gemini", "-p"]);
        assert_eq!(name(&gemini).as_deref(), Some("Gemini CLI"));
        let aider = process("/usr/bin/python3.11", &["/home/a/venv/bin/python", "/home/a/venv/bin/aider"]);
        assert_eq!(name(&aider).as_deref(), Some("Aider"));
        assert_eq!(name(&process("/usr/bin/node", &["node", "server.js"])), None);
        assert_eq!(name(&process("/usr/bin/vi", &["vi", "/home/a/bin/gemini"])), None);
    }
}
