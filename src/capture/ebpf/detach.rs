//! Takes hooks away, beside the thread that sets them.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

const DETACHERS: usize = 8;

/// Closes links on threads of its own: the kernel waits for grace periods, many at once as quickly as one.
#[derive(Default)]
pub(super) struct Detacher {
    threads: Vec<JoinHandle<()>>,
    next: Vec<Sender<Vec<OwnedFd>>>,
    turn: usize,
}

impl Detacher {
    /// Closes `links` some time soon.
    pub(super) fn detach(&mut self, links: Vec<OwnedFd>) {
        if self.next.len() < DETACHERS {
            let (give, take) = channel::<Vec<OwnedFd>>();
            let closing = move || take.into_iter().for_each(drop);
            if let Ok(thread) = std::thread::Builder::new().name("heron-detach".to_owned()).spawn(closing) {
                self.threads.push(thread);
                self.next.push(give);
            }
        }
        self.turn = self.turn.wrapping_add(1);
        if let Some(thread) = self.turn.checked_rem(self.next.len()).and_then(|turn| self.next.get(turn)) {
            // An error gives the links back, and they are closed here.
            drop(thread.send(links));
        }
    }
}

impl Drop for Detacher {
    fn drop(&mut self) {
        self.next.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that closes links panicked");
            }
        }
    }
}
