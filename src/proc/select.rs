//! Which processes somebody means: by name, executable, argument, cgroup, container, user.

use std::fs;
use std::path::Path;

use super::{all, container, info};
use crate::event::ProcessInfo;

/// Conditions on a process; those that are given must all hold. Without any, nothing matches.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// The kernel's short name.
    pub comm: Option<String>,
    /// The executable's path, or its last component; `*` stands for any characters.
    pub exe: Option<String>,
    /// Some argument contains this text.
    pub arg: Option<String>,
    /// The cgroup's path begins with this.
    pub cgroup: Option<String>,
    /// The container's name, or the beginning of its id.
    pub container: Option<String>,
    /// The user id.
    pub uid: Option<u32>,
}

impl Wanted {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Wanted::default()
    }

    /// Whether a live process matches.
    pub fn matches(&self, pid: u32) -> bool {
        !self.is_empty() && info(pid).is_some_and(|info| self.matches_info(&info, || cgroup(pid)))
    }

    /// Whether a process that is known by its facts matches. `cgroup` is asked only when it matters.
    pub fn matches_info(&self, info: &ProcessInfo, cgroup: impl FnOnce() -> String) -> bool {
        let holds = |wanted: &Option<String>, test: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(test);
        !self.is_empty()
            && holds(&self.comm, &|comm| info.comm == comm)
            && holds(&self.exe, &|exe| exe_matches(exe, &info.exe))
            && holds(&self.arg, &|arg| info.cmdline.iter().any(|given| given.contains(arg)))
            && holds(&self.container, &|name| info.container.as_deref().is_some_and(|id| container_matches(name, id)))
            && self.uid.is_none_or(|uid| info.uid == uid)
            && self.cgroup.as_deref().is_none_or(|prefix| cgroup().starts_with(prefix))
    }

    /// All live processes that match, this one and its own helpers left out.
    pub fn find(&self) -> Vec<u32> {
        all().into_keys().filter(|pid| *pid != std::process::id() && self.matches(*pid)).collect()
    }
}

fn exe_matches(pattern: &str, exe: &str) -> bool {
    if pattern.contains('/') {
        return glob(pattern, exe);
    }
    let name = Path::new(exe).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    glob(pattern, &name)
}

/// `*` stands for any characters; everything else for itself.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

/// The process's place in the cgroup tree (version 2, else the first hierarchy's).
pub fn cgroup(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    let first = || text.lines().next().and_then(|line| line.splitn(3, ':').nth(2));
    unified.or_else(first).unwrap_or_default().to_owned()
}

fn container_matches(wanted: &str, id: &str) -> bool {
    (wanted.len() >= 4 && id.starts_with(wanted)) || container_name(id).as_deref() == Some(wanted)
}

/// The name that Docker or Podman gave a container.
pub fn container_name(id: &str) -> Option<String> {
    let docker = fs::read(format!("/var/lib/docker/containers/{id}/config.v2.json")).ok();
    let docker = docker.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    if let Some(name) = docker.as_ref().and_then(|config| config.get("Name")?.as_str()) {
        return Some(name.trim_start_matches('/').to_owned());
    }
    let podman = fs::read("/var/lib/containers/storage/overlay-containers/containers.json").ok()?;
    let podman: serde_json::Value = serde_json::from_slice(&podman).ok()?;
    let this = podman.as_array()?.iter().find(|container| container.get("id").and_then(|v| v.as_str()) == Some(id))?;
    this.get("names")?.as_array()?.first()?.as_str().map(str::to_owned)
}

/// The container that a process runs in: its name where known, else its short id.
pub fn container_label(pid: u32) -> Option<String> {
    let id = container(pid)?;
    Some(container_name(&id).unwrap_or_else(|| id.chars().take(12).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text) in
            [("claude", "claude"), ("*", ""), ("*/bin/agent", "/opt/bin/agent"), ("a*c*e", "abcde"), ("a*", "a")]
        {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("claude", "claude2"), ("a*c", "ab"), ("*x", "xy"), ("a*ba", "aba")] {
            assert_eq!(glob(pattern, text), pattern == "a*ba", "{pattern} {text}");
        }
    }

    #[test]
    fn all_given_conditions_must_hold_and_no_condition_matches_nothing() {
        let info = ProcessInfo {
            exe: "/opt/agents/claude".to_owned(),
            comm: "claude".to_owned(),
            cmdline: vec!["claude".to_owned(), "--print".to_owned()],
            uid: 7,
            ..ProcessInfo::default()
        };
        let matches = |wanted: Wanted| wanted.matches_info(&info, || "/user.slice/a".to_owned());
        let some = |text: &str| Some(text.to_owned());
        assert!(!matches(Wanted::default()));
        assert!(matches(Wanted { exe: some("claude"), ..Wanted::default() }));
        assert!(matches(Wanted { exe: some("/opt/*"), arg: some("--pri"), uid: Some(7), ..Wanted::default() }));
        assert!(matches(Wanted { cgroup: some("/user.slice"), ..Wanted::default() }));
        assert!(!matches(Wanted { exe: some("claude"), uid: Some(8), ..Wanted::default() }));
        assert!(!matches(Wanted { container: some("web"), ..Wanted::default() }));
    }

    #[test]
    fn this_process_is_found_by_its_executable_but_not_by_itself() {
        let me = std::process::id();
        let exe = super::super::exe(me).map(|path| path.to_string_lossy().into_owned());
        let wanted = Wanted { exe, ..Wanted::default() };
        assert!(wanted.matches(me));
        assert!(!wanted.find().contains(&me));
    }
}
