//! Who really called heron: under sudo the calling user, with that user's own environment.
//!
//! Surprising fact: sudo's own environment block in `/proc` is the one that the user's shell gave it, before sudo cleaned it.
//! It has the user's PATH and keys; heron, which got the cleaned one, takes the child's from there.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use crate::proc;

/// Variables that sudo sets itself: they never come from heron's own environment.
const SUDOS_OWN: &[&str] = &[
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "USERNAME",
    "SHELL",
    "MAIL",
    "SUDO_COMMAND",
    "SUDO_USER",
    "SUDO_UID",
    "SUDO_GID",
    "SUDO_HOME",
    "SUDO_TTY",
];

/// Directories below a home where people's tools live, when nobody tells the real PATH.
const HOME_DIRS: &[&str] = &[
    ".local/bin",
    "bin",
    ".npm-global/bin",
    ".bun/bin",
    ".deno/bin",
    ".cargo/bin",
    ".volta/bin",
    ".pyenv/shims",
    ".asdf/shims",
    ".local/share/mise/shims",
    ".local/share/pnpm",
];

/// A user to become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Login name.
    pub name: String,
}

/// The calling user and the environment of what that user starts.
#[derive(Debug)]
pub struct Caller {
    identity: Option<Identity>,
    environment: BTreeMap<OsString, OsString>,
}

impl Caller {
    /// Looks who called: the user named by sudo, else whoever runs heron.
    pub fn find() -> Caller {
        let own: BTreeMap<OsString, OsString> = env::vars_os().collect();
        match sudo_user(&own) {
            Some(user) => Caller::through_sudo(&user, own, sudo_environment()),
            None => Caller { identity: None, environment: own },
        }
    }

    fn through_sudo(user: &User, own: Environment, before_sudo: Option<Environment>) -> Caller {
        let identity = Identity { uid: user.uid.as_raw(), gid: user.gid.as_raw(), name: user.name.clone() };
        let knows_path = before_sudo.as_ref().is_some_and(|env| env.contains_key(OsStr::new("PATH")));
        let mut environment = before_sudo.unwrap_or_default();
        // What was set on sudo's command line, or kept by its policy, is in heron's own only.
        let kept = own.iter().filter(|(name, _)| !SUDOS_OWN.iter().any(|known| name.as_os_str() == OsStr::new(known)));
        environment.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
        let own_path = own.get(OsStr::new("PATH")).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let mut set = |name: &str, value: &OsStr| environment.insert(name.into(), value.to_owned());
        set("HOME", user.dir.as_os_str());
        set("USER", OsStr::new(&user.name));
        set("LOGNAME", OsStr::new(&user.name));
        if user.shell.as_os_str() != "" {
            set("SHELL", user.shell.as_os_str());
        }
        if !knows_path {
            set("PATH", OsStr::new(&usual_path(&user.dir, &own_path)));
        }
        Caller { identity: Some(identity), environment }
    }

    /// The user to become; `None` when heron's own user is the right one.
    pub fn switch_to(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The child's environment.
    pub fn environment(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.environment.iter()
    }

    /// One variable of it.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(OsStr::new(name)).map(|value| value.to_string_lossy().into_owned())
    }
}

type Environment = BTreeMap<OsString, OsString>;

/// The user that sudo names, when heron runs as root for another user.
fn sudo_user(own: &Environment) -> Option<User> {
    if !Uid::effective().is_root() {
        return None;
    }
    let uid: u32 = own.get(OsStr::new("SUDO_UID"))?.to_str()?.parse().ok()?;
    let user = User::from_uid(Uid::from_raw(uid)).ok()??;
    (!user.uid.is_root()).then_some(user)
}

/// What the user's shell gave to the sudo that started this heron.
fn sudo_environment() -> Option<Environment> {
    let mut pid = std::process::id();
    for _ in 0..4 {
        pid = proc::parent(pid)?;
        let is_sudo = proc::exe(pid)?.file_name() == Some(OsStr::new("sudo"));
        if is_sudo {
            return fs::read(format!("/proc/{pid}/environ")).ok().map(|block| parse(&block));
        }
    }
    None
}

fn parse(block: &[u8]) -> Environment {
    let pair = |entry: &[u8]| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (entry.get(..at)?, entry.get(at + 1..)?);
        Some((OsStr::from_bytes(name).to_owned(), OsString::from_vec(value.to_vec())))
    };
    block.split(|byte| *byte == 0).filter_map(pair).filter(|(name, _)| !name.is_empty()).collect()
}

/// A search path for a user whose own is not known.
fn usual_path(home: &Path, own: &str) -> String {
    let mut dirs: Vec<PathBuf> = HOME_DIRS.iter().map(|dir| home.join(dir)).collect();
    dirs.extend(newest_nvm(home));
    dirs.retain(|dir| dir.is_dir());
    let mut path: Vec<String> = dirs.iter().map(|dir| dir.to_string_lossy().into_owned()).collect();
    let rest = if own.is_empty() { "/usr/local/bin:/usr/bin:/bin" } else { own };
    path.push(rest.to_owned());
    path.join(":")
}

/// The newest Node that nvm installed.
fn newest_nvm(home: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(home.join(".nvm/versions/node")).ok()?;
    let number = |path: &Path| -> Vec<u32> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.trim_start_matches('v').split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path())).max_by_key(|path| number(path))?;
    Some(newest.join("bin"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    fn user() -> User {
        let mut user = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
        (user.name, user.dir) = ("ada".to_owned(), PathBuf::from("/home/ada"));
        user
    }

    #[test]
    fn the_users_own_environment_wins_over_what_sudo_made_of_it() {
        let own = environment(&[
            ("HOME", "/root"),
            ("PATH", "/sbin"),
            ("SUDO_USER", "ada"),
            ("EXTRA", "1"),
            ("USER", "root"),
        ]);
        let before = environment(&[("PATH", "/home/ada/.nvm/bin:/bin"), ("API_KEY", "k"), ("HOME", "/home/ada")]);
        let caller = Caller::through_sudo(&user(), own, Some(before));
        assert_eq!(caller.variable("PATH").unwrap(), "/home/ada/.nvm/bin:/bin");
        assert_eq!(caller.variable("API_KEY").unwrap(), "k");
        assert_eq!(caller.variable("EXTRA").unwrap(), "1");
        assert_eq!(caller.variable("HOME").unwrap(), "/home/ada");
        assert_eq!(caller.variable("USER").unwrap(), "ada");
        assert_eq!(caller.variable("SUDO_USER"), None);
    }

    #[test]
    fn without_sudos_block_the_home_and_the_usual_places_are_used() {
        let dir = tempfile::tempdir().unwrap();
        for place in [".local/bin", ".nvm/versions/node/v9.1.0/bin", ".nvm/versions/node/v22.3.0/bin"] {
            fs::create_dir_all(dir.path().join(place)).unwrap();
        }
        let user = User { dir: dir.path().to_owned(), ..user() };
        let caller = Caller::through_sudo(&user, environment(&[("PATH", "/usr/bin")]), None);
        let home = dir.path().display();
        let expected = format!("{home}/.local/bin:{home}/.nvm/versions/node/v22.3.0/bin:/usr/bin");
        assert_eq!(caller.variable("PATH").unwrap(), expected);
    }

    #[test]
    fn an_environment_block_is_split_at_zeros_and_the_first_equals_sign() {
        let parsed = parse(b"A=1\0B=x=y\0broken\0=odd\0");
        assert_eq!(parsed, environment(&[("A", "1"), ("B", "x=y")]));
    }
}
