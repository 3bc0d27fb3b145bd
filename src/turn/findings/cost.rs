//! One rule about cost: a turn far above what is usual in its session.
//!
//! Prices are not known here; tokens are weighed as all vendors' prices weigh them against each other, roughly.

use crate::turn::{Severity, TurnId};
use crate::wire::Usage;

use super::{Said, Seen, tokens};

/// So many earlier turns make a usual.
const TURNS: usize = 5;
/// A turn above this multiple of the usual is said.
const MULTIPLE: u64 = 8;
/// A turn cheaper than this (in weighed tokens) is never said.
const WORTH_A_WORD: u64 = 200_000;
const KEPT: usize = 32;

/// The costs of a session's turns, in the order of their beginnings.
#[derive(Debug, Default)]
pub(super) struct Session {
    turns: Vec<(TurnId, u64)>,
}

pub(super) fn look(seen: &Seen<'_>, session: &mut Session, said: &mut Vec<Said>) {
    let turn = &seen.open.turn;
    if turn.parent_turn_id.is_some() {
        return;
    }
    let cost = weigh(&turn.usage);
    match session.turns.iter_mut().find(|(id, _)| *id == turn.id) {
        Some((_, known)) => *known = cost,
        None => session.turns.push((turn.id, cost)),
    }
    if session.turns.len() > KEPT {
        session.turns.remove(0);
    }
    let mut others: Vec<u64> = session.turns.iter().filter(|(id, _)| *id != turn.id).map(|(_, cost)| *cost).collect();
    others.sort_unstable();
    let Some(usual) = others.get(others.len() / 2).copied().filter(|_| others.len() >= TURNS) else { return };
    if cost >= WORTH_A_WORD && cost >= usual.saturating_mul(MULTIPLE) {
        let sentence = format!(
            "This turn has cost more than {MULTIPLE} times the session's usual: as much as {} fresh input tokens, against {}.",
            tokens(cost),
            tokens(usual)
        );
        said.push(Said::new(
            "cost_spike",
            Severity::Warning,
            sentence,
            turn.call_ids.iter().rev().take(16).rev().copied().collect(),
        ));
    }
}

/// Tokens weighed against fresh input tokens.
fn weigh(usage: &Usage) -> u64 {
    let split = [usage.input_uncached, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h];
    let input = if split.iter().any(Option::is_some) {
        let [uncached, read, short, long] = split.map(Option::unwrap_or_default);
        uncached + read / 10 + short * 5 / 4 + long * 2
    } else {
        usage.input_total.unwrap_or_default()
    };
    let output = usage.output_total.or(usage.output_text).unwrap_or_default();
    input.saturating_add(output.saturating_mul(5))
}
