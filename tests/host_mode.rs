//! Host mode, in namespaces of its own: agents that run already and agents that are started are found, and what they call
//! equals the server's record.
#![allow(clippy::unwrap_used)]

mod lab;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lab::{Namespaces, Server, agent, cache, compare, python};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Agents of these tests are known by an argument.
const RULE: &str = "[console]\nenabled = false\n[[watch]]\nname = \"mine\"\narg = \"anthropic_agent.py\"\n";

/// `heron serve` in the namespaces; ready when it is there.
struct Served {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    dir: tempfile::TempDir,
}

impl Served {
    fn start(namespaces: &Namespaces, config: &str) -> Served {
        let dir = tempfile::tempdir().unwrap();
        let config_file = dir.path().join("heron.toml");
        fs::write(&config_file, config).unwrap();
        let mut child = namespaces
            .command(Path::new(env!("CARGO_BIN_EXE_heron")))
            .arg("serve")
            .arg("--config")
            .arg(&config_file)
            .arg("--db")
            .arg(dir.path().join("heron.duckdb"))
            .arg("--json")
            .arg(dir.path().join("out.jsonl"))
            .env_remove("HERON_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut served = Served { child, stderr, dir };
        let mut said = String::new();
        while !said.contains("watching this host") {
            let mut line = String::new();
            assert!(served.stderr.read_line(&mut line).unwrap() > 0, "heron serve ended: {said}");
            said.push_str(&line);
        }
        served
    }

    fn lines(&self) -> PathBuf {
        self.dir.path().join("out.jsonl")
    }

    /// Asks heron to end; what it said.
    fn end(&mut self) -> String {
        // nsenter waits for heron, its only child.
        let heron = *heron::proc::tree(self.child.id()).get(1).unwrap();
        kill(Pid::from_raw(heron.cast_signed()), Signal::SIGTERM).unwrap();
        let mut said = String::new();
        while self.stderr.read_line(&mut said).unwrap() > 0 {}
        assert!(self.child.wait().unwrap().success(), "{said}");
        said
    }
}

/// An agent in the namespaces, to be started.
fn calls(namespaces: &Namespaces, server: &Server, program: &Path, more: &[&str]) -> Command {
    let mut command = namespaces.command(program);
    command
        .arg(agent("anthropic_agent.py"))
        .args(["--base-url", &server.url()])
        .args(more)
        .env("SSL_CERT_FILE", server.dir.path().join("ca.pem"))
        .env("HERON_TEST_CACHE", cache())
        .stdout(Stdio::null());
    command
}

fn succeeds(mut command: Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?} ended with {status}");
}

#[test]
fn an_agent_that_is_started_is_found_and_others_are_not() {
    let Some(namespaces) = Namespaces::make("an_agent_that_is_started") else { return };
    let server = Server::start_in(&namespaces, &[]);
    let mut served = Served::start(&namespaces, RULE);
    succeeds(calls(&namespaces, &server, &python(), &["--calls", "6", "--mixed"]));
    let said = served.end();
    compare(&server, &served.lines(), None, &[]);
    assert!(said.contains("6 calls") && said.contains("nothing lost"), "{said}");

    // The same calls by a process of which no rule says that it is an agent.
    let before = fs::read_to_string(served.lines()).unwrap();
    let mut blind = Served::start(&namespaces, &RULE.replace("anthropic_agent.py", "no such argument"));
    succeeds(calls(&namespaces, &server, &python(), &["--calls", "2"]));
    assert!(blind.end().contains("0 calls"));
    assert_eq!(fs::read_to_string(blind.lines()).unwrap(), "");
    assert!(!before.is_empty());
}

#[test]
fn an_agent_that_runs_already_is_found_and_seen_from_its_next_call_on() {
    let Some(namespaces) = Namespaces::make("an_agent_that_runs_already") else { return };
    let server = Server::start_in(&namespaces, &[]);
    // A shell of which an argument says that it is an agent; what it starts is watched with it.
    let mut waiting = namespaces
        .command(Path::new("/bin/sh"))
        .arg("-c")
        .arg(format!(
            "read go && exec '{}' '{}' --base-url {} --calls 4",
            python().display(),
            agent("anthropic_agent.py").display(),
            server.url()
        ))
        .env("SSL_CERT_FILE", server.dir.path().join("ca.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut served = Served::start(&namespaces, RULE);
    waiting.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(waiting.wait().unwrap().success());
    let said = served.end();
    compare(&server, &served.lines(), None, &[]);
    assert!(said.contains("4 calls") && said.contains("nothing lost"), "{said}");
}

#[test]
fn an_agent_that_replaces_its_own_program_is_found_again() {
    let Some(namespaces) = Namespaces::make("an_agent_that_replaces_its_own_program") else { return };
    let server = Server::start_in(&namespaces, &[]);
    // A private interpreter: an executable of its own beside the environment's libraries.
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("bin/python3");
    fs::create_dir_all(home.path().join("bin")).unwrap();
    let real = fs::canonicalize(python()).unwrap();
    fs::copy(&real, &program).unwrap();
    fs::copy(cache().join("venv/pyvenv.cfg"), home.path().join("pyvenv.cfg")).unwrap();
    std::os::unix::fs::symlink(cache().join("venv/lib"), home.path().join("lib")).unwrap();

    let rule = format!("[console]\nenabled = false\n[[watch]]\nname = \"mine\"\nexe = \"{}\"\n", program.display());
    let mut served = Served::start(&namespaces, &rule);
    succeeds(calls(&namespaces, &server, &program, &["--calls", "2"]));
    // The update: a new file takes the name; a process of the old one goes on without a name.
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = inode(&program);
    fs::copy(&real, home.path().join("bin/new")).unwrap();
    fs::rename(home.path().join("bin/new"), &program).unwrap();
    assert_ne!(inode(&program), before);
    succeeds(calls(&namespaces, &server, &program, &["--calls", "3"]));
    let said = served.end();
    compare(&server, &served.lines(), None, &[]);
    assert!(said.contains("5 calls") && said.contains("nothing lost"), "{said}");
}

/// Runs its arguments in a root of their own, as container runtimes make one: an overlay whose files are others than the
/// machine's (the libraries that are hooked are written anew in it), with a pid namespace inside this one.
const CONTAINER: &str = r#"
set -e
space=$1; shift
mount -t tmpfs none "$space"
mkdir "$space/upper" "$space/work" "$space/root"
mount -t overlay -o "lowerdir=/,upperdir=$space/upper,workdir=$space/work" overlay "$space/root" || exit 77
for library in $(ldconfig -p | sed -n 's/.*=> \(.*lib\(ssl\|crypto\)\.so\.3\)$/\1/p'); do
    cp "$library" "$space/copy"
    mv "$space/copy" "$space/root$(realpath "$library")"
done
mount --bind /dev "$space/root/dev"
exec unshare --mount --pid --fork --kill-child sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$space/root" "$@"
"#;

#[test]
fn an_agent_in_a_container_is_found_and_hooked_in_its_own_root() {
    let Some(namespaces) = Namespaces::make("an_agent_in_a_container") else { return };
    let server = Server::start_in(&namespaces, &[]);
    let mut served = Served::start(&namespaces, RULE);
    let space = tempfile::tempdir().unwrap();
    let mut container = namespaces.command(Path::new("/bin/sh"));
    container.args(["-c", CONTAINER, "container"]).arg(space.path()).arg(python()).arg(agent("anthropic_agent.py"));
    container.args(["--base-url", &server.url(), "--calls", "4"]).stdout(Stdio::null());
    container.env("SSL_CERT_FILE", server.dir.path().join("ca.pem")).env("HERON_TEST_CACHE", cache());
    let status = container.status().unwrap();
    if status.code() == Some(77) {
        eprintln!("SKIPPED an_agent_in_a_container: no overlay can be mounted on this machine's root");
        return;
    }
    assert!(status.success(), "{status}");
    let said = served.end();
    compare(&server, &served.lines(), None, &[]);
    assert!(said.contains("4 calls") && said.contains("nothing lost"), "{said}");
}
