//! `heron service install|status|uninstall`: host mode as a systemd service.
//!
//! Everything is done below `--root DIR` (default `/`), so a package or an image can be filled without touching the
//! machine; systemd itself is asked only for the running machine, and only where it runs. Doing a thing twice is harmless.

mod layout;
mod systemd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::ps;
use crate::config::Config;
use layout::{Layout, Written};

/// The unit as it is packaged; it names the packaged program.
const UNIT: &str = include_str!("../../../packaging/heron.service");
/// The configuration as it is packaged: the defaults, with their meaning.
const CONFIG: &str = include_str!("../../../packaging/heron.toml");

/// Options of `heron service`.
#[derive(Args)]
pub struct ServiceArgs {
    #[command(subcommand)]
    verb: ServiceVerb,
}

#[derive(Subcommand)]
enum ServiceVerb {
    /// Write unit, configuration and state directory, enable the service and start it
    Install {
        #[command(flatten)]
        place: Place,
        /// Enable the service, but do not start it
        #[arg(long)]
        no_start: bool,
    },
    /// Say whether the service is installed and runs, and what it keeps
    Status {
        #[command(flatten)]
        place: Place,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Stop the service and remove it; configuration and data stay
    Uninstall {
        #[command(flatten)]
        place: Place,
        /// Remove the configuration and everything that was stored, too
        #[arg(long)]
        purge: bool,
    },
}

#[derive(Args)]
struct Place {
    /// Work below DIR, and leave the running machine alone
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Runs the verb. `status` ends with 0 when the service runs, 3 when it does not, 4 when it is not installed.
pub(super) fn run(args: &ServiceArgs) -> Result<ExitCode> {
    match &args.verb {
        ServiceVerb::Install { place, no_start } => install(&Layout::new(&place.root)?, *no_start),
        ServiceVerb::Status { place, json } => status(&Layout::new(&place.root)?, *json),
        ServiceVerb::Uninstall { place, purge } => uninstall(&Layout::new(&place.root)?, *purge),
    }
}

fn needs_root(layout: &Layout, what: &str) -> Result<()> {
    if layout.is_machine() && !nix::unistd::geteuid().is_root() {
        bail!("{what} the service needs root: run it with sudo");
    }
    Ok(())
}

fn say(what: Written, path: &Path) {
    let verb = match what {
        Written::New => "wrote",
        Written::Changed => "renewed",
        Written::Same => "unchanged:",
    };
    println!("{verb} {}", path.display());
}

fn install(layout: &Layout, no_start: bool) -> Result<ExitCode> {
    needs_root(layout, "installing")?;
    // A service that cannot start is not installed: what is wrong is said before anything is written.
    let configured = configuration(layout)?;
    let (program, program_written) = layout.place_program()?;
    if let Some(written) = program_written {
        say(written, &layout.under(&program));
    }
    let config = layout.config();
    if config.exists() {
        println!("kept {}", config.display());
    } else {
        say(layout::write(&config, CONFIG, 0o644)?, &config);
    }
    layout.make_state_directory()?;
    let unit_written = match layout.packaged_unit() {
        Some(unit) => {
            println!("the package's unit is used: {}", unit.display());
            Written::Same
        }
        None => {
            let written = layout::write(&layout.unit(), &unit_for(&program), 0o644)?;
            say(written, &layout.unit());
            written
        }
    };
    if !(layout.is_machine() && systemd::runs()) {
        layout.enable()?;
        println!("{}", enabled_only(layout));
        return Ok(ExitCode::SUCCESS);
    }
    let is_new_program = program_written.is_some_and(|written| written != Written::Same);
    begin(no_start, is_new_program || unit_written != Written::Same, &configured)
}

/// Enables and starts the service through systemd.
fn begin(no_start: bool, changed: bool, configured: &Config) -> Result<ExitCode> {
    systemd::call(&["daemon-reload"])?;
    systemd::call(&["enable", systemd::UNIT])?;
    if no_start {
        println!("the service is enabled; start it with: systemctl start heron");
        return Ok(ExitCode::SUCCESS);
    }
    let verb = if changed { "restart" } else { "start" };
    systemd::call(&[verb, systemd::UNIT]).context("the service did not start; why: journalctl -u heron -n 20")?;
    match configured.console.enabled {
        true => println!("the service runs; console at http://localhost:{}", configured.console.port),
        false => println!("the service runs"),
    }
    Ok(ExitCode::SUCCESS)
}

fn enabled_only(layout: &Layout) -> String {
    if layout.is_machine() {
        return "the service is enabled; systemd does not run here, so it begins with the next boot that has one \
                (`heron serve` does the same in a terminal)"
            .to_owned();
    }
    format!("the service is enabled below {}; nothing was started", layout.root().display())
}

/// The configuration that is there, or the default one.
fn configuration(layout: &Layout) -> Result<Config> {
    match layout.config() {
        path if path.exists() => Config::read(&path),
        _ => Ok(Config::default()),
    }
}

/// The unit with the program's path in place of the packaged one.
fn unit_for(program: &Path) -> String {
    UNIT.replace(layout::PACKAGED_PROGRAM, &program.display().to_string())
}

/// What `heron service status` says.
#[derive(Serialize)]
struct State {
    installed: bool,
    /// The unit's file.
    unit: Option<PathBuf>,
    /// Whether it is started at boot.
    enabled: bool,
    /// systemd's word (`active`, `failed`, ...), or `unknown` where it does not run.
    state: String,
    config: PathBuf,
    /// Why the configuration cannot be used.
    config_error: Option<String>,
    database: PathBuf,
    /// Size of the database and its log; `None` when there is none yet.
    database_bytes: Option<u64>,
    /// The console that answers, if one does.
    console: Option<String>,
}

fn status(layout: &Layout, json: bool) -> Result<ExitCode> {
    let state = State::gather(layout);
    match json {
        true => println!("{}", serde_json::to_string_pretty(&state)?),
        false => state.print(),
    }
    Ok(ExitCode::from(match (state.installed, state.state.as_str()) {
        (false, _) => 4,
        (true, "active") => 0,
        (true, _) => 3,
    }))
}

impl State {
    fn gather(layout: &Layout) -> State {
        let (config, config_error) = match configuration(layout) {
            Ok(config) => (config, None),
            Err(error) => (Config::default(), Some(format!("{error:#}"))),
        };
        let asks = layout.is_machine() && systemd::runs();
        let unit = layout.installed_unit();
        let database = layout.under(&config.store.path);
        let port = config.console.port;
        let answers = layout.is_machine() && config.console.enabled && ps::targets_of_running_heron(port).is_some();
        State {
            installed: unit.is_some(),
            enabled: layout.is_enabled(),
            state: if asks { systemd::state() } else { "unknown".to_owned() },
            config: layout.config(),
            config_error,
            database_bytes: size(&database),
            database,
            console: answers.then(|| format!("http://localhost:{port}")),
            unit,
        }
    }

    fn print(&self) {
        let unit = self.unit.as_ref().map_or("not installed (heron service install)".to_owned(), |unit| {
            format!("{}, {}", unit.display(), if self.enabled { "enabled" } else { "not enabled" })
        });
        println!("unit           {unit}");
        let state = if self.state == "unknown" { "unknown: systemd does not run here" } else { &self.state };
        println!("state          {state}");
        let config = match (&self.config_error, self.config.exists()) {
            (Some(error), _) => format!("unusable: {error}"),
            (None, true) => self.config.display().to_string(),
            (None, false) => format!("{} does not exist: the defaults", self.config.display()),
        };
        println!("configuration  {config}");
        let size = self.database_bytes.map_or("does not exist yet".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
        println!("database       {}, {size}", self.database.display());
        println!("console        {}", self.console.as_deref().unwrap_or("does not answer"));
    }
}

/// The bytes of a database and its log.
fn size(database: &Path) -> Option<u64> {
    let log = PathBuf::from(format!("{}.wal", database.display()));
    let length = |path: &Path| fs::metadata(path).ok().map(|meta| meta.len());
    Some(length(database)? + length(&log).unwrap_or(0))
}

fn uninstall(layout: &Layout, purge: bool) -> Result<ExitCode> {
    needs_root(layout, "removing")?;
    let was_installed = layout.installed_unit().is_some();
    let asks = layout.is_machine() && systemd::runs();
    if asks && was_installed {
        systemd::call(&["disable", "--now", systemd::UNIT])?;
    }
    let mut removed = layout.remove_installed()?;
    if asks {
        systemd::call(&["daemon-reload"])?;
    }
    let configured = configuration(layout).unwrap_or_default();
    if purge {
        removed.extend(layout.purge()?);
    }
    removed.iter().for_each(|path| println!("removed {}", path.display()));
    if !was_installed {
        println!("the service was not installed");
    }
    if let Some(unit) = layout.packaged_unit() {
        println!("{} belongs to the package and stays", unit.display());
    }
    let kept = [layout.config(), layout.under(&configured.store.path)];
    let kept: Vec<String> = kept.iter().filter(|path| path.exists()).map(|path| path.display().to_string()).collect();
    match (purge, kept.is_empty()) {
        (false, false) => println!("kept {} (--purge removes them)", kept.join(" and ")),
        (true, false) => println!("{} is outside of the service's own directories and stays", kept.join(" and ")),
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_packaged_unit_and_configuration_name_the_same_places_as_the_code() {
        assert_eq!(UNIT.matches(layout::PACKAGED_PROGRAM).count(), 1);
        assert_eq!(Config::parse(CONFIG).unwrap().store.path.parent(), Some(Path::new(layout::STATE_DIRECTORY)));
        assert_eq!(Path::new("/").join(layout::CONFIG), Path::new(config::DEFAULT_PATH));
        assert!(UNIT.contains("StateDirectory=heron\n") && UNIT.contains("Type=notify\n"));
        assert!(unit_for(Path::new("/opt/heron")).contains("ExecStart=/opt/heron serve\n"));
    }
}
