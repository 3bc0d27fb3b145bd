//! Starting a command as if heron were not there: whose user, which environment, which file, and a child that is held
//! until its hooks are set.
//!
//! Must not know BPF: it answers which process and which programs, and lets the child go when told. The child is heron
//! itself run again as a small helper ([`become_command`]), which waits on a pipe and then becomes the command: the pid
//! stays, nothing of heron stays in it, and a heron that dies early leaves a helper that ends by itself.

mod chain;
mod guard;
mod search;
mod user;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

pub use chain::programs;
pub use guard::{Guard, GuardArgs, guard};
pub use user::Caller;

/// The hidden verb of the helper.
pub const HELPER: &str = "__launch";

/// A command, resolved.
#[derive(Debug)]
pub struct Plan {
    /// The file that is executed.
    pub file: PathBuf,
    /// As the user typed it: `argv[0]`.
    pub name: OsString,
    /// The arguments.
    pub args: Vec<OsString>,
    /// Who runs it.
    pub caller: Caller,
    /// The programs that it becomes, one after the other (interpreters of scripts, binaries behind launchers).
    pub programs: Vec<PathBuf>,
}

impl Plan {
    /// Resolves a command line for the calling user.
    pub fn new(command: &[OsString]) -> Result<Plan> {
        let caller = Caller::find();
        let Some((name, args)) = command.split_first() else {
            bail!("no command given: heron exec -- COMMAND [ARGUMENTS]");
        };
        let path = caller.variable("PATH").unwrap_or_default();
        let file = search::find(name, &path)?;
        let programs = programs(&file, &path);
        Ok(Plan { file, name: name.clone(), args: args.to_vec(), caller, programs })
    }
}

/// A child that waits.
#[derive(Debug)]
pub struct Held {
    /// The child; it is the helper now, and the command later.
    pub child: Child,
    go: Go,
}

/// Lets the child go. Dropping it unused ends the helper without running the command.
#[derive(Debug)]
pub struct Go(File);

impl Go {
    /// Lets the child become the command.
    pub fn go(mut self) -> Result<()> {
        self.0.write_all(b"g").context("the held child has ended before it could start")
    }
}

impl Held {
    /// Starts the helper, in the same terminal, session and process group.
    pub fn start(plan: &Plan) -> Result<Held> {
        let (wait, go) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        keep_over_exec(&wait)?;
        let mut helper = Command::new("/proc/self/exe");
        helper.arg(HELPER).arg("--fd").arg(wait.as_raw_fd().to_string());
        if let Some(id) = plan.caller.switch_to() {
            helper
                .arg("--uid")
                .arg(id.uid.to_string())
                .arg("--gid")
                .arg(id.gid.to_string())
                .arg("--user")
                .arg(&id.name);
        }
        helper.arg("--file").arg(&plan.file).arg("--").arg(&plan.name).args(&plan.args);
        helper.env_clear().envs(plan.caller.environment());
        let child = helper.spawn().context("cannot start a process")?;
        Ok(Held { child, go: Go(File::from(go)) })
    }

    /// The child and the way to let it go.
    pub fn split(self) -> (Child, Go) {
        (self.child, self.go)
    }
}

fn keep_over_exec(fd: &OwnedFd) -> Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).context("cannot prepare a pipe")?;
    Ok(())
}

/// What the helper is told.
#[derive(clap::Args, Debug)]
pub struct HelperArgs {
    /// The pipe to wait on.
    #[arg(long)]
    fd: i32,
    /// The user to become.
    #[arg(long, requires_all = ["gid", "user"])]
    uid: Option<u32>,
    /// The group to become.
    #[arg(long)]
    gid: Option<u32>,
    /// The user's name, for the other groups.
    #[arg(long)]
    user: Option<String>,
    /// The file to execute.
    #[arg(long)]
    file: PathBuf,
    /// The command as typed.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// The helper: waits, becomes the user, becomes the command. Returns only when that failed.
pub fn become_command(args: &HelperArgs) -> anyhow::Error {
    match wait(args.fd) {
        Ok(true) => {}
        Ok(false) => std::process::exit(1), // heron said why, or is dead
        Err(error) => return error,
    }
    if let Err(error) = become_user(args) {
        return error;
    }
    // Heron blocks the signals that it waits for, and a mask is inherited: the command must get its own.
    if let Err(error) = nix::sys::signal::SigSet::all().thread_unblock() {
        return anyhow::Error::new(error).context("cannot unblock signals");
    }
    let (name, rest) = args.command.split_first().map_or((OsStr::new(""), &[][..]), |(n, r)| (n.as_os_str(), r));
    let error = Command::new(&args.file).arg0(name).args(rest).exec();
    anyhow::Error::new(error).context(format!("cannot run {}", args.file.display()))
}

#[allow(unsafe_code)]
fn wait(fd: i32) -> Result<bool> {
    // SAFETY: the descriptor was handed to this process for this one use.
    let mut pipe = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let mut byte = [0; 1];
    Ok(pipe.read(&mut byte).context("cannot wait for heron")? == 1)
}

fn become_user(args: &HelperArgs) -> Result<()> {
    let (Some(uid), Some(gid), Some(name)) = (args.uid, args.gid, &args.user) else {
        return Ok(());
    };
    let (uid, gid) = (nix::unistd::Uid::from_raw(uid), nix::unistd::Gid::from_raw(gid));
    let name = std::ffi::CString::new(name.as_str())?;
    nix::unistd::initgroups(&name, gid).context("cannot take the user's groups")?;
    nix::unistd::setgid(gid).context("cannot take the user's group")?;
    nix::unistd::setuid(uid).context("cannot become the user")?;
    Ok(())
}

/// Whether the path is a file that somebody may execute.
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
