//! The `heron` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    heron::cmd::start_logging();
    heron::cmd::run()
}
