//! One rule about cost: a turn far above what is usual in its session.
//!
//! By list prices where those of all the session's turns are known; else by tokens, weighed as all vendors' prices weigh
//! them against each other, roughly.

use crate::price::Cost;
use crate::turn::{Severity, Turn, TurnId};
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
    turns: Vec<(TurnId, Spent)>,
}

#[derive(Clone, Copy, Debug)]
struct Spent {
    /// Tokens weighed against fresh input tokens.
    weighed: u64,
    /// Picodollars, where all is known.
    price: Option<u64>,
}

impl Spent {
    fn of(turn: &Turn) -> Spent {
        let price = turn.cost.filter(|cost| cost.complete).map(|cost| cost.total());
        Spent { weighed: weigh(&turn.usage), price }
    }
}

pub(super) fn look(seen: &Seen<'_>, session: &mut Session, said: &mut Vec<Said>) {
    let turn = &seen.open.turn;
    if turn.parent_turn_id.is_some() {
        return;
    }
    let now = Spent::of(turn);
    match session.turns.iter_mut().find(|(id, _)| *id == turn.id) {
        Some((_, known)) => *known = now,
        None => session.turns.push((turn.id, now)),
    }
    if session.turns.len() > KEPT {
        session.turns.remove(0);
    }
    let others: Vec<Spent> = session.turns.iter().filter(|(id, _)| *id != turn.id).map(|(_, spent)| *spent).collect();
    if others.len() < TURNS || now.weighed < WORTH_A_WORD {
        return;
    }
    let prices: Option<Vec<u64>> = others.iter().map(|spent| spent.price).collect();
    let sentence = match (now.price, prices) {
        (Some(price), Some(prices)) => far_above(price, prices).map(|usual| {
            let dollars = |picodollars: u64| format!("${:.2}", Cost::dollars(picodollars));
            format!(
                "This turn has cost more than {MULTIPLE} times the session's usual: {} at list prices, against {}.",
                dollars(price),
                dollars(usual)
            )
        }),
        _ => far_above(now.weighed, others.iter().map(|spent| spent.weighed).collect()).map(|usual| {
            format!(
                "This turn has cost more than {MULTIPLE} times the session's usual: as much as {} fresh input tokens, against {}.",
                tokens(now.weighed),
                tokens(usual)
            )
        }),
    };
    let calls = || turn.call_ids.iter().rev().take(16).rev().copied().collect();
    said.extend(sentence.map(|sentence| Said::new("cost_spike", Severity::Warning, sentence, calls())));
}

/// The usual (the median), when the cost is far above it.
fn far_above(cost: u64, mut others: Vec<u64>) -> Option<u64> {
    others.sort_unstable();
    let usual = others.get(others.len() / 2).copied()?;
    (cost >= usual.saturating_mul(MULTIPLE)).then_some(usual)
}

/// Tokens weighed against fresh input tokens.
fn weigh(usage: &Usage) -> u64 {
    let split = [usage.input_uncached, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h];
    let input = if split.iter().any(Option::is_some) {
        let [uncached, read, short, long] = split.map(Option::unwrap_or_default);
        [uncached, read / 10, short.saturating_mul(5) / 4, long.saturating_mul(2)]
            .into_iter()
            .fold(0, u64::saturating_add)
    } else {
        usage.input_total.unwrap_or_default()
    };
    let output = usage.output_total.or(usage.output_text).unwrap_or_default();
    input.saturating_add(output.saturating_mul(5))
}
