//! `heron doctor`: what this machine offers, what heron does with it, and what stands in the way, one sentence each.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::observe;
use crate::capture::ebpf::facts::Facts;

/// Options of `heron doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The console's port to look at
    #[arg(long, value_name = "PORT", default_value_t = 3000)]
    port: u16,
}

/// How a line is meant.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Good,
    /// Heron works, with something less.
    Less,
    /// Heron cannot capture with eBPF.
    Bad,
}

/// One line.
#[derive(Serialize)]
struct Line {
    section: &'static str,
    verdict: Verdict,
    sentence: String,
}

/// Exit code 0 when eBPF capture works here, 1 when something stands in the way.
pub(super) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let facts = Facts::gather();
    let mut lines = kernel(&facts);
    lines.extend(decisions(&facts));
    lines.extend(surroundings(args.port));
    let mut out = std::io::stdout().lock();
    if args.json {
        let object = serde_json::json!({"facts": facts, "decisions": facts.decide(), "lines": lines});
        writeln!(out, "{object:#}")?;
    } else {
        print(&mut out, &lines)?;
    }
    let bad = lines.iter().any(|line| line.verdict == Verdict::Bad);
    Ok(ExitCode::from(u8::from(bad)))
}

fn line(section: &'static str, verdict: Verdict, sentence: impl Into<String>) -> Line {
    Line { section, verdict, sentence: sentence.into() }
}

fn good_or(good: bool, otherwise: Verdict) -> Verdict {
    if good { Verdict::Good } else { otherwise }
}

fn kernel(facts: &Facts) -> Vec<Line> {
    let section = "kernel";
    let mut lines = vec![
        line(section, Verdict::Good, format!("kernel {}", facts.release)),
        line(
            section,
            good_or(facts.btf, Verdict::Bad),
            if facts.btf { "has type information (BTF)" } else { "has no type information (/sys/kernel/btf/vmlinux)" },
        ),
        line(
            section,
            good_or(facts.lockdown != "confidentiality", Verdict::Bad),
            format!("lockdown: {}", facts.lockdown),
        ),
        line(
            section,
            good_or(facts.root, Verdict::Bad),
            if facts.root { "heron runs as root" } else { "heron does not run as root: use sudo" },
        ),
    ];
    if let Some(obstacle) = facts.obstacle() {
        lines.push(line(section, Verdict::Bad, obstacle));
    }
    lines
}

fn decisions(facts: &Facts) -> Vec<Line> {
    let section = "so heron";
    let decided = facts.decide();
    let choice = |good: bool, yes: &str, no: &str| {
        line(section, good_or(good, Verdict::Less), if good { yes.to_owned() } else { no.to_owned() })
    };
    vec![
        choice(
            decided.uprobe_multi,
            "hooks many functions with one link (uprobe_multi)",
            "hooks each function through a perf event: slower to attach and detach; kernel 6.6 or newer has uprobe_multi",
        ),
        choice(
            decided.exact_records,
            "hands over records of exactly the payload's size",
            "hands over records in size classes: the ring fills earlier; kernel 6.16 or newer has exact ones",
        ),
        choice(
            decided.sleepable,
            "reads pages that are not resident",
            "cannot read pages that are not resident: such reads are counted as read_fault",
        ),
    ]
}

fn surroundings(port: u16) -> Vec<Line> {
    let section = "around";
    let mut lines = Vec::new();
    let free = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok();
    lines.push(line(
        section,
        good_or(free, Verdict::Less),
        if free {
            format!("port {port} is free for the console")
        } else {
            format!("port {port} is taken: use --port N")
        },
    ));
    lines.push(match observe::default_db() {
        Ok(path) => line(section, Verdict::Good, format!("the database is {}", path.display())),
        Err(error) => line(section, Verdict::Less, format!("{error:#}")),
    });
    let tracefs = Path::new("/sys/kernel/tracing/events").exists();
    lines.push(line(
        section,
        Verdict::Good,
        if tracefs { "tracefs is mounted" } else { "tracefs is not mounted (heron does not need it)" },
    ));
    lines
}

fn print(out: &mut impl Write, lines: &[Line]) -> std::io::Result<()> {
    let mut section = "";
    for line in lines {
        let lead = if line.section == section { "" } else { line.section };
        section = line.section;
        let mark = match line.verdict {
            Verdict::Good => "ok  ",
            Verdict::Less => "less",
            Verdict::Bad => "BAD ",
        };
        writeln!(out, "{lead:<9} {mark}  {}", line.sentence)?;
    }
    let bad = lines.iter().filter(|line| line.verdict == Verdict::Bad).count();
    match bad {
        0 => writeln!(out, "\nheron can capture here"),
        _ => writeln!(
            out,
            "\nheron cannot capture with eBPF here: {bad} things stand in the way (replaying captures works)"
        ),
    }
}
