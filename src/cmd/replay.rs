//! `heron replay FILE`, and the service-like form `heron --pcap-file FILE`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::live::PacketArgs;
use super::observe::{Observation, ObserveOptions};
use crate::capture::pcap::{FileSource, Options as PcapOptions};
use crate::capture::tape::{Tape, is_tape};
use crate::capture::{Source, Status};
use crate::signal;

/// How captures are read.
#[derive(Args, Clone)]
pub(super) struct InputArgs {
    /// Look only at packets that match FILTER (libpcap's language)
    #[arg(long, visible_alias = "filter", value_name = "FILTER")]
    bpf_filter: Option<String>,
    /// TLS secrets of the captured connections (NSS format, as SSLKEYLOGFILE makes them)
    #[arg(long, value_name = "FILE")]
    keylog: Option<PathBuf>,
    /// Replay as fast as it was captured
    #[arg(long, conflicts_with = "speed")]
    realtime: bool,
    /// Replay N times as fast as it was captured (default: as fast as possible)
    #[arg(long, value_name = "N")]
    speed: Option<f64>,
}

impl InputArgs {
    fn lower(self, files: &[PathBuf]) -> PcapOptions {
        let speed = if self.realtime { Some(1.0) } else { self.speed };
        PcapOptions { files: files.to_vec(), filter: self.bpf_filter, keylog: self.keylog, speed, progress: true }
    }
}

/// Options of `heron replay`.
#[derive(Args)]
pub struct ReplayArgs {
    /// Captures (pcap, pcapng, also .gz and .zst; `-` is standard input) or one tape
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Serve the console, and keep it when the input has ended
    #[arg(long)]
    keep: bool,
    /// Write one JSON object per line when a call or turn is complete (docs/output.md), to standard output or `--json=FILE`
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    json: Option<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    observe: ObserveOptions,
}

/// Options of heron without a verb.
#[derive(Args)]
pub struct CaptureArgs {
    /// Read packets from FILE (pcap, pcapng, tape), and serve the console
    #[arg(long, value_name = "FILE")]
    pcap_file: Vec<PathBuf>,
    #[command(flatten)]
    packets: PacketArgs,
    /// End when the input has ended
    #[arg(long)]
    exit_after_drain: bool,
    /// Write one JSON object per line when a call or turn is complete (docs/output.md), to standard output or `--json=FILE`
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    json: Option<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    observe: ObserveOptions,
}

/// Plays the files and ends, or with `--keep` serves the console until ctrl-C.
pub(super) fn run(args: ReplayArgs) -> Result<ExitCode> {
    let mut observe = args.observe;
    observe.json = args.json;
    observe.no_console |= !args.keep;
    play(open(&args.files, args.input)?, &observe, args.keep)
}

/// Plays the files and stays, unless told to end with the input.
pub(super) fn run_capture(args: CaptureArgs) -> Result<ExitCode> {
    let mut observe = args.observe;
    observe.json = args.json;
    match (args.pcap_file.is_empty(), args.packets.is_empty()) {
        (true, true) => bail!(
            "say what to do: `heron exec -- COMMAND`, `heron replay FILE`, `heron --pcap-file FILE` or `heron -i INTERFACE` (see heron --help)"
        ),
        (false, false) => bail!("packets come from files or from interfaces, not from both"),
        (false, true) => play(open(&args.pcap_file, args.input)?, &observe, !args.exit_after_drain),
        (true, false) => play(args.packets.open(args.input.bpf_filter, args.input.keylog)?, &observe, false),
    }
}

fn play(source: Box<dyn Source>, observe: &ObserveOptions, keep: bool) -> Result<ExitCode> {
    let status = source.status();
    let stop = signal::stop_on_interrupt()?;
    let observation = Observation::start(source, observe, stop.clone())?;
    if let Some(url) = observation.url() {
        eprintln!("heron: console at {url}");
    }
    let ended = observation.wait()?;
    ended.print();
    print_encrypted(status.as_ref());
    if let (true, Some(url)) = (keep && !stop.is_stopped(), &ended.url) {
        eprintln!("heron: the input has ended; console at {url}, ctrl-C ends heron");
        signal::wait(&stop);
    }
    Ok(ExitCode::SUCCESS)
}

/// Connections that stayed closed, on standard error: the first few, and how many more.
pub(super) fn print_encrypted(status: &dyn Status) {
    const SHOWN: usize = 10;
    let encrypted = status.encrypted();
    for one in encrypted.iter().take(SHOWN) {
        let name = one.server_name.as_deref().unwrap_or("unknown name");
        let kb = |bytes: u64| bytes.div_ceil(1000);
        eprintln!(
            "heron: encrypted: {} -> {} ({name}), {} KB sent, {} KB received: {}",
            one.client,
            one.server,
            kb(one.sent_bytes),
            kb(one.received_bytes),
            one.reason
        );
    }
    if encrypted.len() > SHOWN {
        eprintln!("heron: encrypted: {} more connections", encrypted.len() - SHOWN);
    }
}

/// A tape when the (only) file is one, else captures.
pub(super) fn open(files: &[PathBuf], input: InputArgs) -> Result<Box<dyn Source>> {
    // What is not there may be a pattern; the packet source knows, and says so when it is none.
    if let [only] = files
        && only != Path::new("-")
        && only.exists()
        && is_tape(&head(only)?)
    {
        return Ok(Box::new(Tape::open(only)?));
    }
    Ok(Box::new(FileSource::open(input.lower(files))?))
}

fn head(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    if !file.metadata()?.is_file() {
        return Ok(Vec::new());
    }
    let mut head = Vec::new();
    file.take(64).read_to_end(&mut head).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(head)
}
