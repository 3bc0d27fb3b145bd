//! The configuration file: one format (TOML), one struct, documented defaults.
//!
//! `heron serve` reads `/etc/heron/heron.toml` (or `--config FILE`); every key has a default, so that an empty or missing file works.
//! An unknown key is an error that names the nearest known one. `docs/operate.md` and `packaging/heron.toml` show all of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::event::Nanos;
use crate::price::Rule;
use crate::proc::select::Wanted;
use crate::store::Keep;

/// An empty database takes some; a limit below this would keep nothing.
const LEAST_MIB: u64 = 16;

/// Where the service's configuration is.
pub const DEFAULT_PATH: &str = "/etc/heron/heron.toml";

/// The whole configuration.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The console and the API.
    pub console: Console,
    /// What is kept.
    pub store: StoreConfig,
    /// How it is captured.
    pub capture: Capture,
    /// Which processes are agents, beside the built-in rules.
    pub watch: Vec<WatchRule>,
    /// What calls cost, before the built-in list prices.
    pub price: Vec<Rule>,
}

/// The console and the API.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Console {
    /// Whether to serve it.
    pub enabled: bool,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Default for Console {
    fn default() -> Console {
        Console { enabled: true, port: 3000 }
    }
}

/// What is kept.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// The database.
    pub path: PathBuf,
    /// Calls older than this many days are removed; 0 keeps everything.
    pub keep_days: u32,
    /// The oldest calls are removed when the data in the database takes more than this many MiB (at least 16); 0 is no
    /// limit. The file may be up to twice as long: room is freed by writing anew what is kept.
    pub max_mib: u64,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig { path: PathBuf::from("/var/lib/heron/heron.duckdb"), keep_days: 30, max_mib: 0 }
    }
}

impl StoreConfig {
    /// What is kept; `None` is everything.
    pub fn keep(&self) -> Option<Keep> {
        const DAY: u64 = 86_400 * 1_000_000_000;
        let keep = Keep {
            max_age: (self.keep_days > 0).then(|| Nanos(u64::from(self.keep_days).saturating_mul(DAY))),
            max_bytes: (self.max_mib > 0).then(|| self.max_mib.saturating_mul(1 << 20)),
        };
        (keep != Keep::default()).then_some(keep)
    }
}

/// How it is captured.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capture {
    /// Size of the kernel's ring for data, in MiB; a power of two.
    pub ring_mib: u32,
    /// Decode workers; 0 chooses by the number of processors.
    pub workers: usize,
    /// Whether the built-in rules for known agents are used.
    pub builtin_rules: bool,
}

impl Default for Capture {
    fn default() -> Capture {
        Capture { ring_mib: 16, workers: 0, builtin_rules: true }
    }
}

/// A process matches when all keys that are given match. A rule without keys matches nothing.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchRule {
    /// What to call the agent.
    pub name: String,
    /// The executable's path, or its last component; `*` stands for any characters.
    pub exe: Option<String>,
    /// The kernel's short name.
    pub comm: Option<String>,
    /// Some argument contains this text.
    pub arg: Option<String>,
    /// The cgroup's path begins with this.
    pub cgroup: Option<String>,
    /// The user id.
    pub uid: Option<u32>,
}

impl WatchRule {
    /// The rule as conditions on a process.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            comm: self.comm.clone(),
            exe: self.exe.clone(),
            arg: self.arg.clone(),
            cgroup: self.cgroup.clone(),
            container: None,
            uid: self.uid,
        }
    }
}

impl Config {
    /// Reads a file. The error has the file's name, the line, and for an unknown key the nearest known one.
    pub fn read(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Config::parse(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
    }

    /// The file at the default path, or the defaults when there is none.
    pub fn read_default() -> Result<Config> {
        match Path::new(DEFAULT_PATH) {
            path if path.exists() => Config::read(path),
            _ => Ok(Config::default()),
        }
    }

    /// Parses a configuration.
    pub fn parse(text: &str) -> Result<Config> {
        let config: Config = match toml::from_str(text) {
            Ok(config) => config,
            Err(error) => bail!("{}{}", error.to_string().trim_end(), suggestion(error.message())),
        };
        if !config.capture.ring_mib.is_power_of_two() {
            bail!("capture.ring_mib is {}, but must be a power of two", config.capture.ring_mib);
        }
        if (1..LEAST_MIB).contains(&config.store.max_mib) {
            bail!("store.max_mib is {}, but must be 0 (no limit) or at least {LEAST_MIB}", config.store.max_mib);
        }
        if config.watch.iter().any(|rule| rule.wanted().is_empty()) {
            bail!("a [[watch]] rule has no condition: give it exe, comm, arg, cgroup or uid");
        }
        Ok(config)
    }
}

/// serde's message is "unknown field `a`, expected one of `b`, `c`": the nearest of the expected ones, as a question.
fn suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (true, Some(unknown)) = (message.contains("unknown field"), quoted.next()) else { return String::new() };
    let nearest = quoted.map(|known| (edit_distance(unknown, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 3 => format!("\ndid you mean `{known}`?"),
        _ => String::new(),
    }
}

/// Levenshtein's distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_documented_defaults() {
        let config = Config::parse("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!((config.console.port, config.store.keep_days, config.capture.ring_mib), (3000, 30, 16));
    }

    #[test]
    fn the_packaged_file_shows_the_defaults() {
        assert_eq!(Config::parse(include_str!("../packaging/heron.toml")).unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest_one() {
        let error = Config::parse("[console]\nprot = 3001\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("did you mean `port`?"), "{error}");
    }

    #[test]
    fn a_rule_is_read_with_all_its_keys() {
        let text = "[[watch]]\nname = \"mine\"\nexe = \"*/agent\"\ncomm = \"agent\"\narg = \"serve\"\ncgroup = \"/a\"\nuid = 7\n";
        let rule = Config::parse(text).unwrap().watch.remove(0);
        assert_eq!((rule.name.as_str(), rule.exe.as_deref(), rule.uid), ("mine", Some("*/agent"), Some(7)));
    }

    #[test]
    fn what_is_kept_follows_from_days_and_size_and_zero_is_no_limit() {
        let keep = |text: &str| Config::parse(text).unwrap().store.keep();
        assert_eq!(keep("[store]\nkeep_days = 0\n"), None);
        let both = Keep { max_age: Some(Nanos(2 * 86_400_000_000_000)), max_bytes: Some(50 << 20) };
        assert_eq!(keep("[store]\nkeep_days = 2\nmax_mib = 50\n"), Some(both));
    }

    #[test]
    fn a_limit_that_keeps_nothing_and_a_rule_without_condition_are_refused() {
        let error = |text: &str| Config::parse(text).unwrap_err().to_string();
        assert!(error("[store]\nmax_mib = 1\n").contains("at least 16"));
        assert!(error("[[watch]]\nname = \"mine\"\n").contains("no condition"));
    }

    #[test]
    fn a_price_is_read_with_all_its_keys() {
        let text = "[[price]]\nmodel = \"mine-*\"\ninput = 2.0\noutput = 8\ncache_read = 0.2\ncache_write = 2.5\ncache_write_1h = 4\nreasoning = 9\ncontext = 1000\n";
        let rule = Config::parse(text).unwrap().price.remove(0);
        assert_eq!((rule.model.as_str(), rule.output, rule.context), ("mine-*", Some(8.0), Some(1_000)));
        let error = Config::parse("[[price]]\nmodle = \"x\"\n").unwrap_err().to_string();
        assert!(error.contains("did you mean `model`?"), "{error}");
    }

    #[test]
    fn a_ring_that_is_no_power_of_two_is_refused() {
        assert!(Config::parse("[capture]\nring_mib = 12\n").unwrap_err().to_string().contains("power of two"));
    }
}
