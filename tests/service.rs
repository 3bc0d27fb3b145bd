//! The service: its files below a root directory, its unit, and what it tells systemd while it runs.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use heron::proc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const HERON: &str = env!("CARGO_BIN_EXE_heron");

fn service(root: &Path, args: &[&str]) -> Output {
    Command::new(HERON).arg("service").args(args).arg("--root").arg(root).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A root that has the program where a package puts it.
fn packaged_root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("usr/bin");
    fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(HERON, bin.join("heron")).unwrap();
    root
}

const UNIT: &str = "etc/systemd/system/heron.service";
const WANTS: &str = "etc/systemd/system/multi-user.target.wants/heron.service";
const CONFIG: &str = "etc/heron/heron.toml";
const STATE: &str = "var/lib/heron";

#[test]
fn installing_twice_is_installing_once_and_removing_keeps_what_was_stored() {
    let root = packaged_root();
    let at = |path: &str| root.path().join(path);
    assert_eq!(service(root.path(), &["status"]).status.code(), Some(4));
    let first = said(&service(root.path(), &["install"]));
    assert!(first.contains(&format!("wrote {}", at(UNIT).display())), "{first}");
    assert!(fs::read_to_string(at(UNIT)).unwrap().contains("ExecStart=/usr/bin/heron serve\n"));
    assert_eq!(fs::read_link(at(WANTS)).unwrap(), Path::new("/").join(UNIT));
    assert_eq!(fs::metadata(at(STATE)).unwrap().mode() & 0o777, 0o700);
    fs::write(at(CONFIG), "[console]\nport = 3111\n").unwrap();
    fs::write(at("var/lib/heron/heron.duckdb"), "data").unwrap();
    let before = fs::metadata(at(UNIT)).unwrap().modified().unwrap();
    let second = said(&service(root.path(), &["install"]));
    assert!(second.contains("unchanged:") && second.contains("kept "), "{second}");
    assert_eq!(fs::metadata(at(UNIT)).unwrap().modified().unwrap(), before);
    assert_eq!(fs::read_to_string(at(CONFIG)).unwrap(), "[console]\nport = 3111\n");

    let status = service(root.path(), &["status", "--json"]);
    assert_eq!(status.status.code(), Some(3), "nothing runs below another root");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["installed"], &status["enabled"]), (&true.into(), &true.into()));
    assert_eq!(status["database_bytes"], 4);

    let removed = said(&service(root.path(), &["uninstall"]));
    assert!(removed.contains("--purge"), "{removed}");
    assert!(!at(UNIT).exists() && !at(WANTS).is_symlink());
    assert_eq!(fs::read_to_string(at("var/lib/heron/heron.duckdb")).unwrap(), "data");
    assert!(at(CONFIG).exists());
    assert!(said(&service(root.path(), &["uninstall"])).contains("was not installed"));
    said(&service(root.path(), &["uninstall", "--purge"]));
    assert!(!at(CONFIG).exists() && !at(STATE).exists() && !at("etc/heron").exists());
    assert!(at("usr/bin/heron").is_symlink(), "the package's program is not the service's to remove");
}

#[test]
fn a_program_that_no_package_brought_is_copied_with_its_library_and_runs_from_there() {
    let root = tempfile::tempdir().unwrap();
    said(&service(root.path(), &["install"]));
    let own = root.path().join("usr/local/lib/heron");
    let unit = fs::read_to_string(root.path().join(UNIT)).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/lib/heron/heron serve\n"), "{unit}");
    // Without the directories of the build: the library beside it is what it finds.
    let version = Command::new(own.join("heron")).arg("--version").env_clear().output().unwrap();
    assert!(version.status.success(), "{version:?}");
    said(&service(root.path(), &["uninstall", "--purge"]));
    assert!(!own.exists());
}

#[test]
fn a_configuration_that_cannot_be_used_is_said_before_anything_is_written() {
    let root = packaged_root();
    fs::create_dir_all(root.path().join("etc/heron")).unwrap();
    fs::write(root.path().join(CONFIG), "[store]\nkeep_day = 3\n").unwrap();
    let output = service(root.path(), &["install"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("did you mean `keep_days`?"), "{error}");
    assert!(!root.path().join(UNIT).exists());
}

#[test]
fn systemd_finds_no_fault_in_the_unit() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED systemd_finds_no_fault_in_the_unit: there is no systemd-analyze here");
        return;
    }
    let root = packaged_root();
    said(&service(root.path(), &["install"]));
    // The real program in place of the packaged path, which does not exist on a build machine.
    let unit = root.path().join("heron.service");
    let text = fs::read_to_string(root.path().join(UNIT)).unwrap();
    fs::write(&unit, text.replace("/usr/bin/heron", HERON)).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&unit).output().unwrap();
    let complaints = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !complaints.contains("heron.service"), "{complaints}");
}

/// `heron serve` in a pid and network namespace of its own, with a notify socket.
struct Served {
    child: Child,
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Served {
    fn start(config: &str) -> Served {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("heron.toml"), config).unwrap();
        let socket = UnixDatagram::bind(path("notify")).unwrap();
        // A wait for a message that never comes ends the test; no message is expected at a certain time.
        socket.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let child = Command::new("unshare")
            .args(["--pid", "--mount", "--net", "--mount-proc", "--fork", "--kill-child", "sh", "-c"])
            .arg(format!(
                "ip link set lo up && exec '{HERON}' serve --config '{}' --db '{}'",
                path("heron.toml").display(),
                path("heron.duckdb").display()
            ))
            .env("NOTIFY_SOCKET", path("notify"))
            .env("WATCHDOG_USEC", "400000")
            .env_remove("WATCHDOG_PID")
            .stderr(fs::File::create(path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Served { child, socket, folder }
    }

    fn message(&self) -> String {
        let mut buffer = [0; 512];
        let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: {}", self.stderr()));
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn until(&self, wanted: &str) -> Vec<String> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.message());
            if messages.last().unwrap().lines().any(|line| line == wanted) {
                return messages;
            }
        }
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// heron's pid as seen from here: the last of the chain below `unshare`.
    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(*proc::tree(self.child.id()).last().unwrap()).unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether host mode can run in namespaces of its own; says loudly when not.
fn can_serve(test: &str) -> bool {
    let obstacle = heron::capture::ebpf::facts::Facts::gather().obstacle().or_else(|| {
        let mut tried = Command::new("unshare");
        tried.args(["--pid", "--mount", "--net", "--mount-proc", "--fork", "ip", "link"]);
        let works = tried.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        (!works).then(|| "no namespaces can be made here".to_owned())
    });
    if let Some(why) = &obstacle {
        eprintln!("SKIPPED {test}: {why}");
    }
    obstacle.is_none()
}

#[test]
fn systemd_is_told_that_the_service_is_ready_lives_and_ends() {
    if !can_serve("systemd_is_told") {
        return;
    }
    let mut served = Served::start("[console]\nport = 3999\n");
    let first = served.until("READY=1");
    assert!(first.iter().all(|message| !message.contains("WATCHDOG=1")), "{first:?}");
    for _ in 0..3 {
        served.until("WATCHDOG=1");
    }
    kill(served.pid(), Signal::SIGTERM).unwrap();
    served.until("STOPPING=1");
    let status = served.child.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{}", served.stderr());
    let database = served.folder.path().join("heron.duckdb");
    assert_eq!(fs::metadata(database).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_service_that_cannot_begin_is_never_ready() {
    if !can_serve("a_service_that_cannot_begin") {
        return;
    }
    let mut served = Served::start("[consol]\nport = 3999\n");
    let status = served.child.wait().unwrap();
    assert_eq!(status.code(), Some(1), "systemd tries again, and shows why: {}", served.stderr());
    assert!(served.stderr().contains("did you mean `console`?"), "{}", served.stderr());
    served.socket.set_nonblocking(true).unwrap();
    assert!(served.socket.recv(&mut [0; 64]).is_err());
}

#[test]
fn every_key_is_documented() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let packaged = fs::read_to_string(root.join("packaging/heron.toml")).unwrap();
    let documented = fs::read_to_string(root.join("docs/operate.md")).unwrap();
    let keys = packaged.lines().filter_map(|line| line.trim_start_matches("# ").split_once(" = ")).map(|(key, _)| key);
    let mut count = 0;
    for key in keys.filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_')) {
        assert!(documented.contains(&format!("`{key}`")), "docs/operate.md does not explain `{key}`");
        count += 1;
    }
    assert_eq!(count, 21);
}
