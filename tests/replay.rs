//! `heron replay` as a user runs it: the built binary, real captures, and bad input.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn captures() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("testdata/pcaps/sdk")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap"))
        .collect();
    found.sort();
    assert!(found.len() >= 10, "the SDK captures are missing");
    found
}

fn heron(home: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heron"))
        .args(args)
        .env("HERON_DATA_DIR", home)
        .env_remove("HERON_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn lines(home: &Path, args: &[&str]) -> String {
    let output = heron(home, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn any_number_of_workers_gives_the_same_lines() {
    let home = tempfile::tempdir().unwrap();
    for capture in captures() {
        let one = lines(home.path(), &["replay", text(&capture), "--json", "--workers", "1"]);
        for workers in ["2", "5"] {
            let more = lines(home.path(), &["replay", text(&capture), "--json", "--workers", workers]);
            assert_eq!(one, more, "{} with {workers} workers", capture.display());
        }
    }
}

#[test]
fn a_tape_of_a_replay_gives_the_replay_again() {
    let home = tempfile::tempdir().unwrap();
    for capture in captures() {
        let tape = home.path().join("run.tape");
        let live = lines(home.path(), &["replay", text(&capture), "--json", "--tape", text(&tape)]);
        let first = lines(home.path(), &["replay", text(&tape), "--json"]);
        let second = lines(home.path(), &["replay", text(&tape), "--json", "--workers", "3"]);
        assert_eq!(live, first, "{}", capture.display());
        assert_eq!(first, second, "{}", capture.display());
    }
}

#[test]
fn several_files_are_one_replay() {
    let home = tempfile::tempdir().unwrap();
    let two = captures();
    let both = lines(home.path(), &["replay", text(&two[0]), text(&two[1]), "--json"]);
    let apart: usize = two[..2]
        .iter()
        .map(|f| lines(home.path(), &["replay", text(f), "--json"]).matches("\"type\":\"call\"").count())
        .sum();
    assert_eq!(both.matches("\"type\":\"call\"").count(), apart);
    assert!(apart > 0);
}

#[test]
fn the_service_form_ends_with_its_input_when_told_to_and_stores_nothing_without_retention() {
    let home = tempfile::tempdir().unwrap();
    let capture = &captures()[0];
    let args = ["--pcap-file", text(capture), "--no-retention", "--exit-after-drain", "--no-console"];
    assert!(heron(home.path(), &args).status.success());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_replay_is_stored_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let output = heron(home.path(), &["replay", text(&captures()[0])]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("call") && said.contains("nothing lost"), "{said}");
    let mode = fs::metadata(home.path().join("heron.duckdb")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Exit code and the one sentence.
fn refused(args: &[&str]) -> (i32, String) {
    let home = tempfile::tempdir().unwrap();
    let output = heron(home.path(), args);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_file_that_is_missing_or_no_capture_gets_one_sentence() {
    let (code, said) = refused(&["replay", "/nonexistent/x.pcap"]);
    assert_eq!(code, 1);
    assert!(said.contains("/nonexistent/x.pcap") && said.trim_end().lines().count() == 1, "{said}");
    let (code, said) = refused(&["replay", "Cargo.toml"]);
    assert_eq!(code, 1);
    assert!(said.contains("Cargo.toml") && said.trim_end().lines().count() == 1, "{said}");
}

#[test]
fn a_capture_that_is_cut_gives_what_was_before_the_cut_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let capture = fs::read(&captures()[0]).unwrap();
    let cut = home.path().join("cut.pcap");
    fs::write(&cut, &capture[..capture.len() - 11]).unwrap();
    let output = heron(home.path(), &["replay", text(&cut), "--json"]);
    assert!(output.status.success());
    assert!(!output.stdout.is_empty());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cut.pcap"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_said_before_anything_is_read() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, said) = refused(&["replay", text(&captures()[0]), "--keep", "--port", &port]);
    assert_eq!(code, 1);
    assert!(said.contains(&port) && said.contains("--port") && said.trim_end().lines().count() == 1, "{said}");
}
