//! What the kernel tests share: a traced child, a TLS server, the events that came out.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use heron::capture::ebpf::{Config, EbpfSource, Root};
use heron::capture::{NoCall, Source, Status, StopFlag, Target};
use heron::event::{Direction, Event};

/// Whether kernel tests can run; says loudly when not.
pub fn can_trace(test: &str) -> bool {
    let facts = heron::capture::ebpf::facts::Facts::gather();
    let obstacle = facts.obstacle();
    if let Some(why) = &obstacle {
        eprintln!("SKIPPED {test}: {why}");
    }
    obstacle.is_none()
}

pub fn python() -> PathBuf {
    let out =
        Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("python3 is needed");
    PathBuf::from(String::from_utf8(out.stdout).unwrap().trim())
}

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/bpf").join(name)
}

/// The TLS server; ends with the value.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    pub fn start(args: &[&str]) -> Server {
        Server::run("server.py", args)
    }

    /// Another server, of the same manners.
    pub fn run(program: &str, args: &[&str]) -> Server {
        let mut child = Command::new(python())
            .arg(data(program))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Server { port: line.trim().parse().unwrap(), child }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A child that waits for a line on its standard input before it becomes the program.
pub struct Held {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    pub program: PathBuf,
}

impl Held {
    pub fn new(program: &Path, args: &[String]) -> Held {
        Held::with(program, args, &[])
    }

    pub fn with(program: &Path, args: &[String], environment: &[(&str, &str)]) -> Held {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read -r _; exec \"$@\"", "sh"])
            .arg(program)
            .args(args)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Held { stdin: child.stdin.take(), child, program: program.to_owned() }
    }

    pub fn root(&self) -> Root {
        let program = std::fs::canonicalize(&self.program).unwrap();
        Root { pid: self.child.id(), programs: vec![program] }
    }

    pub fn release(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    pub fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.child.stdout.take().unwrap())
    }

    pub fn finish(mut self) {
        assert!(self.child.wait().unwrap().success(), "the traced program failed");
    }
}

/// A running source.
pub struct Tracer {
    stop: StopFlag,
    thread: JoinHandle<anyhow::Result<()>>,
    events: Arc<Mutex<Vec<Event>>>,
    status: Arc<dyn Status>,
    /// Where the source is told what is no call.
    pub verdicts: Option<SyncSender<NoCall>>,
    pub ready: Receiver<()>,
}

pub struct Outcome {
    pub events: Vec<Event>,
    pub counters: BTreeMap<&'static str, u64>,
    pub targets: Vec<Target>,
}

pub fn rules() -> Vec<String> {
    heron::wire::registry::path_rules().iter().map(|rule| (*rule).to_owned()).collect()
}

impl Tracer {
    pub fn start(mut config: Config) -> Tracer {
        let (tell, ready) = channel();
        config.on_ready = Some(Box::new(move || tell.send(()).unwrap()));
        if config.path_rules.is_empty() {
            config.path_rules = rules();
        }
        let source = Box::new(EbpfSource::new(config));
        let (status, verdicts) = (source.status(), source.verdicts());
        let stop = StopFlag::new();
        let events = Arc::new(Mutex::new(Vec::new()));
        let (flag, sink) = (stop.clone(), Arc::clone(&events));
        let thread = std::thread::spawn(move || {
            let mut out = |batch: Vec<Event>| {
                sink.lock().unwrap().extend(batch);
                ControlFlow::Continue(())
            };
            source.run(&mut out, &flag)
        });
        let tracer = Tracer { stop, thread, events, status, verdicts, ready };
        if tracer.ready.recv().is_err() {
            panic!("the source did not start: {:?}", tracer.thread.join().unwrap());
        }
        tracer
    }

    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.status.counters()
    }

    pub fn targets(&self) -> Vec<Target> {
        self.status.targets()
    }

    /// Waits until what the source says about itself fulfils the condition.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&Tracer) -> bool) {
        while !condition(self) {
            assert!(!self.thread.is_finished(), "the source ended while waiting until {what}");
            std::thread::park_timeout(std::time::Duration::from_millis(2));
        }
    }

    pub fn events_so_far(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    pub fn finish(self) -> Outcome {
        self.stop.stop();
        self.thread.join().unwrap().unwrap();
        let events = std::mem::take(&mut *self.events.lock().unwrap());
        Outcome { events, counters: self.status.counters(), targets: self.status.targets() }
    }
}

impl Outcome {
    /// All bytes of one direction, in the order of arrival, all connections.
    pub fn bytes(&self, direction: Direction) -> Vec<u8> {
        let mut all = Vec::new();
        for event in &self.events {
            if let Event::Data(data) = event
                && data.direction == direction
            {
                all.extend_from_slice(&data.bytes);
            }
        }
        all
    }

    pub fn count(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// What was lost, by the events.
    pub fn lost(&self) -> u64 {
        self.events.iter().map(|event| if let Event::Lost(lost) = event { lost.len } else { 0 }).sum()
    }

    pub fn assert_nothing_lost(&self) {
        assert_eq!(self.lost(), 0);
        assert_eq!(self.count("lost_bytes"), 0, "{:?}", self.counters);
    }
}

/// Runs `client.py` with the steps under the tracer.
pub fn trace_client(server: &Server, steps: &[&str], config: Config) -> Outcome {
    let mut args = vec![data("client.py").to_string_lossy().into_owned(), server.port.to_string()];
    args.extend(steps.iter().map(|step| (*step).to_owned()));
    let mut held = Held::new(&python(), &args);
    let tracer = Tracer::start(Config { roots: vec![held.root()], ..config });
    held.release();
    held.finish();
    tracer.finish()
}
