//! The process table: the only reader of `/proc`.
//!
//! Answers questions about a live process (who it is, what it maps, who its children are). It keeps no state and decides
//! nothing. Everything here races with the process's end, so every answer is an `Option` or empty, never an error.

pub mod select;
pub mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use procfs::process::{MMPermissions, MMapPath, Process};

use crate::event::{ProcId, ProcessInfo};

/// Nanoseconds of one unit of `starttime` in `/proc/PID/stat` (`USER_HZ` is 100 on every Linux ABI).
const TICK_NANOS: u64 = 10_000_000;

/// A file that a process maps executable.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Image {
    /// The path as the process names it; ` (deleted)` is taken off.
    pub path: PathBuf,
    /// A way to the very same file from here, also when it is deleted or in another mount namespace.
    pub via: PathBuf,
    /// Inode number, to tell images of one process apart.
    pub inode: u64,
}

/// The identity of a live process, by its start time in `/proc` (a multiple of 10 ms).
pub fn identity(pid: u32) -> Option<ProcId> {
    let stat = process(pid)?.stat().ok()?;
    Some(ProcId { pid, start: stat.starttime.saturating_mul(TICK_NANOS) })
}

fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

/// Whether the process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    process(pid).and_then(|p| p.stat().ok()).is_some_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

/// The parent's pid.
pub fn parent(pid: u32) -> Option<u32> {
    u32::try_from(process(pid)?.stat().ok()?.ppid).ok()
}

/// What is known of a live process.
pub fn info(pid: u32) -> Option<ProcessInfo> {
    let process = process(pid)?;
    let stat = process.stat().ok()?;
    let path =
        |path: Result<PathBuf, _>| path.ok().map(|p| undeleted(&p).to_string_lossy().into_owned()).unwrap_or_default();
    Some(ProcessInfo {
        exe: path(process.exe()),
        comm: stat.comm,
        cmdline: process.cmdline().unwrap_or_default(),
        cwd: path(process.cwd()),
        uid: process.uid().unwrap_or_default(),
        container: container(pid),
    })
}

fn undeleted(path: &Path) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(text) => PathBuf::from(text),
        None => path.to_owned(),
    }
}

/// The executable's path in its own mount namespace.
pub fn exe(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| undeleted(&path))
}

/// A path of the process's mount namespace, seen from here.
pub fn inside(pid: u32, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// One variable of the environment that the process was started with.
pub fn environment(pid: u32, name: &str) -> Option<String> {
    let block = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = format!("{name}=");
    block
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(prefix.as_bytes()))
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

/// The files that the process maps executable, each once, the executable itself first.
pub fn images(pid: u32) -> Vec<Image> {
    let Some(maps) = process(pid).and_then(|p| p.maps().ok()) else {
        return Vec::new();
    };
    let mut seen = BTreeSet::new();
    let mut images = Vec::new();
    for map in maps {
        let MMapPath::Path(path) = &map.pathname else {
            continue;
        };
        if !map.perms.contains(MMPermissions::EXECUTE) || !seen.insert((map.dev, map.inode)) {
            continue;
        }
        let (from, to) = map.address;
        let exact = PathBuf::from(format!("/proc/{pid}/map_files/{from:x}-{to:x}"));
        let path = undeleted(path);
        let via = if exact.exists() { exact } else { inside(pid, &path) };
        images.push(Image { via, inode: map.inode, path });
    }
    if let Ok(meta) = fs::metadata(format!("/proc/{pid}/exe")) {
        images.sort_by_key(|image| image.inode != meta.ino());
    }
    images
}

/// Every process, by pid, with its parent.
pub fn all() -> BTreeMap<u32, u32> {
    let Ok(processes) = procfs::process::all_processes() else {
        return BTreeMap::new();
    };
    let stat = |p: procfs::ProcResult<Process>| p.ok()?.stat().ok();
    let number = |pid: i32| u32::try_from(pid).ok();
    processes.filter_map(stat).filter_map(|stat| Some((number(stat.pid)?, number(stat.ppid)?))).collect()
}

/// The session of a process; `None` when it is gone.
pub fn session(pid: u32) -> Option<i32> {
    Some(process(pid)?.stat().ok()?.session)
}

/// The stopped processes of a session.
pub fn stopped_in(session: Option<i32>) -> Vec<u32> {
    let Some(session) = session else {
        return Vec::new();
    };
    let stopped =
        |pid: &u32| process(*pid).and_then(|p| p.stat().ok()).is_some_and(|s| s.state == 'T' && s.session == session);
    all().into_keys().filter(stopped).collect()
}

/// The process and all its descendants, parents before children.
pub fn tree(root: u32) -> Vec<u32> {
    let parents = all();
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(parent) = tree.get(next).copied() {
        next += 1;
        tree.extend(parents.iter().filter(|(pid, of)| **of == parent && **pid != parent).map(|(pid, _)| *pid));
    }
    tree
}

/// The id of the container that the process runs in, from its cgroup path: the last run of 64 hex digits (Docker,
/// containerd, CRI-O, Podman).
pub fn container(pid: u32) -> Option<String> {
    container_of(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

fn container_of(cgroup: &str) -> Option<String> {
    let mut runs = cgroup.split(|c: char| !c.is_ascii_hexdigit());
    runs.rfind(|run| run.len() == 64).map(str::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known_by_its_own_files() {
        let pid = std::process::id();
        let info = info(pid).unwrap();
        assert_eq!(Path::new(&info.exe), std::env::current_exe().unwrap());
        assert!(is_alive(pid));
        assert_eq!(identity(pid), identity(pid));
        let images = images(pid);
        assert_eq!(images.first().unwrap().path, std::env::current_exe().unwrap());
        assert!(images.iter().all(|image| image.path.is_absolute()));
        assert!(tree(parent(pid).unwrap()).contains(&pid));
    }

    #[test]
    fn a_process_that_does_not_exist_is_nobody() {
        let pid = u32::MAX / 2;
        assert_eq!(info(pid), None);
        assert!(!is_alive(pid));
        assert!(images(pid).is_empty());
    }

    #[test]
    fn container_ids_are_found_in_the_paths_of_the_usual_runtimes() {
        let id = "ab".repeat(32);
        assert_eq!(container_of(&format!("0::/system.slice/docker-{id}.scope\n")), Some(id.clone()));
        assert_eq!(container_of(&format!("0::/kubepods/pod12-34/cri-containerd-{id}.scope")), Some(id.clone()));
        assert_eq!(container_of(&format!("4:memory:/docker/{id}\n0::/\n")), Some(id));
        assert_eq!(container_of("0::/user.slice/user-1000.slice/session-1.scope"), None);
    }
}
