//! One decode worker: conn, http and wire for its share of the connections. Workers share nothing.

use std::sync::mpsc::{Receiver, SyncSender};

use anyhow::Result;

use super::assembler::Ordered;
use super::{Answer, Work};
use crate::capture::NoCall;
use crate::conn::{self, ConnInfo};
use crate::event::{Direction, Event, Nanos};
use crate::http::PartKind;
use crate::stats::Board;
use crate::wire::{self, CallUpdate, Origin};

/// The number of the answer that comes after every batch.
const LAST: u64 = u64::MAX;

struct Worker {
    conn: conn::Stage,
    wire: wire::Stage,
    parts: Vec<crate::http::Part>,
    updates: Vec<CallUpdate>,
    now: Nanos,
    /// To the source: what is no call.
    verdicts: Option<SyncSender<NoCall>>,
}

/// Decodes until the lane closes, then ends what is still open.
pub(super) fn run(
    number: usize,
    shows_progress: bool,
    work: &Receiver<Work>,
    answers: &SyncSender<Answer>,
    verdicts: Option<SyncSender<NoCall>>,
    board: &Board,
) -> Result<()> {
    let mut bounds = wire::Bounds::default();
    if !shows_progress {
        bounds.progress = Some(wire::Bounds::NOBODY_LOOKS);
    }
    let mut worker = Worker {
        conn: conn::Stage::new(conn::Bounds::default()),
        wire: wire::Stage::new(bounds),
        parts: Vec::new(),
        updates: Vec::new(),
        now: Nanos(0),
        verdicts,
    };
    for Work { seq, events } in work {
        let mut what = Vec::new();
        events.into_iter().for_each(|event| worker.event(event, &mut what));
        worker.publish(number, board);
        if answers.send(Answer { seq, what }).is_err() {
            return Ok(());
        }
    }
    let mut what = Vec::new();
    worker.end(&mut what);
    worker.publish(number, board);
    // A closed channel means that the assembler has failed, and it says so itself.
    answers.send(Answer { seq: LAST, what }).ok();
    Ok(())
}

impl Worker {
    fn event(&mut self, event: Event, what: &mut Vec<Ordered>) {
        self.now = self.now.max(event.at());
        self.conn.push(event, &mut self.parts);
        self.decode(what);
    }

    fn decode(&mut self, what: &mut Vec<Ordered>) {
        for part in self.parts.drain(..) {
            let (exchange, conn) = (part.exchange, part.exchange.conn);
            let decides =
                matches!(part.kind, PartKind::Request(_) | PartKind::RequestEnd) && !self.wire.is_no_call(exchange);
            self.wire.push(part, &|| self.conn.info(conn).map(origin), &mut self.updates);
            if let Some(verdicts) = self.verdicts.as_ref().filter(|_| decides && self.wire.is_no_call(exchange))
                && let Some(stream) = self.conn.h2_stream(exchange)
            {
                // A verdict that finds no room is not needed for anything but speed.
                let _ = verdicts.try_send(NoCall { conn, stream });
            }
        }
        let now = self.now;
        what.extend(self.updates.drain(..).map(|update| Ordered::update(now, update)));
    }

    fn end(&mut self, what: &mut Vec<Ordered>) {
        self.conn.finish(self.now, &mut self.parts);
        self.decode(what);
    }

    fn publish(&self, number: usize, board: &Board) {
        board.publish("http", number, self.conn.counters().into_iter().collect());
        board.publish("wire", number, self.wire.counters().named());
    }
}

/// What wire wants to know of a connection, in the client's and the server's words.
fn origin(info: &ConnInfo) -> Origin {
    let ends = info.open.endpoints.as_ref();
    let (local, remote) = (ends.and_then(|ends| ends.local.clone()), ends.and_then(|ends| ends.remote.clone()));
    let observed_is_server = info.client == Some(Direction::Received);
    let (client, server) = if observed_is_server { (remote, local) } else { (local, remote) };
    Origin {
        process: info.open.owner,
        client,
        server,
        transport: Some(info.open.transport.clone()),
        opened: info.open.at,
    }
}
