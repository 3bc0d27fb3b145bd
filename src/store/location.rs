//! Where the database is, and how it is opened without harm.
//!
//! The surprising fact: DuckDB *aborts the process* on a damaged write-ahead log. So a file that has one is first opened in a
//! child process ([`super::check_database`]); if that dies, the log is moved aside and the rest of the file is used.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use duckdb::{Config, Connection};

use super::reader::Reader;
use super::writer::Writer;
use super::{StoreError, schema};

/// Where the rows live.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Location {
    /// In memory; gone when the program ends.
    Memory,
    /// In a file, made with mode 0600 (its folder with 0700) when it is missing.
    File(PathBuf),
}

/// How a store is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Where.
    pub location: Location,
    /// The program that opens the file first, as `PROGRAM __check-db PATH` (heron itself); `None` trusts the file.
    pub checker: Option<PathBuf>,
    /// How much memory the database may use, in MiB.
    pub memory_mib: u32,
    /// How many threads it may use.
    pub threads: u32,
}

impl Options {
    /// The defaults for a location: 96 MiB, one thread, no checker. More threads only wait for each other, awake: a
    /// replay's rows are few, and the two lists and the aggregates that people wait for take milliseconds.
    pub fn new(location: Location) -> Options {
        Options { location, checker: None, memory_mib: 96, threads: 1 }
    }
}

/// Why a store cannot be opened. The text is one sentence that says what to do.
#[derive(Debug, Clone)]
pub enum OpenError {
    /// Another process has the file.
    Locked {
        /// The file.
        path: PathBuf,
        /// The other process, where DuckDB names it.
        pid: Option<u32>,
    },
    /// The file is not a database, or is damaged.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What DuckDB says.
        why: String,
    },
    /// Folder or file cannot be made or read.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The tables cannot be made or are of a newer heron.
    Schema(StoreError),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::Locked { path, pid } => {
                write!(f, "the database {} is in use by another heron", path.display())?;
                if let Some(pid) = pid {
                    write!(f, " (pid {pid})")?;
                }
                f.write_str(": end it, or choose another file with --db")
            }
            OpenError::Damaged { path, why } => write!(
                f,
                "the database {} cannot be read ({why}): move it away, or choose another file with --db",
                path.display()
            ),
            OpenError::Io { path, why } => write!(
                f,
                "the database {} cannot be opened ({why}): check the folder's rights and free space, or choose another file with --db",
                path.display()
            ),
            OpenError::Schema(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

/// An open database.
pub struct Store {
    connection: Connection,
    reader: Arc<Reader>,
    path: Option<PathBuf>,
    recovered: Option<String>,
}

impl Store {
    /// Opens or makes the database with the default [`Options`].
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong and what to do.
    pub fn open(location: Location) -> Result<Store, OpenError> {
        Store::open_with(&Options::new(location))
    }

    /// Opens or makes the database.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong and what to do.
    pub fn open_with(options: &Options) -> Result<Store, OpenError> {
        let connection = config(options)
            .and_then(Connection::open_in_memory_with_flags)
            .map_err(|error| OpenError::Schema(error.into()))?;
        let (path, recovered) = match &options.location {
            Location::Memory => {
                connection
                    .execute_batch(&format!("ATTACH ':memory:' AS {NAME}"))
                    .map_err(|error| OpenError::Schema(error.into()))?;
                (None, None)
            }
            Location::File(path) => {
                prepare_file(path, &connection)
                    .map_err(|error| OpenError::Io { path: path.clone(), why: error.to_string() })?;
                let recovered = match &options.checker {
                    Some(checker) => recover(path, checker)?,
                    None => None,
                };
                attach(&connection, path, NAME, "").map_err(|error| open_error(path, &error.to_string()))?;
                (Some(path.clone()), recovered)
            }
        };
        use_file(&connection).map_err(OpenError::Schema)?;
        schema::migrate(&connection).map_err(OpenError::Schema)?;
        if let Some(path) = &path {
            restrict(path);
        }
        let reader = another(&connection).map_err(OpenError::Schema)?;
        Ok(Store { connection, reader: Arc::new(Reader::new(reader)), path, recovered })
    }

    /// The file; `None` in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// A sentence when a damaged write-ahead log had to be moved aside.
    pub fn recovered(&self) -> Option<&str> {
        self.recovered.as_deref()
    }

    /// The reader; any number of threads may share it, beside the writer.
    pub fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.reader)
    }

    /// The one writer. It may move to a thread of its own.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn into_writer(self) -> Result<Writer, StoreError> {
        Writer::new(self.connection, self.path)
    }
}

fn config(options: &Options) -> duckdb::Result<Config> {
    // Where large queries may spill: beside the file.
    let spill = match &options.location {
        Location::Memory => None,
        Location::File(path) => path.to_str().map(|path| format!("{path}.tmp")),
    };
    let config = match spill {
        Some(folder) => Config::default().with("temp_directory", folder)?,
        None => Config::default(),
    };
    config
        .enable_autoload_extension(false)?
        .max_memory(&format!("{}MiB", options.memory_mib.max(64)))?
        .threads(i64::from(options.threads.max(1)))?
        // Each checkpoint writes the changed row groups of the file anew; what is in the log is in memory too.
        .with("checkpoint_threshold", "32MiB")
}

/// The name under which every connection knows the database.
const NAME: &str = "heron";

/// What is decided when a file is made. A newer storage version than DuckDB's default, for its compression of long
/// texts. Small blocks, because each table begins some of its own; in smaller ones integers are not compressed. Small row
/// groups, because a checkpoint writes every row group anew that has grown, and a list's newest rows are found by group.
const FORMAT: &str = ", STORAGE_VERSION 'latest', BLOCK_SIZE 65536, ROW_GROUP_SIZE 2048";

/// Attaches the file to a running DuckDB: starting one costs ten times as much as opening a file.
fn attach(connection: &Connection, path: &Path, name: &str, options: &str) -> duckdb::Result<()> {
    let text = path.to_str().ok_or_else(|| duckdb::Error::InvalidPath(path.to_owned()))?.replace('\'', "''");
    connection.execute_batch(&format!("ATTACH '{text}' AS {name} (TYPE duckdb{options})"))
}

/// Makes the database the one that a connection's statements mean.
fn use_file(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch(&format!("USE {NAME}"))?)
}

/// One more connection to the database.
pub(super) fn another(connection: &Connection) -> Result<Connection, StoreError> {
    let connection = connection.try_clone()?;
    use_file(&connection)?;
    Ok(connection)
}

fn prepare_file(path: &Path, connection: &Connection) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(std::io::Error::other("it is a folder")),
        Ok(_) => {
            OpenOptions::new().read(true).write(true).open(path)?;
            restrict(path);
            Ok(())
        }
        Err(_) => make_private_database(path, connection),
    }
}

/// DuckDB refuses an empty file, so a missing one is made under a private umask-proof name and moved into place.
fn make_private_database(path: &Path, connection: &Connection) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let fresh = PathBuf::from(name);
    // Claim the name with the right mode, so that nobody else's file is followed.
    let claimed: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    drop(claimed);
    fs::remove_file(&fresh)?;
    let made = attach(connection, &fresh, "fresh", FORMAT)
        .and_then(|()| connection.execute_batch("CHECKPOINT fresh; DETACH fresh"));
    if let Err(error) = made {
        // It may not have come to be attached.
        let _ = connection.execute_batch("DETACH DATABASE IF EXISTS fresh");
        let _ = fs::remove_file(&fresh);
        return Err(std::io::Error::other(error.to_string()));
    }
    restrict(&fresh);
    let placed = fs::hard_link(&fresh, path);
    fs::remove_file(&fresh)?;
    match placed {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn restrict(path: &Path) {
    for file in [path.to_owned(), log_of(path)] {
        // A file that cannot be restricted (another owner) was opened all the same; its mode is its owner's business.
        let _ = fs::set_permissions(file, fs::Permissions::from_mode(0o600));
    }
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".wal");
    PathBuf::from(name)
}

fn open_error(path: &Path, why: &str) -> OpenError {
    let path = path.to_owned();
    if why.contains("Could not set lock") || why.contains("Conflicting lock") {
        let pid = why
            .split("(PID ")
            .nth(1)
            .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
            .and_then(|pid| pid.parse().ok());
        return OpenError::Locked { path, pid };
    }
    let first_line = why.lines().next().unwrap_or(why).to_owned();
    if why.contains("IO Error") && !why.contains("not a valid DuckDB") && !why.contains("orrupt") {
        return OpenError::Io { path, why: first_line };
    }
    OpenError::Damaged { path, why: first_line }
}

/// Opens a file that has a write-ahead log in a child first, and moves the log aside when the child dies of it.
fn recover(path: &Path, checker: &Path) -> Result<Option<String>, OpenError> {
    let log = log_of(path);
    if fs::metadata(&log).map(|found| found.len()).unwrap_or(0) == 0 {
        return Ok(None);
    }
    let check = |path: &Path| {
        Command::new(checker)
            .arg("__check-db")
            .arg(path)
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(|error| OpenError::Io { path: path.to_owned(), why: format!("cannot run the check: {error}") })
    };
    let first = check(path)?;
    if first.status.success() {
        return Ok(None);
    }
    let why = String::from_utf8_lossy(&first.stderr).trim().to_owned();
    if let locked @ OpenError::Locked { .. } = open_error(path, &why) {
        return Err(locked);
    }
    let mut aside = log.as_os_str().to_owned();
    aside.push(format!(".damaged-{}", std::process::id()));
    let aside = PathBuf::from(aside);
    fs::rename(&log, &aside).map_err(|error| OpenError::Io { path: path.to_owned(), why: error.to_string() })?;
    if !check(path)?.status.success() {
        // The log was not the reason: put everything back as it was.
        let _ = fs::rename(&aside, &log);
        let why = if why.is_empty() { "opening it ended the child".to_owned() } else { why };
        return Err(OpenError::Damaged { path: path.to_owned(), why });
    }
    Ok(Some(format!(
        "the database's write-ahead log was damaged and is now {}: what was written last before the crash may be missing",
        aside.display()
    )))
}
