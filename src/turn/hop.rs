//! Hops: the same call seen twice, at a proxy's two sides or at both ends of one connection.

use crate::event::Nanos;
use crate::price::Cost;
use crate::wire::{Call, CallId};

use super::chain::{Position, atoms, run_of};
use super::graph::{Graph, Node, NodeId, Who};
use super::open::end_of;
use super::place::Place;
use super::stage::{Stage, client_of, server_of};
use super::{Placement, TurnUpdate};

/// Clocks of two observation points may differ by this much.
const HOP_SLACK: u64 = 20_000_000;

impl Stage {
    pub(super) fn hop(&mut self, call_id: CallId, node: NodeId) -> Placement {
        self.counters.hops += 1;
        let Some(node) = self.graph.node_mut(node) else {
            return Placement { call_id, turn_id: None, session_id: None, auxiliary: false, hop_of: None, cost: None };
        };
        if node.hops.len() < 8 {
            node.hops.push(call_id);
        }
        Placement {
            call_id,
            turn_id: node.turn,
            session_id: Some(node.session),
            auxiliary: false,
            hop_of: Some(node.call_id),
            cost: None,
        }
    }

    /// The call encloses one that was placed already: that one is the hop.
    pub(super) fn enclose(
        &mut self,
        call: &Call,
        cost: Option<Cost>,
        id: NodeId,
        out: &mut Vec<TurnUpdate>,
    ) -> Placement {
        let mut placement =
            Placement { call_id: call.id, turn_id: None, session_id: None, auxiliary: false, hop_of: None, cost: None };
        let Some(node) = self.graph.node_mut(id) else { return placement };
        self.counters.hops += 1;
        let inner = std::mem::replace(&mut node.call_id, call.id);
        (placement.turn_id, placement.session_id) = (node.turn, Some(node.session));
        (node.started, node.ended) = (call.times.request_first, end_of(call));
        node.who = Who::of(call);
        (node.server, node.client) = (server_of(call), client_of(call));
        if node.hops.len() < 8 {
            node.hops.push(inner);
        }
        for hop in &node.hops {
            out.push(TurnUpdate::Placed(Placement { call_id: *hop, hop_of: Some(call.id), ..placement }));
        }
        if let Some(open) = placement.turn_id.and_then(|turn| self.turns.get_mut(&turn)) {
            self.quiet.remove(&(open.last_end, open.turn.id));
            open.replace_call(inner, call, cost);
            self.quiet.insert((open.last_end, open.turn.id));
        }
        Placement { cost, ..placement }
    }
}

/// The same call seen twice: the same conversation, one inside the other in time, on another connection to another server (a proxy
/// between them) or on the same connection seen from both ends.
pub(super) fn find_hop(graph: &Graph, call: &Call, positions: &[Position], who: &Who) -> Option<Place> {
    let at = positions.last()?.folds;
    let (started, ended, server) = (call.times.request_first, end_of(call), server_of(call));
    graph.same_request(at.chain).find_map(|(id, node)| {
        let other_server = server.is_some() && node.server.is_some() && server != node.server;
        let other_process = who.process.is_some() && node.who.process.is_some() && who.process != node.who.process;
        let both_ends = other_process && call.client.is_some() && node.client == client_of(call);
        if node.who.conn == who.conn || node.at.strict != at.strict || !(other_server || both_ends) {
            return None;
        }
        if !same_answer(node, call) {
            return None;
        }
        if encloses(started, ended, node.started, node.ended) {
            Some(Place::Encloses { node: id })
        } else if encloses(node.started, node.ended, started, ended) {
            Some(Place::HopOf { node: id })
        } else {
            None
        }
    })
}

fn encloses(outer_start: Nanos, outer_end: Nanos, start: Nanos, end: Nanos) -> bool {
    outer_start <= start && end.0 <= outer_end.0.saturating_add(HOP_SLACK) && start < outer_end
}

fn same_answer(node: &Node, call: &Call) -> bool {
    let atoms = call.output.first().map(atoms).unwrap_or_default();
    let answer = (!atoms.is_empty()).then(|| run_of(&atoms).0);
    match (node.answer, answer) {
        (Some((known, _)), Some(answer)) => known == answer,
        (None, None) => true,
        _ => node.unanswered,
    }
}
