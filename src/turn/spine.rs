//! Chains of long conversations, kept between calls so that a resent history costs next to nothing.
//!
//! An agent sends its whole history with every call. The chain of the call before is kept as a *spine*; of the next
//! call only the messages beyond the common ones are read and folded. Equal messages are met as the same allocation, so
//! comparing a history is comparing pointers.

use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::wire::{Message, MessageHash, Role};

use super::chain::{Atom, Folds, Position, Spread, atoms};
use super::recent::Recent;

/// Conversations that begin alike have a spine each, up to so many.
const ALIKE: usize = 4;
/// A spine loses at most so many messages to a conversation that branches off; for a larger difference another is begun.
const LOST: usize = 8;
/// At most so many messages are in spines.
const HELD: usize = 200_000;
const SPINES: usize = 256;

/// What became of the messages of the call before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// It is not known.
    Unknown,
    /// They are all there.
    None,
    /// This one (its place in the call) is another, or is gone.
    At(usize),
}

/// The chain of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain<'a> {
    /// Its positions, in order; messages are counted from `base` on.
    pub positions: &'a [Position],
    /// How many system messages stand first.
    pub base: usize,
    /// What became of the messages of the call before.
    pub change: Change,
}

#[derive(Debug, Default)]
struct Spine {
    messages: Vec<Arc<Message>>,
    positions: Vec<Position>,
}

/// Atoms of messages by content address, and the spines.
#[derive(Debug)]
pub(super) struct Memo {
    atoms: Recent<MessageHash, Arc<[Atom]>, BuildHasherDefault<Spread>>,
    spines: Recent<MessageHash, Vec<Spine>, BuildHasherDefault<Spread>>,
    held: usize,
    loose: Spine,
}

impl Memo {
    /// Remembers the atoms of at least `bound` messages.
    pub fn new(bound: usize) -> Memo {
        Memo { atoms: Recent::new(bound), spines: Recent::new(SPINES), held: 0, loose: Spine::default() }
    }

    /// The chain of a call that is only looked at: no spine follows it, so that what became of the messages of the call
    /// before can still be told when the call is done.
    pub fn glance(&mut self, messages: &[Arc<Message>], start: Folds) -> Chain<'_> {
        let base = messages.iter().take_while(|message| message.role == Role::System).count();
        let messages = messages.get(base..).unwrap_or_default();
        let alike = messages.first().filter(|_| start == Folds::START).and_then(|first| self.spines.peek(&first.hash));
        let best = alike.into_iter().flatten().max_by_key(|spine| common(&spine.messages, messages));
        let known = best.map_or(0, |spine| common(&spine.messages, messages));
        self.loose.messages.clear();
        self.loose.positions.clear();
        if let Some(spine) = best {
            let kept = spine.positions.partition_point(|position| position.message < known);
            self.loose.messages.extend_from_slice(spine.messages.get(..known).unwrap_or_default());
            self.loose.positions.extend_from_slice(spine.positions.get(..kept).unwrap_or_default());
        }
        extend(&mut self.loose, &mut self.atoms, messages.get(known..).unwrap_or_default(), start);
        Chain { positions: &self.loose.positions, base, change: Change::Unknown }
    }

    /// The chain of a call's messages, starting from `start`.
    pub fn chain(&mut self, messages: &[Arc<Message>], start: Folds) -> Chain<'_> {
        let base = messages.iter().take_while(|message| message.role == Role::System).count();
        let messages = messages.get(base..).unwrap_or_default();
        let key = messages.first().map(|message| message.hash).filter(|hash| hash.0 != [0; 16]);
        let Some(key) = key.filter(|_| start == Folds::START) else {
            self.loose.messages.clear();
            self.loose.positions.clear();
            extend(&mut self.loose, &mut self.atoms, messages, start);
            return Chain { positions: &self.loose.positions, base, change: Change::Unknown };
        };
        if self.held > HELD {
            self.spines = Recent::new(SPINES);
            self.held = 0;
        }
        if self.spines.touch(&key).is_none() {
            self.spines.insert(key, Vec::new());
        }
        let Some(alike) = self.spines.touch(&key) else {
            return Chain { positions: &[], base, change: Change::Unknown };
        };
        let (place, common) = choose(alike, messages);
        let Some(spine) = alike.get_mut(place) else {
            return Chain { positions: &[], base, change: Change::Unknown };
        };
        let change = match common {
            0 => Change::Unknown,
            common if common == spine.messages.len() => Change::None,
            common => Change::At(base + common),
        };
        let before = spine.messages.len();
        spine.messages.truncate(common);
        let kept = spine.positions.partition_point(|position| position.message < common);
        spine.positions.truncate(kept);
        extend(spine, &mut self.atoms, messages.get(common..).unwrap_or_default(), start);
        self.held = (self.held + spine.messages.len()).saturating_sub(before);
        Chain { positions: &spine.positions, base, change }
    }
}

/// The spine with the longest beginning in common, and how long that is; a new one where too much would be lost.
fn choose(alike: &mut Vec<Spine>, messages: &[Arc<Message>]) -> (usize, usize) {
    let best = alike
        .iter()
        .enumerate()
        .map(|(place, spine)| (common(&spine.messages, messages), place))
        .max_by_key(|(common, place)| (*common, std::cmp::Reverse(*place)));
    match best {
        Some((common, place)) => {
            let lost = alike.get(place).map_or(0, |spine| spine.messages.len() - common);
            if lost <= LOST || alike.len() >= ALIKE {
                return (place, common);
            }
            alike.push(Spine::default());
            (alike.len() - 1, 0)
        }
        None => {
            alike.push(Spine::default());
            (0, 0)
        }
    }
}

/// Messages compared at once.
const RUN: usize = 64;

/// How many messages two conversations begin with in common. A resent history is the same allocations again, so whole runs of
/// them are compared without looking at each: a history of thousands costs a few microseconds.
fn common(known: &[Arc<Message>], messages: &[Arc<Message>]) -> usize {
    let mut count = 0;
    for (known, messages) in known.chunks(RUN).zip(messages.chunks(RUN)) {
        let pairs = known.iter().zip(messages);
        if known.len() == messages.len() && pairs.clone().fold(true, |all, (a, b)| all & Arc::ptr_eq(a, b)) {
            count += known.len();
            continue;
        }
        let same = pairs.take_while(|(a, b)| is_same(a, b)).count();
        count += same;
        if same < known.len() || same < messages.len() {
            break;
        }
    }
    count
}

fn is_same(a: &Arc<Message>, b: &Arc<Message>) -> bool {
    Arc::ptr_eq(a, b) || a.hash == b.hash && a.hash.0 != [0; 16] && a.role == b.role
}

/// Adds messages to a chain.
fn extend(
    spine: &mut Spine,
    memo: &mut Recent<MessageHash, Arc<[Atom]>, BuildHasherDefault<Spread>>,
    messages: &[Arc<Message>],
    start: Folds,
) {
    let mut last = spine.positions.last().copied();
    for message in messages {
        let index = spine.messages.len();
        spine.messages.push(message.clone());
        if message.role == Role::System {
            continue;
        }
        let atoms = atoms_of(memo, message);
        for (place, atom) in atoms.iter().enumerate() {
            let next = if place + 1 == atoms.len() { index + 1 } else { index };
            let position = Position::after(last.as_ref(), start, atom, index, next);
            spine.positions.push(position);
            last = Some(position);
        }
    }
}

fn atoms_of(memo: &mut Recent<MessageHash, Arc<[Atom]>, BuildHasherDefault<Spread>>, message: &Message) -> Arc<[Atom]> {
    if message.hash.0 == [0; 16] {
        return atoms(message).into();
    }
    if let Some(known) = memo.touch(&message.hash) {
        return known.clone();
    }
    let made: Arc<[Atom]> = atoms(message).into();
    memo.insert(message.hash, made.clone());
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Content;

    fn message(role: Role, n: u16, text: &str) -> Arc<Message> {
        let mut hash = [1; 16];
        hash[..2].copy_from_slice(&n.to_le_bytes());
        Arc::new(Message { role, content: vec![Content::Text { text: text.into() }], hash: MessageHash(hash) })
    }

    fn history(count: u16) -> Vec<Arc<Message>> {
        (0..count)
            .map(|n| message(if n % 2 == 0 { Role::User } else { Role::Assistant }, n, &format!("message {n}")))
            .collect()
    }

    fn anew(messages: &[Arc<Message>]) -> Vec<Position> {
        Memo::new(10_000).chain(messages, Folds::START).positions.to_vec()
    }

    #[test]
    fn a_kept_chain_equals_one_folded_anew_however_the_history_changes() {
        let mut memo = Memo::new(10_000);
        let whole = history(60);
        let mut edited = whole.clone();
        edited[30] = message(Role::User, 900, "edited");
        let mut trimmed = whole.clone();
        trimmed.drain(1..20);
        let other_words: Vec<_> = whole.iter().map(|m| Arc::new((**m).clone())).collect();
        let with_system: Vec<_> = [message(Role::System, 901, "be good")].into_iter().chain(whole.clone()).collect();
        let inside: Vec<_> =
            whole[..40].iter().cloned().chain([message(Role::System, 902, "x")]).chain(whole[40..].to_vec()).collect();
        let orders =
            [&whole[..20], &whole, &whole[..50], &edited, &whole, &trimmed, &other_words, &with_system, &inside];
        for messages in orders {
            assert_eq!(memo.chain(messages, Folds::START).positions, anew(messages));
        }
    }

    #[test]
    fn the_message_that_changed_is_known() {
        let mut memo = Memo::new(10_000);
        let whole = history(40);
        assert_eq!(memo.chain(&whole[..30], Folds::START).change, Change::Unknown);
        assert_eq!(memo.chain(&whole, Folds::START).change, Change::None);
        let mut edited = whole.clone();
        edited[37] = message(Role::User, 900, "edited");
        assert_eq!(memo.chain(&edited, Folds::START).change, Change::At(37));
    }

    #[test]
    fn a_glance_reads_the_same_chain_and_leaves_no_trace() {
        let mut memo = Memo::new(10_000);
        let whole = history(40);
        memo.chain(&whole[..30], Folds::START);
        let mut edited = whole.clone();
        edited[27] = message(Role::User, 900, "edited");
        for messages in [&whole, &edited, &whole[5..].to_vec(), &Vec::new()] {
            assert_eq!(memo.glance(messages, Folds::START).positions, anew(messages));
        }
        assert_eq!(memo.chain(&edited, Folds::START).change, Change::At(27));
    }

    #[test]
    fn spines_are_bounded() {
        let mut memo = Memo::new(10_000);
        let whole = history(1_000);
        for n in 0..300u16 {
            let mut messages = whole.clone();
            messages[0] = message(Role::User, 1_000 + n, "another");
            memo.chain(&messages, Folds::START);
            assert!(memo.held <= HELD + 1_000);
        }
    }
}
