//! Who takes the results: JSON lines, the store, the live hub.

use std::io::Write;
use std::sync::Arc;

use crate::capture::Encrypted;
use crate::event::{ProcessEvent, ProcessInfo};
use crate::output;
use crate::turn::{Finding, Placement, Turn, TurnId};
use crate::wire::Call;

/// Something the outlets are told.
#[derive(Clone)]
pub enum Fact<'a> {
    /// A process event.
    Process(&'a ProcessEvent),
    /// A call began, went on, or (once) is done.
    Call {
        /// The call.
        call: Arc<Call>,
        /// Where it belongs, where known.
        place: Option<Placement>,
        /// Who made it, where known.
        process: Option<Arc<ProcessInfo>>,
        /// Nothing more will come.
        done: bool,
    },
    /// A call told earlier belongs elsewhere.
    Placed(Placement),
    /// A turn began, changed or ended.
    Turn {
        /// The turn.
        turn: Arc<Turn>,
        /// Who made its first call, where known.
        process: Option<Arc<ProcessInfo>>,
    },
    /// A turn that was shown turned out to be none.
    Dropped(TurnId),
    /// A finding.
    Finding(Arc<Finding>),
    /// A connection that stayed closed; told when the source has ended.
    Encrypted(&'a Encrypted),
}

/// Takes facts. The set is open (stores, exporters), hence a trait.
pub trait Outlet: Send {
    /// Takes a fact; must not block for long, and never fails: it keeps its own error and says it.
    fn take(&mut self, fact: &Fact<'_>);

    /// Whether it wants calls that are under way.
    fn shows_progress(&self) -> bool {
        false
    }

    /// A batch of facts is complete: a good moment to flush.
    fn batch_end(&mut self) {}

    /// Nothing more will come.
    fn finish(&mut self) {}
}

/// Writes one JSON object per line when a call or a turn is complete, and in the end one for each connection that stayed closed
/// (docs/output.md).
pub struct JsonLines<W: Write + Send> {
    out: std::io::BufWriter<W>,
    failed: bool,
}

impl<W: Write + Send> JsonLines<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> JsonLines<W> {
        JsonLines { out: std::io::BufWriter::with_capacity(1 << 16, out), failed: false }
    }

    fn line(&mut self, line: &str) {
        let written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        self.check(written);
    }

    /// A reader that went away (`| head`) is no error; a full disk is said once.
    fn check(&mut self, result: std::io::Result<()>) {
        let Err(error) = result else { return };
        if !self.failed && error.kind() != std::io::ErrorKind::BrokenPipe {
            tracing::error!("cannot write the JSON output ({error}); capturing goes on");
        }
        self.failed = true;
    }
}

impl<W: Write + Send> Outlet for JsonLines<W> {
    fn take(&mut self, fact: &Fact<'_>) {
        if self.failed {
            return;
        }
        match fact {
            Fact::Call { call, place, process, done: true } => {
                let line = output::call_line(call, place.as_ref(), process.as_deref());
                self.line(&line);
            }
            Fact::Turn { turn, process } if turn.settled => {
                let line = output::turn_line(turn, process.as_deref());
                self.line(&line);
            }
            Fact::Encrypted(encrypted) => self.line(&output::encrypted_line(encrypted)),
            Fact::Finding(finding) => {
                let line = output::finding_line(finding);
                self.line(&line);
            }
            _ => {}
        }
    }

    fn batch_end(&mut self) {
        if !self.failed {
            let flushed = self.out.flush();
            self.check(flushed);
        }
    }

    fn finish(&mut self) {
        self.batch_end();
    }
}
