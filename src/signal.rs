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
            std::process::exit(130);
        }
        interrupted = true;
        raised.stop();
    })
    .context("cannot install the signal handler")?;
    Ok(stop)
}

/// Blocks until the flag is raised.
pub fn wait(stop: &StopFlag) {
    while !stop.is_stopped() {
        std::thread::sleep(Duration::from_millis(50));
    }
}
