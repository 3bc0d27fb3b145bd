//! The kernel side against real TLS traffic. Needs root and BTF; says so loudly when it is skipped.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, Read, Write};

use heron::capture::ebpf::Config;
use heron::event::{Confidence, Direction, Event, ProcessChange, ProcessEvent, Transport};
use support::{Held, Server, Tracer, can_trace, data, python, trace_client};

#[test]
fn one_write_of_two_megabytes_arrives_whole() {
    if !can_trace("one_write_of_two_megabytes_arrives_whole") {
        return;
    }
    let server = Server::start(&[]);
    let outcome = trace_client(&server, &["post:/v1/messages?size=300000:2000000"], Config::default());
    let sent = outcome.bytes(Direction::Sent);
    let head = b"POST /v1/messages?size=300000 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2000000\r\n\r\n";
    assert!(sent.starts_with(head), "{:?} {:#?}", outcome.counters, outcome.targets);
    assert_eq!(sent.len(), head.len() + 2_000_000);
    assert!(sent[head.len()..].iter().all(|byte| *byte == b'B'));
    let received = outcome.bytes(Direction::Received);
    assert!(received.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(received.ends_with(&[b'R'; 300_000]));
    outcome.assert_nothing_lost();
    assert_eq!(outcome.count("passed_bytes"), (sent.len() + received.len()) as u64);
    let open: Vec<_> = outcome.events.iter().filter(|event| matches!(event, Event::Open(_))).collect();
    assert_eq!(open.len(), 1);
}

#[test]
fn of_a_thousand_other_requests_no_byte_crosses_the_ring() {
    if !can_trace("of_a_thousand_other_requests_no_byte_crosses_the_ring") {
        return;
    }
    let server = Server::start(&[]);
    let other = "repeat:500:post:/telemetry/v1/batch?size=5000:3000";
    let steps = [other, "post:/v1/messages?size=100:50", "repeat:500:get:/assets/messages.js?size=700"];
    let outcome = trace_client(&server, &steps, Config::default());
    let (sent, received) = (outcome.bytes(Direction::Sent), outcome.bytes(Direction::Received));
    assert!(sent.starts_with(b"POST /v1/messages?size=100 HTTP/1.1\r\n"));
    assert!(sent.ends_with(&[b'B'; 50]));
    assert!(received.ends_with(&[b'R'; 100]));
    assert!(sent.len() < 200 && received.len() < 400, "{} {}", sent.len(), received.len());
    assert_eq!(outcome.count("passed_bytes"), (sent.len() + received.len()) as u64);
    assert_eq!(outcome.count("heads"), 1001);
    assert_eq!(outcome.count("heads_passed"), 1);
    assert_eq!(outcome.count("missed_bytes"), 0);
    outcome.assert_nothing_lost();
    assert_eq!(outcome.count("seen_bytes"), outcome.count("passed_bytes") + outcome.count("filtered_bytes"));
    assert!(outcome.count("filtered_bytes") > 500 * (5000 + 3000 + 700));
}

#[test]
fn a_full_ring_is_accounted_for_to_the_byte() {
    if !can_trace("a_full_ring_is_accounted_for_to_the_byte") {
        return;
    }
    let server = Server::start(&[]);
    let config = Config { ring_bytes: 4096, ..Config::default() };
    let outcome = trace_client(&server, &["repeat:20:post:/v1/messages?size=200000:500000"], config);
    let (sent, received) =
        (outcome.bytes(Direction::Sent).len() as u64, outcome.bytes(Direction::Received).len() as u64);
    let seen = outcome.count("seen_bytes");
    assert!(outcome.count("ring_full") > 0, "{:?}", outcome.counters);
    assert_eq!(outcome.count("passed_bytes"), sent + received);
    assert_eq!(outcome.count("passed_bytes") + outcome.count("lost_bytes"), seen);
    assert_eq!(outcome.lost(), outcome.count("lost_bytes"), "every lost byte is in a hole of known size");
}

#[test]
fn a_forked_child_is_watched_and_hooked() {
    if !can_trace("a_forked_child_is_watched_and_hooked") {
        return;
    }
    let server = Server::start(&[]);
    let steps = ["post:/v1/messages:10", "fork", "wait", "post:/v1/chat/completions:20"];
    let mut args = vec![data("client.py").to_string_lossy().into_owned(), server.port.to_string()];
    args.extend(steps.map(str::to_owned));
    let mut held = Held::new(&python(), &args);
    let tracer = Tracer::start(Config { roots: vec![held.root()], ..Config::default() });
    held.release();
    let mut line = String::new();
    held.stdout().read_line(&mut line).unwrap();
    tracer.wait_until("the child is hooked", |tracer| tracer.targets().iter().any(|target| target.processes >= 2));
    held.release();
    held.finish();
    let outcome = tracer.finish();
    let text = String::from_utf8(outcome.bytes(Direction::Sent)).unwrap();
    assert!(text.contains("POST /v1/messages") && text.contains("POST /v1/chat/completions"), "{text}");
    let owners: Vec<_> = outcome
        .events
        .iter()
        .filter_map(|event| if let Event::Open(open) = event { open.owner.map(|owner| owner.pid) } else { None })
        .collect();
    assert_eq!(owners.len(), 2);
    assert_ne!(owners[0], owners[1]);
    let forks = outcome.events.iter().filter(|event| {
        matches!(event, Event::Process(ProcessEvent { change: ProcessChange::Fork { .. }, process, .. }) if process.pid == owners[1])
    });
    assert_eq!(forks.count(), 1);
    outcome.assert_nothing_lost();
}

/// Copies of the libraries that Python's TLS uses, for probes that are for everybody.
fn private_libssl(into: &std::path::Path) {
    let script =
        "import _ssl, subprocess; print(subprocess.run(['ldd', _ssl.__file__], capture_output=True, text=True).stdout)";
    let out = std::process::Command::new(python()).args(["-c", script]).output().unwrap();
    for line in String::from_utf8(out.stdout).unwrap().lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some("=>"), Some(path)) = (words.next(), words.next(), words.next())
            && (name.starts_with("libssl") || name.starts_with("libcrypto"))
        {
            std::fs::copy(path, into.join(name)).unwrap();
        }
    }
}

#[test]
fn a_crowd_of_processes_is_seen_whole_and_once() {
    if !can_trace("a_crowd_of_processes_is_seen_whole_and_once") {
        return;
    }
    const CHILDREN: usize = 20;
    let (server, libraries) = (Server::start(&[]), tempfile::tempdir().unwrap());
    private_libssl(libraries.path());
    let args = [data("crowd.py").to_string_lossy().into_owned(), server.port.to_string(), CHILDREN.to_string()];
    let mut held = Held::with(&python(), &args, &[("LD_LIBRARY_PATH", &libraries.path().to_string_lossy())]);
    let tracer = Tracer::start(Config { roots: vec![held.root()], ..Config::default() });
    held.release();
    let mut line = String::new();
    held.stdout().read_line(&mut line).unwrap();
    tracer.wait_until("all children are hooked", |tracer| {
        tracer.targets().iter().any(|target| target.processes > CHILDREN)
    });
    held.release();
    held.finish();
    let outcome = tracer.finish();
    let sent = outcome.bytes(Direction::Sent);
    assert_eq!(memchr::memmem::find_iter(&sent, b"POST /v1/messages").count(), CHILDREN);
    assert_eq!(sent.iter().filter(|byte| **byte == b'B').count(), CHILDREN * 1000);
    let received = outcome.bytes(Direction::Received);
    assert_eq!(memchr::memmem::find_iter(&received, &[b'R'; 3000]).count(), CHILDREN);
    assert_eq!(outcome.count("passed_bytes"), (sent.len() + received.len()) as u64);
    outcome.assert_nothing_lost();
}

#[test]
fn both_ends_of_a_connection_are_known() {
    if !can_trace("both_ends_of_a_connection_are_known") {
        return;
    }
    let server = Server::start(&[]);
    let outcome = trace_client(&server, &["post:/v1/messages:10", "new", "post:/v1/messages:10"], Config::default());
    let opens: Vec<_> = outcome
        .events
        .iter()
        .filter_map(|event| if let Event::Open(open) = event { Some(open) } else { None })
        .collect();
    assert_eq!(opens.len(), 2);
    let mut locals = Vec::new();
    for open in opens {
        let ends = open.endpoints.clone().unwrap();
        assert_eq!(ends.remote.unwrap().to_string(), format!("127.0.0.1:{}", server.port));
        assert_eq!(ends.confidence, Confidence::Certain);
        assert!(!open.mid_stream);
        locals.push(ends.local.unwrap().to_string());
    }
    assert_ne!(locals[0], locals[1]);
}

#[test]
fn an_unwatched_process_is_not_seen() {
    if !can_trace("an_unwatched_process_is_not_seen") {
        return;
    }
    let server = Server::start(&[]);
    let mut watched = Held::new(std::path::Path::new("/bin/true"), &[]);
    let tracer = Tracer::start(Config { roots: vec![watched.root()], ..Config::default() });
    let status = std::process::Command::new(python())
        .arg(data("client.py"))
        .args([&server.port.to_string(), "post:/v1/messages:10"])
        .status()
        .unwrap();
    assert!(status.success());
    watched.release();
    watched.finish();
    let outcome = tracer.finish();
    assert_eq!(outcome.count("seen_bytes"), 0);
    assert!(outcome.events.iter().all(|event| matches!(event, Event::Process(_))));
}

/// The ids of the BPF programs that a process holds.
fn programs_of(pid: u32) -> Vec<u32> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let of_program: Option<u32> = text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
        ids.extend(of_program.filter(|_| text.contains("prog_type")));
    }
    ids
}

#[test]
fn killing_heron_leaves_the_agent_alone_and_nothing_behind() {
    if !can_trace("killing_heron_leaves_the_agent_alone_and_nothing_behind") {
        return;
    }
    let server = Server::start(&[]);
    let mut heron = std::process::Command::new(env!("CARGO_BIN_EXE_heron"))
        .args(["exec", "--no-console", "--no-retention", "--"])
        .arg(python())
        .arg(data("client.py"))
        .args([
            &server.port.to_string(),
            "post:/v1/messages:10",
            "wait",
            "post:/v1/messages?size=90000:90000",
            "say:done",
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(heron.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "waiting\n");
    let programs = programs_of(heron.id());
    assert!(programs.len() >= 5, "{programs:?}");
    let mut stdin = heron.stdin.take().unwrap();
    heron.kill().unwrap();
    heron.wait().unwrap();
    stdin.write_all(b"\n").unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "done\n", "the agent did not finish untouched");
    // The kernel frees programs a grace period after their last link.
    while libbpf_rs::query::ProgInfoIter::default().any(|info| programs.contains(&info.id)) {
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
}

#[test]
fn plaintext_on_sockets_is_taken_and_filtered_like_tls() {
    if !can_trace("plaintext_on_sockets_is_taken_and_filtered_like_tls") {
        return;
    }
    let server = Server::start(&["--plain"]);
    let steps = [
        "plain",
        "get:/healthz",
        "post:/api/chat?size=200000:300000",
        "post:/other:1000",
        "new",
        "post:/v1/messages:5",
    ];
    let outcome = trace_client(&server, &steps, Config::default());
    let (sent, received) = (outcome.bytes(Direction::Sent), outcome.bytes(Direction::Received));
    assert!(sent.starts_with(b"POST /api/chat?size=200000 HTTP/1.1\r\n"), "{:?}", outcome.counters);
    let text = String::from_utf8_lossy(&sent);
    assert!(text.contains("POST /v1/messages ") && !text.contains("/healthz") && !text.contains("/other"));
    let count = |bytes: &[u8], which: u8| bytes.iter().filter(|byte| **byte == which).count();
    assert_eq!(count(&sent, b'B'), 300_005);
    assert!(count(&received, b'R') >= 200_000);
    outcome.assert_nothing_lost();
    let opens: Vec<_> = outcome
        .events
        .iter()
        .filter_map(|event| if let Event::Open(open) = event { Some(open) } else { None })
        .collect();
    assert_eq!(opens.len(), 2);
    for open in opens {
        assert_eq!(open.transport, Transport::Plain);
        let ends = open.endpoints.clone().unwrap();
        assert_eq!(ends.remote.unwrap().to_string(), format!("127.0.0.1:{}", server.port));
        assert!(!open.mid_stream);
    }
    let closes = outcome.events.iter().filter(|event| matches!(event, Event::Close(_)));
    assert_eq!(closes.count(), 2);
}

#[test]
fn the_programs_load_in_every_configuration() {
    if !can_trace("the_programs_load_in_every_configuration") {
        return;
    }
    let facts = heron::capture::ebpf::facts::Facts::gather();
    let best = facts.decide();
    for (exact_records, sleepable) in [(best.exact_records, best.sleepable), (false, best.sleepable), (false, false)] {
        for host in [false, true] {
            let choose: Option<heron::capture::ebpf::Chooser> = if host { Some(Box::new(|_, _| false)) } else { None };
            let decisions = heron::capture::ebpf::facts::Decisions { exact_records, sleepable, ..best };
            let config = Config { choose, decisions: Some(decisions), strict: host, ..Config::default() };
            if let Err(error) = heron::capture::ebpf::probe(&config) {
                panic!("exact records {exact_records}, sleepable {sleepable}, host {host}: {error:#}");
            }
        }
    }
}

#[test]
fn size_classes_carry_the_same_bytes_as_exact_records() {
    if !can_trace("size_classes_carry_the_same_bytes_as_exact_records") {
        return;
    }
    let decisions = heron::capture::ebpf::facts::Facts::gather().decide();
    let decisions = heron::capture::ebpf::facts::Decisions { exact_records: false, ..decisions };
    let server = Server::start(&[]);
    let config = Config { decisions: Some(decisions), ..Config::default() };
    let outcome =
        trace_client(&server, &["post:/v1/messages?size=70000:1000000", "post:/v1/messages?size=3:2"], config);
    let sent = outcome.bytes(Direction::Sent);
    assert_eq!(sent.iter().filter(|byte| **byte == b'B').count(), 1_000_002, "{:?}", outcome.counters);
    assert_eq!(outcome.count("passed_bytes"), (sent.len() + outcome.bytes(Direction::Received).len()) as u64);
    outcome.assert_nothing_lost();
}

#[test]
fn perf_uprobes_carry_the_same_bytes_as_one_link_for_all() {
    if !can_trace("perf_uprobes_carry_the_same_bytes_as_one_link_for_all") {
        return;
    }
    let decisions = heron::capture::ebpf::facts::Facts::gather().decide();
    let decisions = heron::capture::ebpf::facts::Decisions { uprobe_multi: false, exact_records: false, ..decisions };
    let server = Server::start(&[]);
    let config = Config { decisions: Some(decisions), ..Config::default() };
    let steps = ["post:/v1/messages?size=70000:1000000", "post:/telemetry?size=500:300", "post:/v1/messages?size=3:2"];
    let outcome = trace_client(&server, &steps, config);
    let sent = outcome.bytes(Direction::Sent);
    let body = sent.iter().filter(|byte| **byte == b'B').count();
    assert_eq!(body, 1_000_002, "{:?} {:#?}", outcome.counters, outcome.targets);
    let received = outcome.bytes(Direction::Received);
    assert!(received.split(|byte| *byte != b'R').any(|run| run.len() == 70_000));
    assert!(received.ends_with(b"RRR"));
    assert!(outcome.count("filtered_bytes") > 800);
    outcome.assert_nothing_lost();
}

#[test]
fn strict_holds_each_new_program_until_it_is_hooked() {
    if !can_trace("strict_holds_each_new_program_until_it_is_hooked") {
        return;
    }
    let server = Server::start(&[]);
    let client = format!("{} {} {} post:/v1/messages:7", python().display(), data("client.py").display(), server.port);
    let script = format!("{client}; {client}; {client}; true");
    let mut held = Held::new(std::path::Path::new("/bin/sh"), &["-c".to_owned(), script]);
    let tracer = Tracer::start(Config { roots: vec![held.root()], strict: true, ..Config::default() });
    held.release();
    held.finish();
    let outcome = tracer.finish();
    let sent = String::from_utf8(outcome.bytes(Direction::Sent)).unwrap();
    assert_eq!(sent.matches("POST /v1/messages HTTP/1.1").count(), 3, "{:?}", outcome.counters);
    assert_eq!(outcome.count("missed_bytes"), 0);
    outcome.assert_nothing_lost();
}

#[test]
fn the_command_gets_signals_that_are_sent_to_heron() {
    if !can_trace("the_command_gets_signals_that_are_sent_to_heron") {
        return;
    }
    let program = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nprint('up', flush=True)\nsignal.pause()\n";
    let mut heron = std::process::Command::new(env!("CARGO_BIN_EXE_heron"))
        .args(["exec", "--no-console", "--no-retention", "--"])
        .arg(python())
        .args(["-c", program])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(heron.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(heron.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(heron.wait().unwrap().code(), Some(7));
}
