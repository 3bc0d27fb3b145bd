//! `heron console`: the console over what was stored before.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;

use super::observe;
use crate::api;
use crate::signal;

/// Options of `heron console`.
#[derive(Args)]
pub struct ConsoleArgs {
    /// The database (default: heron.duckdb in the user's data directory)
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// The console's port on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 3000)]
    port: u16,
}

/// Serves until ctrl-C.
pub(super) fn run(args: &ConsoleArgs) -> Result<ExitCode> {
    let path = args.db.clone().map_or_else(observe::default_db, Ok)?;
    if !path.exists() {
        bail!(
            "there is no database at {}; capture something first (heron exec -- COMMAND), or name one with --db FILE",
            path.display()
        );
    }
    let listener = api::bind(args.port)?;
    let store = observe::open_file(&path)?;
    let place = path.display().to_string();
    let health: api::Health = Arc::new(
        move || serde_json::json!({"status": "ok", "version": env!("CARGO_PKG_VERSION"), "source": "store", "database": place, "counters": {}, "losses": {}, "targets": []}),
    );
    let stop = signal::stop_on_interrupt()?;
    eprintln!("heron: console at http://localhost:{} over {}; ctrl-C ends it", args.port, path.display());
    let handle = api::serve(api::Config { listener, reader: store.reader(), hub: Arc::new(api::Hub::new()), health })?;
    signal::wait(&stop);
    drop(handle);
    Ok(ExitCode::SUCCESS)
}
