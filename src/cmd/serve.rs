//! `heron serve`: host mode. Finds agents by itself, now and whenever one is started, and keeps what they say.
//!
//! Made for systemd (`Type=notify`, watchdog), and works in a terminal. Configuration: `config.rs`, `docs/operate.md`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use sd_notify::NotifyState;

use super::observe::{Observation, ObserveOptions};
use crate::capture::StopFlag;
use crate::capture::ebpf::facts::Facts;
use crate::capture::ebpf::{Config as CaptureConfig, EbpfSource, Root};
use crate::config::{Config, WatchRule};
use crate::event::ProcessInfo;
use crate::pipeline::Retention;
use crate::proc::{self, select, select::Wanted};
use crate::signal;
use crate::turn;
use crate::wire::registry::path_rules;

const LOOK: Duration = Duration::from_millis(50);
/// How often calls that are not to be kept any longer are removed.
const REMOVE_OLD_EVERY: Duration = Duration::from_secs(600);

/// Options of `heron serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// The configuration file (default: /etc/heron/heron.toml, or the defaults when it does not exist)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The console's port on 127.0.0.1, in place of the configured one
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The database, in place of the configured one
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Write one JSON object per line to FILE when a call or turn is complete (docs/output.md)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs until told to stop.
pub(super) fn run(args: &ServeArgs) -> Result<ExitCode> {
    let config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::read_default()?,
    };
    if let Some(why) = Facts::gather().obstacle() {
        bail!(why);
    }
    let stop = signal::stop_on_interrupt()?;
    let (tell, ready) = channel();
    let rules = Rules::new(&config);
    let roots = running(&rules);
    let found = roots.len();
    let source = EbpfSource::new(CaptureConfig {
        roots,
        path_rules: path_rules().iter().map(|rule| (*rule).to_owned()).collect(),
        ring_bytes: config.capture.ring_mib << 20,
        choose: Some(Box::new(move |pid, info| rules.fit(pid, info))),
        on_ready: Some(Box::new(move || {
            let _ = tell.send(()); // nobody listens any more: heron ends already
        })),
        ..CaptureConfig::default()
    });
    let observe = options(args, &config);
    let observation = Observation::start(Box::new(source), &observe, stop.clone())?;
    if observation.wait_until_ready(&ready) {
        let url = observation.url().map(|url| format!("; console at {url}")).unwrap_or_default();
        eprintln!("heron: watching this host, {found} agents are running{url}");
        let status = format!("watching this host; {found} agents were running at the start");
        notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }
    until_stopped(&observation, &stop);
    notify(&[NotifyState::Stopping]);
    observation.stop();
    observation.wait()?.print();
    Ok(ExitCode::SUCCESS)
}

fn options(args: &ServeArgs, config: &Config) -> ObserveOptions {
    ObserveOptions {
        json: args.json.clone(),
        db: Some(args.db.clone().unwrap_or_else(|| config.store.path.clone())),
        port: args.port.unwrap_or(config.console.port),
        no_console: !config.console.enabled,
        retention: config.store.keep().map(|keep| Retention { keep, every: REMOVE_OLD_EVERY }),
        price_rules: config.price.clone(),
        workers: (config.capture.workers > 0).then_some(config.capture.workers),
        ..ObserveOptions::default()
    }
}

/// Who is an agent: the configured rules, and the built-in ones.
struct Rules {
    configured: Vec<Wanted>,
    builtin: bool,
}

impl Rules {
    fn new(config: &Config) -> Rules {
        Rules {
            configured: config.watch.iter().map(WatchRule::wanted).collect(),
            builtin: config.capture.builtin_rules,
        }
    }

    fn fit(&self, pid: u32, info: &ProcessInfo) -> bool {
        (self.builtin && turn::agent_of_process(info).is_some())
            || self.configured.iter().any(|wanted| wanted.matches_info(info, || select::cgroup(pid)))
    }
}

/// The agents that run already, with all that they have started.
fn running(rules: &Rules) -> Vec<Root> {
    let own = std::process::id();
    let is_agent = |pid: &u32| proc::info(*pid).is_some_and(|info| rules.fit(*pid, &info));
    let mut pids: Vec<u32> = proc::all().into_keys().filter(is_agent).flat_map(proc::tree).collect();
    pids.sort_unstable();
    pids.dedup();
    pids.retain(|pid| *pid != own);
    pids.into_iter().map(|pid| Root { pid, programs: Vec::new() }).collect()
}

fn until_stopped(observation: &Observation, stop: &StopFlag) {
    let watchdog = sd_notify::watchdog_enabled().map(|period| period / 2);
    let mut last = Instant::now();
    while !stop.is_stopped() && !observation.is_finished() {
        std::thread::sleep(LOOK);
        if watchdog.is_some_and(|period| last.elapsed() >= period) {
            notify(&[NotifyState::Watchdog]);
            last = Instant::now();
        }
    }
}

/// Without systemd there is nobody to tell.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
