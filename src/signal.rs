//! Interrupts: the first ctrl-C asks the run to end and keep what it has, the second ends heron at once.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::capture::StopFlag;

/// A flag that SIGINT, SIGTERM and SIGHUP raise. A second one ends the process with exit code 130.
pub fn stop_on_interrupt() -> Result<StopFlag> {
    let stop = StopFlag::new();
    let raised = stop.clone();
    // Counted by itself: a run that ends on its own has raised the flag too, and a first ctrl-C then must lose nothing.
    let mut interrupted = false;
    ctrlc::set_handler(move || {
        if interrupted {
            end_at_once();
        }
        interrupted = true;
        raised.stop();
    })
    .context("cannot install the signal handler")?;
    Ok(stop)
}

/// Ends the process with exit code 130, whatever its threads do. Hooks go with it; the database's log has what was stored.
#[allow(unsafe_code)]
pub fn end_at_once() -> ! {
    // SAFETY: takes no locks and runs no handlers, which is the point: a thread that holds one may never let go.
    unsafe { libc::_exit(130) }
}

/// Ends the process after a time, if it has not ended by itself.
pub fn end_within(time: Duration) {
    let end = move || {
        std::thread::sleep(time);
        end_at_once();
    };
    if std::thread::Builder::new().name("heron-end".to_owned()).spawn(end).is_err() {
        end_at_once();
    }
}

/// Blocks until the flag is raised.
pub fn wait(stop: &StopFlag) {
    while !stop.is_stopped() {
        std::thread::sleep(Duration::from_millis(50));
    }
}
