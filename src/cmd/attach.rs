//! `heron attach PID...`: watches processes that run already, and everything they start from now on.
//!
//! What a connection carried before is gone; it is decoded from its next request on. Ending heron leaves no trace in them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use super::observe::{Observation, ObserveOptions};
use crate::capture::StopFlag;
use crate::capture::ebpf::facts::Facts;
use crate::capture::ebpf::{Config, EbpfSource, Root};
use crate::proc::{self, select::Wanted};
use crate::signal;
use crate::wire::registry::path_rules;

const LOOK: Duration = Duration::from_millis(50);

/// Options of `heron attach`.
#[derive(Args)]
pub struct AttachArgs {
    /// Processes to watch
    #[arg(value_name = "PID")]
    pids: Vec<u32>,
    /// Processes with this short name
    #[arg(long, value_name = "NAME")]
    comm: Option<String>,
    /// Processes that run this executable: its path or its last component, `*` stands for any characters
    #[arg(long, value_name = "PATH")]
    exe: Option<String>,
    /// Processes whose cgroup's path begins with PATH
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,
    /// Processes of the container with this name, or with an id that begins like this
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// The descendants that run already, too
    #[arg(long)]
    tree: bool,
    /// Write one JSON object per line to FILE when a call or turn is complete (docs/output.md)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    observe: ObserveOptions,
}

/// Watches until the processes have ended, or ctrl-C.
pub(super) fn run(args: &AttachArgs) -> Result<ExitCode> {
    if let Some(why) = Facts::gather().obstacle() {
        bail!(why);
    }
    let pids = choose(args)?;
    let stop = signal::stop_on_interrupt()?;
    let (tell, ready) = channel();
    let source = EbpfSource::new(Config {
        roots: pids.iter().map(|pid| Root { pid: *pid, programs: Vec::new() }).collect(),
        path_rules: path_rules().iter().map(|rule| (*rule).to_owned()).collect(),
        on_ready: Some(Box::new(move || {
            let _ = tell.send(()); // nobody listens any more: heron ends already
        })),
        ..Config::default()
    });
    let observe = ObserveOptions { json: args.json.clone(), ..args.observe.clone() };
    let observation = Observation::start(Box::new(source), &observe, stop.clone())?;
    if observation.wait_until_ready(&ready) {
        let url = observation.url().map(|url| format!("; console at {url}")).unwrap_or_default();
        eprintln!("heron: watching {}{url}; ctrl-C ends heron, not what it watches", names(&pids));
    }
    wait(&observation, &stop, &pids);
    observation.stop();
    observation.wait()?.print();
    Ok(ExitCode::SUCCESS)
}

fn choose(args: &AttachArgs) -> Result<Vec<u32>> {
    let wanted = Wanted {
        comm: args.comm.clone(),
        exe: args.exe.clone(),
        cgroup: args.cgroup.clone(),
        container: args.container.clone(),
        ..Wanted::default()
    };
    if args.pids.is_empty() && wanted.is_empty() {
        bail!("say what to watch: process ids, --comm, --exe, --cgroup or --container");
    }
    if let Some(gone) = args.pids.iter().find(|pid| !proc::is_alive(**pid)) {
        bail!("process {gone} does not exist");
    }
    let mut pids = args.pids.clone();
    if !wanted.is_empty() {
        pids.extend(wanted.find());
    }
    if args.tree {
        pids = pids.into_iter().flat_map(proc::tree).collect();
    }
    pids.sort_unstable();
    pids.dedup();
    if let Some(own) = pids.iter().find(|pid| **pid == std::process::id()) {
        bail!("process {own} is this heron: it does not watch itself");
    }
    if pids.is_empty() {
        bail!("no running process matches");
    }
    Ok(pids)
}

/// A few of the processes, by name.
fn names(pids: &[u32]) -> String {
    let name = |pid: &u32| proc::info(*pid).map_or_else(|| pid.to_string(), |info| format!("{} ({pid})", info.comm));
    let shown: Vec<String> = pids.iter().take(5).map(name).collect();
    match pids.len().checked_sub(shown.len()) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

fn wait(observation: &Observation, stop: &StopFlag, roots: &[u32]) {
    while !stop.is_stopped() && !observation.is_finished() {
        let watched = observation.counters().read().get("kernel").and_then(|k| k.get("watched_processes").copied());
        if watched == Some(0) && !roots.iter().any(|pid| proc::is_alive(*pid)) {
            return;
        }
        std::thread::sleep(LOOK);
    }
}
