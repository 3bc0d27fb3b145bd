//! A heron that stands still (SIGSTOP): the agent goes on, and what was lost meanwhile is counted to the byte.
#![allow(clippy::unwrap_used)]

mod lab;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use lab::{can_trace, counter, root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Waits until the process is stopped.
fn wait_until_stopped(pid: u32) {
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        if stat.rsplit(") ").next().unwrap().starts_with('T') {
            return;
        }
        std::thread::yield_now();
    }
}

/// Ends with the value, also when it is stopped.
struct Heron(Child);

impl Drop for Heron {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python() -> String {
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    String::from_utf8(asked.stdout).unwrap().trim().to_owned()
}

#[test]
fn what_a_stopped_heron_loses_is_counted_to_the_byte_and_the_agent_goes_on() {
    if !can_trace("what_a_stopped_heron_loses_is_counted_to_the_byte_and_the_agent_goes_on") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let heron = Command::new(env!("CARGO_BIN_EXE_heron"))
        .args(["exec", "--keep", "--no-retention", "--port", "0", "--ring-mib", "1", "--"])
        .arg(python())
        .arg(root().join("testdata/bpf/memory.py"))
        .args(["4000", "1000"])
        .env("HOME", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut heron = Heron(heron);
    let (mut tell, mut agent) = (heron.0.stdin.take().unwrap(), BufReader::new(heron.0.stdout.take().unwrap()));
    let mut said = BufReader::new(heron.0.stderr.take().unwrap()).lines();
    let mut until = |text: &str| said.by_ref().map(Result::unwrap).find(|line| line.contains(text)).unwrap();
    let url = until("console at http://localhost:");
    let port: String = url.split("localhost:").nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
    let mut line = String::new();
    agent.read_line(&mut line).unwrap();
    assert_eq!(line, "go\n");

    let pid = Pid::from_raw(heron.0.id().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    wait_until_stopped(heron.0.id());
    // Eight megabytes past a ring of one: the agent gets to its end while nobody reads.
    tell.write_all(b"\n").unwrap();
    line.clear();
    agent.read_line(&mut line).unwrap();
    let passed: u64 = line.trim().parse().unwrap();
    assert!(passed > 8_000_000);
    kill(pid, Signal::SIGCONT).unwrap();
    tell.write_all(b"\n").unwrap();
    until("the command has ended with code 0");

    let api = format!("127.0.0.1:{port}");
    let count = |name: &str| counter(&api, "kernel", name);
    assert!(count("lost_bytes") > 6_000_000 && count("passed_bytes") > 100_000, "{}", count("lost_bytes"));
    assert_eq!(count("passed_bytes") + count("lost_bytes"), passed);
    assert_eq!((count("seen_bytes"), count("missed_bytes"), count("filtered_bytes")), (passed, 0, 0));
    // The decoders were told of the same holes.
    assert_eq!(counter(&api, "http", "gap_bytes"), count("lost_bytes"));
    kill(pid, Signal::SIGINT).unwrap();
    assert!(heron.0.wait().unwrap().success());
}
