//! `heron export --pcapng OUT FILE`: what a tape or a capture holds, for other tools.

use std::fs::OpenOptions;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::replay::{InputArgs, open};
use crate::export::pcapng;

/// Options of `heron export`.
#[derive(Args)]
pub struct ExportArgs {
    /// Write a plaintext capture that Wireshark opens, with the process and the decoded call as comments
    #[arg(long, value_name = "OUT", required = true)]
    pcapng: PathBuf,
    /// Keep credentials, and HTTP/2 connections (whose compressed headers may hold some)
    #[arg(long)]
    with_secrets: bool,
    /// A tape (`heron exec --tape FILE`) or captures
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
}

/// Plays the input into the file.
pub(super) fn run(args: ExportArgs) -> Result<ExitCode> {
    if args.files.iter().any(|file| file == Path::new("-")) {
        bail!("an export reads its input twice: standard input cannot be read again");
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&args.pcapng)
        .with_context(|| format!("cannot write {}", args.pcapng.display()))?;
    let mut out = BufWriter::new(file);
    let done = pcapng::write(&|| open(&args.files, args.input.clone()), &mut out, args.with_secrets)?;
    eprintln!("heron: {} packets of {} connections in {}", done.packets, done.connections, args.pcapng.display());
    if done.left_out > 0 {
        eprintln!("heron: {} HTTP/2 connections are left out (--with-secrets keeps them)", done.left_out);
    }
    Ok(ExitCode::SUCCESS)
}
