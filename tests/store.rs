//! What the store promises: everything comes back as it was, once, without secrets; faults lose nothing that was captured.
#![allow(clippy::unwrap_used)]

mod made;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use heron::event::{Nanos, ProcessChange, ProcessEvent};
use heron::store::{
    CallFilter, CallSummary, Item, Keep, Location, OpenError, Options, Page, Reader, Store, TurnFilter,
};
use heron::turn::{Finding, Severity, TurnStatus};
use made::{MILLI, PROCESS, START};

fn page(limit: usize) -> Page {
    Page { limit, before: None }
}

fn call_item(number: u64) -> Item {
    Item::Call(Arc::new(made::call(number)))
}

/// Writes calls `0..count` of one conversation, each with its place.
fn written(location: Location, count: u64) -> (Arc<Reader>, heron::store::Writer) {
    let store = Store::open(location).unwrap();
    let reader = store.reader();
    let mut writer = store.into_writer().unwrap();
    writer.push(Item::Process(made::exec())).unwrap();
    for number in 0..count {
        writer.push(call_item(number)).unwrap();
        writer.push(Item::Placement(made::placement(number, 1))).unwrap();
    }
    writer.flush().unwrap();
    (reader, writer)
}

#[test]
fn a_call_comes_back_as_it_was() {
    let (reader, _writer) = written(Location::Memory, 3);
    let call = made::call(2);
    let found = reader.calls(&CallFilter::default(), &page(1)).unwrap().remove(0);
    let process = heron::store::ProcessBrief {
        pid: 4242,
        exe: "/usr/bin/claude".into(),
        comm: "claude".into(),
        cmdline: vec!["claude".into(), "-p".into(), "hello".into()],
    };
    assert_eq!(found, CallSummary::of(&call, Some(&made::placement(2, 1)), Some(process)));
    let detail = reader.call(&call.id.to_string()).unwrap().unwrap().to_json();
    assert_eq!(detail["messages"].as_array().unwrap().len(), call.messages.len());
    for (stored, message) in detail["messages"].as_array().unwrap().iter().zip(&call.messages) {
        assert_eq!(stored["content"][0]["text"], message.text());
        assert_eq!(stored["hash"], message.hash.to_string());
    }
    assert_eq!(detail["output"][0]["content"][1]["arguments"]["command"], "ls -l");
    assert_eq!(detail["tools"][0]["name"], "Bash");
    assert_eq!(detail["parameters"]["max_tokens"], 1024);
    assert_eq!(detail["timing"]["token_gaps_ms"]["p50"], 2.0);
    assert_eq!(detail["finish"], "tool_calls");
    let attributes = &detail["attributes"];
    assert_eq!(attributes["gen_ai.provider.name"], call.provider);
    assert_eq!(attributes["gen_ai.request.model"], call.request_model.clone().unwrap());
    assert_eq!(attributes["gen_ai.conversation.id"], made::session_id(1).to_string());
    assert_eq!(attributes["gen_ai.request.max_tokens"], 1024);
    assert_eq!(attributes["gen_ai.usage.input_tokens"], call.usage.input_total.unwrap());
}

#[test]
fn bodies_come_back_byte_for_byte_and_a_resent_history_is_cheap() {
    let (reader, writer) = written(Location::Memory, 100);
    for number in 0..100 {
        let (call, id) = (made::call(number), made::call_id(number).to_string());
        assert_eq!(reader.body(&id, true).unwrap().unwrap(), call.request.body, "request {number}");
        assert_eq!(reader.body(&id, false).unwrap().unwrap(), call.response.body, "response {number}");
    }
    let counters = writer.status().counters();
    assert_eq!(counters["calls"], 100);
    // The system prompt, 100 prompts and 99 answers, each once.
    assert_eq!(counters["messages"], 200);
    assert!(
        counters["packed_bytes"] * 20 < counters["body_bytes"],
        "{} of {}",
        counters["packed_bytes"],
        counters["body_bytes"]
    );
}

#[test]
fn no_credential_is_stored() {
    let (reader, _writer) = written(Location::Memory, 1);
    let detail = reader.call(&made::call_id(0).to_string()).unwrap().unwrap().to_json().to_string();
    for secret in ["sk-in-the-query", "sk-in-a-header", "sk-as-bearer", "sk-in-a-cookie"] {
        assert!(!detail.contains(secret), "{secret}");
    }
    assert!(detail.contains("beta=true"));
}

#[test]
fn pages_go_through_all_calls_once_and_filters_hold() {
    let (reader, mut writer) = written(Location::Memory, 25);
    let mut failed = made::call(100);
    failed.status = Some(529);
    failed.error = Some(heron::wire::CallError { kind: "overloaded_error".into(), message: "busy".into() });
    failed.process = None;
    writer.push(Item::Call(Arc::new(failed))).unwrap();
    writer.flush().unwrap();
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let calls = reader.calls(&CallFilter::default(), &Page { limit: 7, before: before.clone() }).unwrap();
        let Some(last) = calls.last() else { break };
        before = Some((reader.call_start(&last.id).unwrap().unwrap(), last.id.clone()));
        seen.extend(calls.into_iter().map(|call| call.id));
    }
    let expected: Vec<String> =
        std::iter::once(100).chain((0..25).rev()).map(|number| made::call_id(number).to_string()).collect();
    assert_eq!(seen, expected);
    let count = |filter: CallFilter| reader.calls(&filter, &page(100)).unwrap().len();
    assert_eq!(count(CallFilter { error: Some(true), ..Default::default() }), 1);
    assert_eq!(count(CallFilter { error: Some(false), ..Default::default() }), 25);
    assert_eq!(count(CallFilter { status: Some(529), ..Default::default() }), 1);
    assert_eq!(count(CallFilter { pid: Some(4242), ..Default::default() }), 25);
    assert_eq!(count(CallFilter { turn: Some(made::turn_id(1).to_string()), ..Default::default() }), 25);
    assert_eq!(count(CallFilter { auxiliary: Some(true), ..Default::default() }), 0);
    assert_eq!(count(CallFilter { model: Some("claude-opus-4-5".into()), ..Default::default() }), 26);
    assert_eq!(count(CallFilter { model: Some("gpt-5".into()), ..Default::default() }), 0);
    assert_eq!(count(CallFilter { wire_api: Some("anthropic.messages".into()), ..Default::default() }), 26);
    assert_eq!(count(CallFilter { text: Some("Prompt 17:".into()), ..Default::default() }), 1);
    assert_eq!(count(CallFilter { text: Some("' OR 1=1 --".into()), ..Default::default() }), 0);
    assert_eq!(count(CallFilter { text: Some("BIN/CLAUDE".into()), ..Default::default() }), 25);
}

#[test]
fn a_place_that_comes_late_moves_the_row() {
    let store = Store::open(Location::Memory).unwrap();
    let reader = store.reader();
    let mut writer = store.into_writer().unwrap();
    writer.push(call_item(0)).unwrap();
    writer.flush().unwrap();
    assert_eq!(reader.calls(&CallFilter::default(), &page(5)).unwrap()[0].turn_id, None);
    writer.push(Item::Placement(made::placement(0, 9))).unwrap();
    writer.flush().unwrap();
    let calls = reader.calls(&CallFilter::default(), &page(5)).unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].turn_id, Some(made::turn_id(9).to_string()));
}

#[test]
fn a_turn_is_updated_in_place_and_has_its_steps_calls_and_findings() {
    let (reader, mut writer) = written(Location::Memory, 4);
    for (calls, status) in [(1, TurnStatus::InProgress), (2, TurnStatus::InProgress), (4, TurnStatus::Complete)] {
        writer.push(Item::Turn(Arc::new(made::turn(1, 0..calls, status)))).unwrap();
        writer.flush().unwrap();
        let turns = reader.turns(&TurnFilter::default(), &page(5)).unwrap();
        assert_eq!(turns.len(), 1);
        assert_eq!(turns[0].status, status.as_str());
        assert_eq!(turns[0].call_ids.len() as u64, calls);
    }
    let finding = Finding {
        kind: "loop".into(),
        severity: Severity::Warning,
        sentence: "The same call three times.".into(),
        turn_id: Some(made::turn_id(1)),
        session_id: Some(made::session_id(1)),
        call_ids: vec![made::call_id(1)],
        at: Nanos(START),
    };
    writer.push(Item::Finding(Arc::new(finding))).unwrap();
    writer.push(Item::Turn(Arc::new(made::turn(2, 4..5, TurnStatus::Complete)))).unwrap();
    writer.flush().unwrap();
    let turn = reader.turn(&made::turn_id(1).to_string()).unwrap().unwrap();
    assert_eq!((turn.steps.len(), turn.calls.len(), turn.findings.len()), (4, 4, 1));
    assert_eq!(turn.steps[0]["call_id"], made::call_id(0).to_string());
    assert_eq!(turn.turn.answer, "the answer of turn 1");
    assert_eq!(turn.turn.process.unwrap().comm, "claude");
    assert_eq!(reader.findings(10).unwrap()[0].severity, "warning");
    let sessions = reader.sessions(None, 10).unwrap();
    assert_eq!(sessions.len(), 1);
    assert_eq!((sessions[0].turns, sessions[0].calls, sessions[0].usage.input_total), (2, 5, Some(14)));
    assert_eq!(sessions[0].models, ["claude-opus-4-5-20251101"]);
    assert_eq!(sessions[0].prompt, "the prompt of turn 1");
    assert!(reader.turn("nonsense").unwrap().is_none());
}

#[test]
fn a_final_turn_that_is_told_again_stays_one_row() {
    let (reader, mut writer) = written(Location::Memory, 2);
    for _ in 0..3 {
        writer.push(Item::Turn(Arc::new(made::turn(1, 0..2, TurnStatus::Complete)))).unwrap();
        writer.flush().unwrap();
    }
    assert_eq!(reader.turns(&TurnFilter::default(), &page(5)).unwrap().len(), 1);
}

#[test]
fn processes_have_their_calls_their_agent_and_their_end() {
    let (reader, mut writer) = written(Location::Memory, 3);
    writer.push(Item::Turn(Arc::new(made::turn(1, 0..3, TurnStatus::Complete)))).unwrap();
    let exit = ProcessChange::Exit { status: 256 };
    writer.push(Item::Process(ProcessEvent { process: PROCESS, at: Nanos(START + MILLI), change: exit })).unwrap();
    writer.flush().unwrap();
    let processes = reader.processes(10).unwrap();
    assert_eq!(processes.len(), 1);
    assert_eq!((processes[0].pid, processes[0].calls, processes[0].exit_status), (4242, 3, Some(256)));
    assert_eq!(processes[0].agent.as_deref(), Some("claude-code"));
    assert_eq!(processes[0].cmdline, ["claude", "-p", "hello"]);
}

#[test]
fn metrics_add_up() {
    let (reader, _writer) = written(Location::Memory, 10);
    let metrics = reader.metrics(START, START + 3_600_000 * MILLI).unwrap();
    assert_eq!(metrics["calls"], 10);
    assert_eq!(metrics["ttft_ms"]["p50"], 250.0);
    assert_eq!(metrics["usage"]["output_total"], 200);
    assert_eq!(metrics["models"][0]["name"], "claude-opus-4-5-20251101");
    let series = metrics["series"].as_array().unwrap();
    assert_eq!(series.iter().map(|row| row["calls"].as_u64().unwrap()).sum::<u64>(), 10);
}

#[test]
fn a_database_is_private_and_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/heron/heron.duckdb");
    let (_, writer) = written(Location::File(path.clone()), 5);
    writer.close().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let store = Store::open(Location::File(path.clone())).unwrap();
    let reader = store.reader();
    let mut writer = store.into_writer().unwrap();
    for number in 5..8 {
        writer.push(call_item(number)).unwrap();
    }
    writer.flush().unwrap();
    assert_eq!(mode(&path), 0o600);
    // Only the messages that the first run did not store.
    assert_eq!(writer.status().counters()["messages"], 6);
    for number in 0..8 {
        let found = reader.body(&made::call_id(number).to_string(), true).unwrap().unwrap();
        assert_eq!(found, made::call(number).request.body);
        let detail = reader.call(&made::call_id(number).to_string()).unwrap().unwrap().to_json();
        assert_eq!(detail["messages"].as_array().unwrap().len() as u64, 2 + 2 * number);
    }
}

#[test]
fn what_is_old_goes_and_what_is_kept_stays_whole() {
    let (reader, mut writer) = written(Location::Memory, 100);
    let keep = Keep { max_age: Some(Nanos(200_000 * MILLI)), max_bytes: None };
    let now = Nanos(START + 990_000 * MILLI);
    let pruned = writer.prune(&keep, now).unwrap();
    assert_eq!(pruned.calls, 79);
    assert_eq!(reader.calls(&CallFilter::default(), &page(1_000)).unwrap().len(), 21);
    for number in 79..100 {
        let id = made::call_id(number).to_string();
        assert_eq!(reader.body(&id, true).unwrap().unwrap(), made::call(number).request.body);
        let messages = reader.call(&id).unwrap().unwrap().to_json()["messages"].as_array().unwrap().len() as u64;
        assert_eq!(messages, 2 + 2 * number);
    }
    // The writer goes on.
    writer.push(call_item(100)).unwrap();
    writer.flush().unwrap();
    assert_eq!(reader.body(&made::call_id(100).to_string(), true).unwrap().unwrap(), made::call(100).request.body);
    assert_eq!(writer.prune(&keep, now).unwrap().calls, 0);
}

#[test]
fn a_file_that_is_not_a_database_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "this is not a database".repeat(2_000)).unwrap();
    let error = Store::open(Location::File(path.clone())).err().unwrap();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("this is not"));
    let error = Store::open(Location::File(folder.path().to_owned())).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

/// Runs this test binary again as `test NAME` with `path` in its environment, for what needs a process of its own.
fn child(name: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]).env("HERON_TEST_DATABASE", path);
    command
}

fn database_of_child() -> Option<PathBuf> {
    std::env::var_os("HERON_TEST_DATABASE").map(PathBuf::from)
}

#[test]
fn a_database_in_use_is_refused_with_the_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heron.duckdb");
    let (_reader, _writer) = written(Location::File(path.clone()), 1);
    let output = child("child_opens", &path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("in use by another heron (pid {})", std::process::id())), "{text}");
}

#[test]
#[ignore = "the child of another test"]
fn child_opens() {
    let Some(path) = database_of_child() else { return };
    match Store::open(Location::File(path)) {
        Ok(_) => println!("opened"),
        Err(error) => println!("{error}"),
    }
}

#[test]
#[ignore = "the child of another test"]
fn child_checks() {
    let Some(path) = database_of_child() else { return };
    assert_eq!(format!("{:?}", heron::store::check_database(&path)), format!("{:?}", std::process::ExitCode::SUCCESS));
}

#[test]
#[ignore = "the child of another test"]
fn child_writes_and_dies() {
    let Some(path) = database_of_child() else { return };
    let (_reader, mut writer) = written(Location::File(path), 3);
    for number in 3..6 {
        writer.push(call_item(number)).unwrap();
    }
    writer.flush().unwrap();
    // No close: the log stays.
    std::process::abort();
}

/// A program that stands for `heron __check-db PATH`.
fn checker(folder: &Path) -> PathBuf {
    let path = folder.join("checker");
    let me = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nHERON_TEST_DATABASE=\"$2\" exec '{}' --exact child_checks --ignored --nocapture\n",
        me.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_crash_loses_nothing_that_was_flushed_and_a_damaged_log_cannot_end_heron() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heron.duckdb");
    let log = folder.path().join("heron.duckdb.wal");
    assert!(!child("child_writes_and_dies", &path).output().unwrap().status.success());
    assert!(log.exists(), "the child left a log");
    let whole = std::fs::read(&log).unwrap();
    let options = Options { checker: Some(checker(folder.path())), ..Options::new(Location::File(path.clone())) };
    // Damage at several places; the database of before the crash must open each time.
    let before = std::fs::read(&path).unwrap();
    let mut moved_aside = 0;
    for at in [0, 9, whole.len() / 3, whole.len() / 2, whole.len() - 9] {
        std::fs::write(&path, &before).unwrap();
        let mut damaged = whole.clone();
        damaged[at..].iter_mut().take(64).for_each(|byte| *byte ^= 0x5a);
        std::fs::write(&log, damaged).unwrap();
        let store = Store::open_with(&options).unwrap_or_else(|error| panic!("damage at {at}: {error}"));
        store.reader().calls(&CallFilter::default(), &page(10)).unwrap();
        moved_aside += u32::from(store.recovered().is_some());
    }
    assert!(moved_aside > 0, "the damage was none");
    std::fs::write(&path, &before).unwrap();
    std::fs::write(&log, &whole).unwrap();
    let store = Store::open_with(&options).unwrap();
    assert_eq!(store.recovered(), None);
    assert_eq!(store.reader().calls(&CallFilter::default(), &page(10)).unwrap().len(), 6);
}

/// A small file system of its own, where this process may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_is_told_once_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED a_full_disk_is_told_once_and_loses_nothing: mounting needs root");
        return;
    };
    let path = disk.0.path().join("heron.duckdb");
    let (reader, mut writer) = written(Location::File(path), 2);
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![7; 70 << 20]).unwrap();
    writer.push(call_item(2)).unwrap();
    let told = writer.flush().unwrap_err().to_string();
    assert!(told.contains("is full") && told.contains("--db"), "{told}");
    for number in 3..40 {
        writer.push(call_item(number)).unwrap();
        writer.flush().unwrap();
    }
    assert_eq!(writer.status().counters()["held_calls"], 38);
    assert!(writer.status().trouble().is_some());
    assert_eq!(reader.calls(&CallFilter::default(), &page(100)).unwrap().len(), 2);
    std::fs::remove_file(&ballast).unwrap();
    writer.flush().unwrap();
    assert_eq!(writer.status().trouble(), None);
    assert_eq!(reader.calls(&CallFilter::default(), &page(100)).unwrap().len(), 40);
    for number in 0..40 {
        let found = reader.body(&made::call_id(number).to_string(), true).unwrap().unwrap();
        assert_eq!(found, made::call(number).request.body);
    }
}

#[test]
fn many_threads_read_while_one_writes() {
    let (reader, mut writer) = written(Location::Memory, 1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let reader = Arc::clone(&reader);
            scope.spawn(move || {
                for _ in 0..30 {
                    let calls = reader.calls(&CallFilter::default(), &page(100)).unwrap();
                    let newest = reader.body(&calls[0].id, true).unwrap().unwrap();
                    assert!(newest.starts_with(b"{\"model\""));
                }
            });
        }
        for number in 1..60 {
            writer.push(call_item(number)).unwrap();
            writer.flush().unwrap();
        }
    });
    assert_eq!(reader.calls(&CallFilter::default(), &page(100)).unwrap().len(), 60);
}
