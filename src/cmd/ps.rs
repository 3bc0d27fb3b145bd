//! `heron ps`: the agents that run on this host now, their TLS stacks, and whether a heron that runs sees them.
//!
//! It reads `/proc` and the mapped files of processes that are recognised as agents, and of no others. It attaches to nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::capture::Target;
use crate::capture::ebpf::image::Images;
use crate::config::Config;
use crate::proc::{self, select};
use crate::turn;

/// Options of `heron ps`.
#[derive(Args)]
pub struct PsArgs {
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
    /// The port of the heron to ask what it sees
    #[arg(long, value_name = "PORT", default_value_t = 3000)]
    port: u16,
    /// The configuration whose rules say what else is an agent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// One agent.
#[derive(Serialize)]
struct Row {
    pid: u32,
    agent: String,
    comm: String,
    exe: String,
    cwd: String,
    uid: u32,
    container: Option<String>,
    stacks: Vec<Stack>,
}

/// One TLS stack of an agent's mapped files.
#[derive(Serialize)]
struct Stack {
    library: String,
    path: String,
    found_by: String,
    /// `firing`, `attached_never_fired`, `refused`, `gone` as a running heron says; `not watched` else.
    state: String,
    /// Why it is not, or cannot be, hooked; empty when there is nothing to say.
    reason: String,
}

/// Lists the agents; without any that is no error.
pub(super) fn run(args: &PsArgs) -> Result<ExitCode> {
    let config = args.config.as_deref().map_or_else(Config::read_default, Config::read)?;
    let targets = targets_of_running_heron(args.port).unwrap_or_default();
    let mut images = Images::default();
    let rows: Vec<Row> = proc::all().into_keys().filter_map(|pid| row(pid, &config, &targets, &mut images)).collect();
    let mut out = std::io::stdout().lock();
    let written = if args.json { json(&mut out, &rows) } else { table(&mut out, &rows) };
    match written {
        // The reader of a pipe had seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn row(pid: u32, config: &Config, targets: &[Target], images: &mut Images) -> Option<Row> {
    let info = proc::info(pid)?;
    let by_rule = || config.watch.iter().find(|rule| rule.wanted().matches_info(&info, || select::cgroup(pid)));
    let agent = turn::agent_of_process(&info).map(str::to_owned).or_else(|| {
        by_rule().map(|rule| if rule.name.is_empty() { "by rule".to_owned() } else { rule.name.clone() })
    })?;
    let stacks = proc::images(pid).iter().filter_map(|file| stack(pid, file, targets, images)).collect();
    Some(Row {
        pid,
        agent,
        comm: info.comm,
        exe: info.exe,
        cwd: info.cwd,
        uid: info.uid,
        container: info.container,
        stacks,
    })
}

fn stack(pid: u32, file: &proc::Image, targets: &[Target], images: &mut Images) -> Option<Stack> {
    let image = images.open(&file.via, &file.path).ok()?;
    if image.library.is_empty() && image.hooks.is_empty() {
        return None;
    }
    let path = file.path.display().to_string();
    let watched = targets.iter().find(|target| target.path == path && (target.pid == pid || target.hits > 0));
    let state = watched.and_then(|target| serde_json::to_value(target.state).ok()?.as_str().map(str::to_owned));
    let reason = watched.map(|target| target.reason.clone()).filter(|reason| !reason.is_empty());
    Some(Stack {
        library: image.library.clone(),
        path,
        found_by: image.found_by.clone(),
        state: state.unwrap_or_else(|| "not watched".to_owned()),
        reason: reason.unwrap_or_else(|| image.reason.clone()),
    })
}

/// What the heron on `port` is attached to; `None` when there is none.
pub(super) fn targets_of_running_heron(port: u16) -> Option<Vec<Target>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(stream, "GET /api/health HTTP/1.0\r\nHost: localhost:{port}\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.take(16 << 20).read_to_end(&mut answer).ok()?;
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let health: Value = serde_json::from_slice(answer.get(body..)?).ok()?;
    serde_json::from_value(health.get("targets")?.clone()).ok()
}

fn json(out: &mut impl Write, rows: &[Row]) -> std::io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, rows)?;
    writeln!(out)
}

fn table(out: &mut impl Write, rows: &[Row]) -> std::io::Result<()> {
    if rows.is_empty() {
        return writeln!(
            out,
            "no agent is running here; `heron exec -- COMMAND` starts one, rules in the configuration name more kinds"
        );
    }
    writeln!(out, "{:>8}  {:<18} {:<22} {:<20} WHY OR WHERE", "PID", "AGENT", "TLS", "STATE")?;
    for row in rows {
        let mut lead = format!("{:>8}  {:<18}", row.pid, row.agent);
        if row.stacks.is_empty() {
            writeln!(out, "{lead} {:<22} {:<20} {}", "none mapped yet", "", row.exe)?;
        }
        for stack in &row.stacks {
            let found = if stack.found_by.is_empty() { String::new() } else { format!(" ({})", stack.found_by) };
            let tls = format!("{}{found}", stack.library);
            let tail = if stack.reason.is_empty() { &stack.path } else { &stack.reason };
            writeln!(out, "{lead} {tls:<22} {:<20} {tail}", stack.state.replace('_', " "))?;
            lead = " ".repeat(lead.len());
        }
    }
    Ok(())
}
