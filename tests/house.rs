//! Who must not know whom: reads the imports of each room and holds them against the table of `docs/architecture.md`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// A room (file or folder below `src/`) and the rooms that it must not name.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("event.rs", &["capture", "conn", "http", "wire", "turn", "store", "api", "pipeline", "proc", "flaw"]),
    ("capture/pcap", &["capture::ebpf", "proc", "http", "wire", "turn", "store", "api", "pipeline", "conn"]),
    ("capture/ebpf", &["capture::pcap", "http", "store", "turn", "api", "pipeline", "conn"]),
    ("conn", &["capture", "wire", "turn", "store", "api", "pipeline", "proc"]),
    ("http", &["capture", "conn", "wire", "turn", "store", "api", "pipeline", "proc"]),
    ("wire", &["capture", "conn", "turn", "store", "api", "pipeline", "proc"]),
    ("price", &["capture", "conn", "http", "turn", "store", "api", "pipeline", "proc"]),
    ("turn", &["capture", "conn", "http", "store", "api", "pipeline", "proc"]),
    ("store", &["capture", "conn", "api", "pipeline", "proc"]),
    ("api", &["pipeline", "conn", "capture"]),
    ("cmd", &["conn"]),
];

/// Rooms without clock, files, threads, sockets and the process table.
const PURE: &[&str] = &["conn", "http", "wire", "price", "turn"];
const IMPURE_WORDS: &[&str] =
    &["std::fs", "std::net::Tcp", "std::thread", "SystemTime", "Instant::now", "tokio::", "procfs::", "unsafe "];

fn rust_files(path: &Path, into: &mut Vec<PathBuf>) {
    if path.is_file() {
        into.push(path.to_owned());
    } else if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| rust_files(&entry.unwrap().path(), into));
    }
}

/// The files of a room with their code up to the tests.
fn sources(room: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    rust_files(&Path::new("src").join(room), &mut files);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let code = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned())
    };
    files.into_iter().map(code).collect()
}

/// Lines of a room for which `is_broken` holds, comments left out.
fn broken_lines(room: &str, is_broken: impl Fn(&str) -> bool) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in sources(room) {
        for (number, line) in text.lines().enumerate() {
            if !line.trim_start().starts_with("//") && is_broken(line) {
                broken.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    broken
}

fn names(line: &str, room: &str) -> bool {
    let name = format!("crate::{room}");
    let ends_there = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    line.match_indices(&name).any(|(at, _)| ends_there(&line[at + name.len()..]))
}

#[test]
fn no_room_knows_whom_it_must_not_know() {
    let broken: Vec<String> = FORBIDDEN
        .iter()
        .flat_map(|(room, others)| broken_lines(room, |line| others.iter().any(|other| names(line, other))))
        .collect();
    assert!(broken.is_empty(), "rooms that know too much:\n{}", broken.join("\n"));
}

#[test]
fn the_pure_rooms_have_no_clock_no_files_and_no_threads() {
    let impure = |line: &str| IMPURE_WORDS.iter().any(|word| line.contains(word));
    let broken: Vec<String> = PURE.iter().flat_map(|room| broken_lines(room, impure)).collect();
    assert!(broken.is_empty(), "impure lines in pure rooms:\n{}", broken.join("\n"));
}

/// In a container the kernel's own numbers name other processes, or none.
#[test]
fn the_kernel_side_counts_processes_as_herons_own_namespace_does() {
    let mut asking = Vec::new();
    for entry in fs::read_dir("bpf").unwrap() {
        let path = entry.unwrap().path();
        if fs::read_to_string(&path).unwrap().contains("bpf_get_current_pid_tgid()") {
            asking.push(path);
        }
    }
    assert_eq!(asking, [Path::new("bpf/pidns.h")], "current_id() is for everybody else");
}

#[test]
fn the_check_itself_sees_a_forbidden_import() {
    assert!(names("use crate::capture::pcap;", "capture"));
    assert!(!names("use crate::captures;", "capture"));
    assert!(!sources("http").is_empty());
}
