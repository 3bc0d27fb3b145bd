//! Opens a database for no other reason than to see whether it can be: run in a child process, because DuckDB aborts on
//! a damaged write-ahead log.

use std::path::Path;
use std::process::ExitCode;

use duckdb::{Config, Connection};

/// The body of the hidden verb `heron __check-db PATH`: success when the file opens; else DuckDB's reason on standard error.
pub fn check_database(path: &Path) -> ExitCode {
    let opened = Config::default()
        .enable_autoload_extension(false)
        .and_then(|config| Connection::open_with_flags(path, config))
        .and_then(|connection| connection.execute_batch("SELECT count(*) FROM duckdb_tables()"));
    match opened {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
