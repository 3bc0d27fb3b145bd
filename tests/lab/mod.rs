//! The lab of the end-to-end tests: the scripted model server, the SDKs' agents, and heron's binary around them.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Once;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Whether the kernel can be traced here; says loudly when not.
pub fn can_trace(test: &str) -> bool {
    let obstacle = heron::capture::ebpf::facts::Facts::gather().obstacle();
    if let Some(why) = &obstacle {
        eprintln!("SKIPPED {test}: {why}");
    }
    obstacle.is_none()
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the SDKs are; installs what is missing.
pub fn cache() -> PathBuf {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let installed = Command::new(root().join("testdata/install-sdks.sh")).status();
        assert!(installed.is_ok_and(|status| status.success()), "testdata/install-sdks.sh failed");
    });
    std::env::var_os("HERON_TEST_CACHE").map_or_else(|| root().join("target/test-cache"), PathBuf::from)
}

pub fn python() -> PathBuf {
    cache().join("venv/bin/python")
}

/// The path of an agent.
pub fn agent(name: &str) -> PathBuf {
    root().join("testdata/agents").join(name)
}

/// A running model server; ends with the value.
pub struct Server {
    child: Child,
    pub dir: tempfile::TempDir,
    pub tls_port: u64,
    pub http_port: u64,
}

impl Server {
    pub fn start(args: &[&str]) -> Server {
        Server::begin(Command::new(python()), args)
    }

    /// As [`Server::start`], in namespaces of its own: reachable from there only.
    pub fn start_in(namespaces: &Namespaces, args: &[&str]) -> Server {
        Server::begin(namespaces.command(&python()), args)
    }

    fn begin(mut interpreter: Command, args: &[&str]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let mut child = interpreter
            .arg(root().join("testdata/server/model_server.py"))
            .arg("--dir")
            .arg(dir.path())
            .arg("--record")
            .arg(dir.path().join("record.jsonl"))
            .arg("--die-with-parent")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).expect("the model server starts");
        let port = |name: &str| ready[name].as_u64().unwrap();
        Server { tls_port: port("tls_port"), http_port: port("http_port"), child, dir }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.tls_port)
    }

    pub fn record(&self) -> PathBuf {
        self.dir.path().join("record.jsonl")
    }

    /// A plain HTTP request to the server's own controls (`/__wait`, `/__continue`).
    pub fn control(&self, path: &str) {
        get(&format!("127.0.0.1:{}", self.http_port), path).expect("the server's controls answer");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pid, mount and network namespace with a loopback device only; everything in it ends with the value.
pub struct Namespaces {
    child: Child,
    init: u32,
}

impl Namespaces {
    /// Makes them; `None`, said loudly, where that cannot be done or the kernel cannot be traced.
    pub fn make(test: &str) -> Option<Namespaces> {
        if !can_trace(test) {
            return None;
        }
        let mut child = Command::new("unshare")
            .args(["--pid", "--mount", "--net", "--mount-proc", "--fork", "--kill-child", "sh", "-c"])
            .arg("ip link set lo up && echo up && exec sleep infinity")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "up\n" {
            eprintln!("SKIPPED {test}: no namespaces can be made here");
            let _ = child.wait();
            return None;
        }
        let init = *heron::proc::tree(child.id()).get(1).unwrap();
        Some(Namespaces { child, init })
    }

    /// A command that will run in them.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--pid", "--mount", "--net", "--target", &self.init.to_string(), "--"]).arg(program);
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A bare HTTP/1.0 GET; the body.
pub fn get(address: &str, path: &str) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    assert!(
        answer.starts_with(b"HTTP/1.") && answer.get(9..12) == Some(b"200"),
        "{path}: {}",
        String::from_utf8_lossy(&answer)
    );
    Ok(answer.split_off(head))
}

/// A run of `heron exec`.
pub struct Exec {
    pub child: Child,
    stderr: BufReader<ChildStderr>,
    pub said: String,
    home: tempfile::TempDir,
}

impl Exec {
    /// Starts `heron exec OPTIONS --json .. -- COMMAND` with the server's CA in the environment.
    pub fn start(server: &Server, options: &[&str], command: &[&str]) -> Exec {
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_heron"))
            .arg("exec")
            .args(["--port", "0", "--json"])
            .arg(home.path().join("out.jsonl"))
            .args(options)
            .arg("--")
            .args(command)
            .env("HERON_DATA_DIR", home.path())
            .env("HERON_TEST_CACHE", cache())
            .env("SSL_CERT_FILE", server.dir.path().join("ca.pem"))
            .env("NODE_EXTRA_CA_CERTS", server.dir.path().join("ca.pem"))
            .env_remove("HERON_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Exec { child, stderr, said: String::new(), home }
    }

    /// Reads what heron (and the command) says until a line contains `text`; that line.
    pub fn until(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).unwrap();
            assert!(read > 0, "heron ended before it said `{text}`:\n{}", self.said);
            self.said.push_str(&line);
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The console's `address:port`, once said.
    pub fn console(&mut self) -> String {
        let line = self.until("console at http://localhost:");
        let port: String =
            line.split("http://localhost:").nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
        format!("127.0.0.1:{port}")
    }

    pub fn lines(&self) -> PathBuf {
        self.home.path().join("out.jsonl")
    }

    /// Asks heron to end, waits, and gives its exit code and everything it said.
    pub fn interrupt(&mut self) -> (i32, String) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).unwrap();
        self.wait()
    }

    /// Waits for the end: exit code and everything that was said.
    pub fn wait(&mut self) -> (i32, String) {
        let mut line = String::new();
        while self.stderr.read_line(&mut line).unwrap() > 0 {
            self.said.push_str(&line);
            line.clear();
        }
        (self.child.wait().unwrap().code().unwrap_or(-1), self.said.clone())
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Compares JSON lines (and, with `api`, stored bodies) with the server's record; panics with every difference.
pub fn equals_record(server: &Server, lines: &Path, api: Option<&str>) {
    compare(server, lines, api, &[]);
}

/// As [`equals_record`], with more options of the comparison.
pub fn compare(server: &Server, lines: &Path, api: Option<&str>, options: &[&str]) {
    let mut check = Command::new(python());
    check.arg(root().join("testdata/check_record.py")).arg("--record").arg(server.record()).arg("--calls").arg(lines);
    check.arg("--require-process").args(options);
    if let Some(api) = api {
        check.args(["--api", &format!("http://{api}")]);
    }
    let output = check.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("fidelity 100.000%"), "{said}");
}

/// A counter of `/api/health`.
pub fn counter(api: &str, stage: &str, name: &str) -> u64 {
    let health: Value = serde_json::from_slice(&get(api, "/api/health").unwrap()).unwrap();
    health["counters"][stage][name].as_u64().unwrap_or_else(|| panic!("no counter {stage}.{name} in {health}"))
}
