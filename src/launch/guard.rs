//! The guard of `--strict`: a process of its own that outlives heron for a moment and lets go on what heron left stopped.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::keep_over_exec;
use crate::proc;

/// The hidden verb of the guard.
pub const GUARD: &str = "__guard";

/// A running guard. Dropping it (or dying) makes it look for stopped processes, and end.
#[derive(Debug)]
pub struct Guard {
    _pipe: OwnedFd,
    child: Child,
}

impl Guard {
    /// Starts a guard for `root` and its descendants.
    pub fn start(root: u32) -> Result<Guard> {
        let (wait, pipe) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        keep_over_exec(&wait)?;
        let mut guard = Command::new("/proc/self/exe");
        guard.arg(GUARD).arg("--fd").arg(wait.as_raw_fd().to_string()).arg("--root").arg(root.to_string());
        let child = guard.stdin(Stdio::null()).spawn().context("cannot start a process")?;
        Ok(Guard { _pipe: pipe, child })
    }

    /// Ends the guard.
    pub fn end(self) {
        let Guard { _pipe, mut child } = self;
        drop(_pipe);
        if let Err(error) = child.wait() {
            tracing::debug!(%error, "the guard had ended");
        }
    }
}

/// What the guard is told.
#[derive(clap::Args, Debug)]
pub struct GuardArgs {
    /// The pipe that heron holds open.
    #[arg(long)]
    fd: i32,
    /// The command's first process.
    #[arg(long)]
    root: u32,
}

/// The guard: waits for heron's end, then continues what is stopped in the command's session.
#[allow(unsafe_code)]
pub fn guard(args: &GuardArgs) -> Result<()> {
    // Heron's signals are not the guard's: ctrl-C reaches the whole group.
    nix::sys::signal::SigSet::all().thread_block().context("cannot block signals")?;
    let session = proc::session(args.root);
    // SAFETY: the descriptor was handed to this process for this one use.
    let mut pipe = File::from(unsafe { OwnedFd::from_raw_fd(args.fd) });
    let mut byte = [0; 1];
    let _ = pipe.read(&mut byte); // the end of the file is what is waited for
    for pid in proc::stopped_in(session) {
        if let Ok(pid) = i32::try_from(pid) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT); // it has ended: nothing to continue
        }
    }
    Ok(())
}
