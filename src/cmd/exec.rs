//! `heron exec -- COMMAND`: runs a command as if heron were not there, and shows its LLM calls while it runs.
//!
//! The command shares heron's terminal, session and process group, so a TUI, ctrl-C, ctrl-Z and the window size work by
//! themselves. It is held until its hooks are set. Its exit code is heron's (128 + signal when a signal ended it).

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

use super::observe::{Observation, ObserveOptions};
use crate::capture::StopFlag;
use crate::capture::ebpf::facts::Facts;
use crate::capture::ebpf::{Config, EbpfSource, Root};
use crate::launch::{Go, Guard, Held, Plan};
use crate::signal;
use crate::wire::registry::path_rules;

/// What heron may take to store what it has, once a second ctrl-C asked it to end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often the main thread looks whether the source is still there.
const LOOK: Duration = Duration::from_millis(250);

/// Options of `heron exec`.
#[derive(Args)]
pub struct ExecArgs {
    /// Keep the console up when the command has ended
    #[arg(long)]
    keep: bool,
    /// Write one JSON object per line to FILE when a call or turn is complete (docs/output.md)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Stop each new program of the command until its hooks are set
    #[arg(long)]
    strict: bool,
    /// Size of the kernel's ring in MiB, a power of two
    #[arg(long, value_name = "MIB", default_value_t = 16)]
    ring_mib: u32,
    #[command(flatten)]
    observe: ObserveOptions,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What the main thread is told.
enum News {
    /// The hooks are set.
    Ready,
    /// The command has ended.
    Ended(std::io::Result<ExitStatus>),
    /// Somebody wants heron to end now.
    Interrupted,
}

/// Runs the command.
pub(super) fn run(args: &ExecArgs) -> Result<ExitCode> {
    if let Some(why) = Facts::gather().obstacle() {
        bail!(why);
    }
    if !args.ring_mib.is_power_of_two() || args.ring_mib > 1024 {
        bail!("--ring-mib is {}, but must be a power of two up to 1024", args.ring_mib);
    }
    let plan = Plan::new(&args.command)?;
    // Before the first thread, so that every thread inherits the mask. The helper clears it before it becomes the command.
    let signals = block_signals()?;
    let (child, go) = Held::start(&plan)?.split();
    let pid = child.id();
    let (tell, news) = channel();
    let command = Arc::new(AtomicU8::new(HELD));
    follow_signals(signals, pid, tell.clone(), Arc::clone(&command))?;
    let observation = match start(args, &plan, pid, &tell) {
        Ok(observation) => observation,
        Err(error) => return Err(end_held(child, go, error)),
    };
    if let Err(error) = wait_until_ready(&news, &observation) {
        observation.stop();
        let error = observation.wait().err().unwrap_or(error);
        return Err(end_held(child, go, error));
    }
    if let Some(url) = observation.url() {
        eprintln!("heron: console at {url}");
    }
    follow_child(child, tell.clone())?;
    let guard = if args.strict { Some(Guard::start(pid)?) } else { None };
    command.store(RUNS, Ordering::Relaxed);
    go.go()?;
    let over = until_over(&news, &observation)?;
    command.store(OVER, Ordering::Relaxed);
    take_terminal_back();
    let finished = finish(observation, args.keep, &news, over);
    // After the source's end nobody is stopped any more, and nobody else would let go on who is.
    if let Some(guard) = guard {
        guard.end();
    }
    finished
}

fn start(args: &ExecArgs, plan: &Plan, pid: u32, tell: &Sender<News>) -> Result<Observation> {
    let ready = tell.clone();
    let source = EbpfSource::new(Config {
        roots: vec![Root { pid, programs: plan.programs.clone() }],
        path_rules: path_rules().iter().map(|rule| (*rule).to_owned()).collect(),
        ring_bytes: args.ring_mib << 20,
        strict: args.strict,
        on_ready: Some(Box::new(move || {
            let _ = ready.send(News::Ready); // nobody listens any more: heron ends already
        })),
        ..Config::default()
    });
    let observe = ObserveOptions { json: args.json.clone(), ..args.observe.clone() };
    Observation::start(Box::new(source), &observe, StopFlag::new())
}

/// The child was never let go: it ends by itself, without having run the command.
fn end_held(mut child: Child, go: Go, error: anyhow::Error) -> anyhow::Error {
    drop(go);
    match child.wait() {
        Ok(_) => error,
        Err(wait) => error.context(format!("cannot wait for the held child: {wait}")),
    }
}

fn wait_until_ready(news: &Receiver<News>, observation: &Observation) -> Result<()> {
    loop {
        match news.recv_timeout(LOOK) {
            Ok(News::Ready) => return Ok(()),
            Ok(News::Interrupted) => bail!("interrupted before the command was started"),
            Ok(News::Ended(_)) => {}
            Err(RecvTimeoutError::Timeout) if !observation.is_finished() => {}
            Err(_) => bail!("the capture ended before it began"),
        }
    }
}

fn block_signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().context("cannot block signals")?;
    SignalFd::new(&set).context("cannot receive signals")
}

fn follow_child(mut child: Child, tell: Sender<News>) -> Result<()> {
    let wait = move || {
        let _ = tell.send(News::Ended(child.wait()));
    };
    thread::Builder::new().name("heron-child".to_owned()).spawn(wait).context("cannot start a thread")?;
    Ok(())
}

/// The states of the command, for whoever gets the signals.
const HELD: u8 = 0;
const RUNS: u8 = 1;
const OVER: u8 = 2;

/// The terminal sends its signals to the command too; what a process sends to heron alone is passed on. The first request
/// to end is the command's while it runs. The second one ends heron, whatever the command made of the first and however
/// long ago that was; heron still stores what it has, within a bound, and a third request does not wait for that.
fn follow_signals(signals: SignalFd, pid: u32, tell: Sender<News>, command: Arc<AtomicU8>) -> Result<()> {
    let follow = move || {
        let mut asked = 0;
        let mut told = 0;
        while let Ok(Some(info)) = signals.read_signal() {
            let Some(signal) = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())
            else {
                continue;
            };
            let state = command.load(Ordering::Relaxed);
            if signal != Signal::SIGQUIT {
                asked += 1;
                if asked > 1 || state != RUNS {
                    told += 1;
                    let _ = tell.send(News::Interrupted); // main has ended: so has everything
                }
                // The first request after the command's end is an orderly one, and may be all that `--keep` waits for.
                if told > 1 {
                    signal::end_at_once();
                }
                if asked == 2 && told == 1 {
                    signal::end_within(LAST_WORDS);
                }
            }
            let from_the_kernel = info.ssi_code == libc::SI_KERNEL;
            if !from_the_kernel
                && state == RUNS
                && let Ok(pid) = i32::try_from(pid)
            {
                // An error means that the command has ended: then that is what main is about to hear.
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    };
    thread::Builder::new().name("heron-signals".to_owned()).spawn(follow).context("cannot start a thread")?;
    Ok(())
}

/// How the run ended.
enum Over {
    /// With the command; its exit code.
    Command(u8),
    /// By the second interrupt; the command lives on.
    Interrupted,
}

fn until_over(news: &Receiver<News>, observation: &Observation) -> Result<Over> {
    let mut told = false;
    loop {
        match news.recv_timeout(LOOK) {
            Ok(News::Ended(status)) => {
                return Ok(Over::Command(exit_code(status.context("cannot wait for the command")?)));
            }
            Ok(News::Interrupted) => return Ok(Over::Interrupted),
            Ok(News::Ready) => {}
            Err(RecvTimeoutError::Timeout) => {
                if observation.is_finished() && !told {
                    // The command is not to suffer: it goes on, unobserved.
                    eprintln!("heron: the capture has ended early; the command goes on unobserved");
                    told = true;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("lost sight of the command")),
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}

/// A command that put itself into the foreground leaves the terminal without a foreground group when it ends.
fn take_terminal_back() {
    let stdin = std::io::stdin();
    let own = getpgrp();
    if tcgetpgrp(&stdin).is_ok_and(|front| front != own && kill_group(front).is_err()) {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTTOU);
        if set.thread_block().is_ok() {
            let _ = tcsetpgrp(&stdin, own); // no terminal any more: nothing to take back
        }
    }
}

/// Whether a process group has members: signal 0.
fn kill_group(group: Pid) -> nix::Result<()> {
    nix::sys::signal::killpg(group, None)
}

fn finish(observation: Observation, keep: bool, news: &Receiver<News>, over: Over) -> Result<ExitCode> {
    observation.stop();
    let left = observation.counters();
    let ended = observation.wait()?;
    ended.print();
    let alive = left.read().get("kernel").and_then(|kernel| kernel.get("watched_processes").copied()).unwrap_or(0);
    let code = match over {
        Over::Command(code) => {
            if alive > 0 {
                eprintln!("heron: {alive} of the processes that the command started live on, unobserved");
            }
            code
        }
        Over::Interrupted => {
            eprintln!("heron: ended by the second interrupt; the command lives on");
            return Ok(ExitCode::from(130));
        }
    };
    if let (true, Some(url)) = (keep, &ended.url) {
        eprintln!("heron: the command has ended with code {code}; console at {url}, ctrl-C ends heron");
        wait_for_interrupt(news);
    }
    Ok(ExitCode::from(code))
}

/// After the command's end the first interrupt is for heron.
fn wait_for_interrupt(news: &Receiver<News>) {
    while let Ok(next) = news.recv() {
        if matches!(next, News::Interrupted) {
            return;
        }
    }
}
