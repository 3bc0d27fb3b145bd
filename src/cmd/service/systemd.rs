//! The running systemd, asked through `systemctl`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The service's name.
pub const UNIT: &str = "heron.service";

/// Whether systemd is this machine's init (`sd_booted(3)`).
pub fn runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Calls `systemctl`; an error has what it said.
pub fn call(args: &[&str]) -> Result<()> {
    let output = Command::new("systemctl").args(args).output().context("cannot run systemctl")?;
    if !output.status.success() {
        bail!("systemctl {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// systemd's word for the service's state: `active`, `inactive`, `activating`, `failed`, ...
pub fn state() -> String {
    let output = Command::new("systemctl").args(["is-active", UNIT]).output();
    let word = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if word.is_empty() { "unknown".to_owned() } else { word }
}
