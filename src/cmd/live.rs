//! `heron live -i any`: packets of this host's interfaces, or of remote probes, while they pass.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::observe::{Observation, ObserveOptions};
use super::replay::print_encrypted;
use crate::capture::Source;
use crate::capture::pcap::{LiveOptions, LiveSource, ProbeOptions, ProbeSource};
use crate::proc::sockets::SocketOwners;
use crate::signal;

/// Where packets come from, and how many of their bytes.
#[derive(Args)]
pub(super) struct PacketArgs {
    /// Capture on INTERFACE (repeatable; `any` is all of them); needs CAP_NET_RAW
    #[arg(short = 'i', long, value_name = "INTERFACE")]
    interface: Vec<String>,
    /// Take packets of remote probes: listen here for their ZeroMQ PUSH sockets (tcp://ADDRESS:PORT)
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "interface")]
    zmq: Option<String>,
    /// Bytes kept of each packet (default: all)
    #[arg(long, value_name = "BYTES")]
    snaplen: Option<u32>,
    /// The kernel's buffer for each interface in MiB (default: 64)
    #[arg(long, value_name = "MIB")]
    buffer_mib: Option<u32>,
}

impl PacketArgs {
    /// Whether any packets were asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.interface.is_empty() && self.zmq.is_none()
    }

    /// Opens the source.
    pub(super) fn open(self, filter: Option<String>, keylog: Option<PathBuf>) -> Result<Box<dyn Source>> {
        if let Some(endpoint) = self.zmq {
            if filter.is_some() {
                bail!("a filter works where packets are captured: give it to the probe");
            }
            let source = ProbeSource::open(&ProbeOptions { endpoint, keylog })?;
            eprintln!("heron: waiting for probes at tcp://{}", source.address()?);
            return Ok(Box::new(source));
        }
        if self.interface.is_empty() {
            bail!("say where to capture: `heron live -i any`, or an interface (`ip link` lists them)");
        }
        let mut owners = SocketOwners::default();
        Ok(Box::new(LiveSource::open(LiveOptions {
            interfaces: self.interface,
            filter,
            snaplen: self.snaplen,
            buffer_mib: self.buffer_mib,
            keylog,
            owners: Some(Box::new(move |batch| owners.fill(batch))),
        })?))
    }
}

/// Options of `heron live`.
#[derive(Args)]
pub struct LiveArgs {
    #[command(flatten)]
    packets: PacketArgs,
    /// Look only at packets that match FILTER (libpcap's language)
    #[arg(long, visible_alias = "bpf-filter", value_name = "FILTER")]
    filter: Option<String>,
    /// TLS secrets of the connections (NSS format, as SSLKEYLOGFILE makes them); may grow meanwhile
    #[arg(long, value_name = "FILE")]
    keylog: Option<PathBuf>,
    /// Write one JSON object per line when a call or turn is complete (docs/output.md), to standard output or `--json=FILE`
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    json: Option<PathBuf>,
    #[command(flatten)]
    observe: ObserveOptions,
}

/// Captures until ctrl-C.
pub(super) fn run(args: LiveArgs) -> Result<ExitCode> {
    let mut observe = args.observe;
    observe.json = args.json;
    let source = args.packets.open(args.filter, args.keylog)?;
    let status = source.status();
    let stop = signal::stop_on_interrupt()?;
    let observation = Observation::start(source, &observe, stop)?;
    if let Some(url) = observation.url() {
        eprintln!("heron: console at {url}");
    }
    observation.wait()?.print();
    print_encrypted(status.as_ref());
    Ok(ExitCode::SUCCESS)
}
