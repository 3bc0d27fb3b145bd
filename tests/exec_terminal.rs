//! `heron exec` on a real terminal, under a real interactive shell: the command has the terminal as if heron were not there.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A wait for something that never comes ends the test; nothing is expected at a certain time.
const PATIENCE_MS: u16 = 60_000;

/// Says what happens to it. Its first argument is what an interrupt does.
const COMMAND: &str = r"
import os, signal, sys, tty

def say(*words):
    os.write(1, (' '.join(map(str, words)) + '\r\n').encode())

def interrupted(*_):
    say('<interrupt>')
    if sys.argv[1] == 'ends':
        os._exit(37)

signal.signal(signal.SIGWINCH, lambda *_: say('<size', *os.get_terminal_size(), '>'))
signal.signal(signal.SIGCONT, lambda *_: say('<continued>'))
signal.signal(signal.SIGINT, interrupted)
if sys.argv[1] == 'raw':
    tty.setraw(0)
say('<ready', os.getpid(), *os.get_terminal_size(), os.isatty(0) and os.isatty(1) and os.isatty(2), '>')
while sys.argv[1] == 'raw':
    key = os.read(0, 1)
    say('<key', key[0], '>')
    if key == b'q':
        os.system('stty sane')
        os._exit(9)
while True:
    signal.pause()
";

/// A terminal with an interactive shell on it.
struct Terminal {
    shell: Child,
    master: File,
    device: PathBuf,
    seen: String,
    home: tempfile::TempDir,
}

impl Terminal {
    fn open() -> Terminal {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let device = nix::unistd::ttyname(&pty.slave).unwrap();
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("command.py"), COMMAND).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let shell = Command::new("setsid")
            .args(["--ctty", "bash", "--norc", "--noprofile", "-i"])
            .env("HOME", home.path())
            .env("HERON_DATA_DIR", home.path())
            .env("PS1", "")
            .env("TERM", "dumb")
            .env_remove("HERON_LOG")
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .unwrap();
        Terminal { shell, master: File::from(pty.master), device, seen: String::new(), home }
    }

    /// Types `heron exec -- COMMAND` into the shell.
    fn exec(&mut self, command: &str) {
        self.keys(&format!("'{}' exec --no-console --no-retention -- {command}\n", env!("CARGO_BIN_EXE_heron")));
    }

    fn script(&self, mode: &str) -> String {
        format!("python3 '{}' {mode}", self.home.path().join("command.py").display())
    }

    fn keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until `text` was shown, and takes everything up to it; what was before it.
    fn until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                let mut before = std::mem::replace(&mut self.seen, rest);
                before.truncate(at);
                return before;
            }
            let mut wait = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut wait, PollTimeout::from(PATIENCE_MS)).unwrap();
            assert!(ready > 0, "`{text}` was not shown, but: {}", self.seen);
            let mut bytes = [0; 4096];
            let read = self.master.read(&mut bytes).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    /// The exit code that the shell saw.
    fn code_is(&mut self, code: u8) {
        self.keys("echo \"<code $?>\"\n");
        self.until(&format!("<code {code}>"));
    }

    fn resize(&self, rows: u16, columns: u16) {
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let set = Command::new("stty").arg("-F").arg(&self.device).args(["rows", &rows, "cols", &columns]).status();
        assert!(set.unwrap().success());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn can_run(test: &str) -> bool {
    let obstacle = heron::capture::ebpf::facts::Facts::gather().obstacle().or_else(|| {
        let missing =
            ["/usr/bin/python3", "/bin/bash", "/usr/bin/setsid"].iter().find(|path| !Path::new(path).exists());
        missing.map(|path| format!("{path} is not there"))
    });
    if let Some(why) = &obstacle {
        eprintln!("SKIPPED {test}: {why}");
    }
    obstacle.is_none()
}

#[test]
fn size_job_control_and_interrupt_are_the_commands() {
    if !can_run("size_job_control_and_interrupt") {
        return;
    }
    let mut terminal = Terminal::open();
    terminal.exec(&terminal.script("ends"));
    terminal.until("<ready ");
    terminal.until(" 80 24 True >");
    // The size is set in two steps by stty: the command is told of the last one at least.
    terminal.resize(50, 132);
    terminal.until("132 50 >");
    terminal.keys("\x1a");
    terminal.until("Stopped");
    terminal.keys("fg\n");
    terminal.until("<continued>");
    terminal.keys("\x03");
    terminal.until("<interrupt>");
    terminal.until("nothing lost");
    terminal.code_is(37);
}

#[test]
fn the_second_interrupt_always_ends_heron_and_the_command_lives_on() {
    if !can_run("the_second_interrupt") {
        return;
    }
    let mut terminal = Terminal::open();
    terminal.exec(&terminal.script("ignores"));
    terminal.until("<ready ");
    let command: u32 = terminal.until(" ").parse().unwrap();
    let heron = heron::proc::parent(command).unwrap();
    // The first request comes from a process, and heron passes it on: when the command has it, heron has counted it. (Two
    // interrupts of a terminal that heron had no time to see in between are one.)
    kill(Pid::from_raw(heron.cast_signed()), Signal::SIGINT).unwrap();
    terminal.until("<interrupt>");
    terminal.keys("\x03");
    terminal.code_is(130);
    assert!(heron::proc::is_alive(command));
    kill(Pid::from_raw(command.cast_signed()), Signal::SIGTERM).unwrap();
}

#[test]
fn a_command_that_reads_keys_gets_the_interrupt_as_a_key() {
    if !can_run("a_command_that_reads_keys") {
        return;
    }
    let mut terminal = Terminal::open();
    terminal.exec(&terminal.script("raw"));
    terminal.until("<ready ");
    terminal.until(" 80 24 True >");
    for _ in 0..3 {
        terminal.keys("\x03");
        terminal.until("<key 3 >");
    }
    terminal.keys("q");
    terminal.until("nothing lost");
    terminal.code_is(9);
}

#[test]
fn a_shell_of_its_own_foreground_group_gives_the_terminal_back() {
    if !can_run("a_shell_of_its_own_foreground_group") {
        return;
    }
    let mut terminal = Terminal::open();
    // Spelled so that the shell's echo of this line does not show the prompt.
    terminal.exec("env PS1='<pro''mpt>' bash --norc --noprofile -i");
    terminal.until("<prompt>");
    terminal.keys("echo \"<inner $((40 + 2))>\"\n");
    terminal.until("<inner 42>");
    terminal.keys("exit 5\n");
    terminal.until("nothing lost");
    terminal.code_is(5);
}
