//! The verbs. One file each; this one has the command line and nothing else.

mod attach;
mod console;
mod doctor;
mod exec;
mod export;
mod live;
mod observe;
mod ps;
mod replay;
mod serve;
mod service;
mod symbols;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use observe::{Observation, ObserveOptions};

/// Sees what AI agents on this host really send, receive and do.
#[derive(Parser)]
#[command(name = "heron", version, about, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    capture: replay::CaptureArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a command and see the LLM calls that it and its descendants make
    Exec(exec::ExecArgs),
    /// Watch processes that run already, and what they start
    Attach(attach::AttachArgs),
    /// Watch this host: find agents by itself, and keep what they say
    Serve(serve::ServeArgs),
    /// Install, look at, or remove `heron serve` as a systemd service
    Service(service::ServiceArgs),
    /// Play a capture (pcap, pcapng) or a tape through the pipeline
    Replay(replay::ReplayArgs),
    /// Capture packets of interfaces, or of remote probes, while they pass
    Live(live::LiveArgs),
    /// List the agents that run here now, their TLS stacks, and whether a running heron sees them
    Ps(ps::PsArgs),
    /// Say what this machine offers, what heron does with it, and what stands in the way
    Doctor(doctor::DoctorArgs),
    /// Write what a tape or a capture holds in another tool's format
    Export(export::ExportArgs),
    /// Serve the console over what was stored before
    Console(console::ConsoleArgs),
    /// Outlive heron for a moment (`heron exec --strict` starts it)
    #[command(name = "__guard", hide = true)]
    Guard(crate::launch::GuardArgs),
    /// Wait to be told, then become a command (`heron exec` starts it)
    #[command(name = "__launch", hide = true)]
    Launch(crate::launch::HelperArgs),
    /// Explain where the TLS functions of a program or a process are, and how they were found
    Symbols(symbols::SymbolsArgs),
    /// Open a database for no other reason than to see whether it can be
    #[command(name = "__check-db", hide = true)]
    CheckDb {
        /// The file
        path: std::path::PathBuf,
    },
}

/// Parses the command line and runs the verb. Errors end as one sentence on standard error and exit code 1; bad usage is 2.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let ran = match cli.verb {
        Some(Verb::Exec(args)) => exec::run(&args),
        Some(Verb::Attach(args)) => attach::run(&args),
        Some(Verb::Serve(args)) => serve::run(&args),
        Some(Verb::Service(args)) => service::run(&args),
        Some(Verb::Guard(args)) => crate::launch::guard(&args).map(|()| ExitCode::SUCCESS),
        Some(Verb::Launch(args)) => Err(crate::launch::become_command(&args)),
        Some(Verb::Replay(args)) => replay::run(args),
        Some(Verb::Live(args)) => live::run(args),
        Some(Verb::Ps(args)) => ps::run(&args),
        Some(Verb::Doctor(args)) => doctor::run(&args),
        Some(Verb::Export(args)) => export::run(args),
        Some(Verb::Console(args)) => console::run(&args),
        Some(Verb::Symbols(args)) => symbols::run(&args),
        Some(Verb::CheckDb { path }) => Ok(crate::store::check_database(&path)),
        None => replay::run_capture(cli.capture),
    };
    ran.unwrap_or_else(|error| {
        eprintln!("heron: {error:#}");
        ExitCode::from(1)
    })
}

/// Warnings go to standard error; `HERON_LOG` (for example `heron=debug`) says more.
pub fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HERON_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .compact()
        .init();
}
