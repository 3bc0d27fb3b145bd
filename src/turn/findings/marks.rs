//! Which rules of `content` and `secrets` can apply to a text at all, found in one pass over it.
//!
//! Each rule needs one of a few phrases, and each phrase holds three letters that ordinary texts hardly have in a row. A
//! pass over the text looks for all of these at once; what it does not find needs no search of its own. Only a filter:
//! what it finds still has to be looked at.

/// A set of marks, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Marks(u64);

impl Marks {
    /// The mark of these three letters, which stand in [`MARKS`].
    pub(super) const fn mark(letters: &str) -> Marks {
        let mut at = 0;
        while at < MARKS.len() {
            if key(MARKS[at]) == key(letters) {
                return Marks(1 << at);
            }
            at += 1;
        }
        panic!("this mark is not in the table")
    }

    /// Whether some marks stand in both.
    pub(super) fn share(self, other: Marks) -> bool {
        self.0 & other.0 != 0
    }

    /// The marks of both.
    pub(super) const fn and(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }
}

/// Three letters each, lower case; of a phrase that goes on after them.
const MARKS: [&str; 33] = [
    // Orders.
    "gno", "sre", "rge", "rri", "e u", "<|i", "[sy", "mpt", "w i", "i a", "t m", "<<s", // Credentials.
    "k-a", "k-p", "k-s", "k-o", "k_l", "hp_", "ho_", "hs_", "b_p", "glp", "oxb", "oxp", "hf_", "pm_", "aiz", "p_v",
    "sg.", "kia", "sia", "y--", "://",
];

/// Slots of the table that a pass looks into at each byte.
const SLOTS: usize = 1 << 13;

/// True for each hash of a mark.
static TABLE: [bool; SLOTS] = {
    let mut table = [false; SLOTS];
    let mut at = 0;
    while at < MARKS.len() {
        table[slot(key(MARKS[at]))] = true;
        at += 1;
    }
    table
};

/// A mark as the low three bytes of a word, letters folded as the pass folds them.
const fn key(mark: &str) -> u32 {
    let bytes = mark.as_bytes();
    assert!(bytes.len() == 3);
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) | FOLD
}

/// Makes capitals small letters (and changes a few other characters alike in marks and texts).
const FOLD: u32 = 0x0020_2020;

const fn slot(key: u32) -> usize {
    (key.wrapping_mul(0x9e37_79b1) >> 19) as usize
}

/// The marks in a text.
pub(super) fn of(text: &str) -> Marks {
    let mut marks = 0;
    for four in text.as_bytes().array_windows::<4>() {
        let key = u32::from_le_bytes(*four) & 0x00ff_ffff | FOLD;
        if TABLE.get(slot(key)).is_some_and(|named| *named) {
            marks |= named(key);
        }
    }
    Marks(marks)
}

#[cold]
fn named(key: u32) -> u64 {
    MARKS.iter().enumerate().filter(|(_, mark)| self::key(mark) == key).fold(0, |bits, (at, _)| bits | 1 << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_found_wherever_it_stands_and_whatever_its_case() {
        for mark in MARKS {
            for text in [format!("{mark}."), format!("ordinary words {mark} \u{e9}"), mark.to_uppercase() + "x"] {
                assert!(of(&text).share(Marks::mark(mark)), "{mark} in {text}");
            }
        }
    }

    #[test]
    fn ordinary_words_have_none() {
        for text in ["let the buffer return its length, and close every file\n", "", "k-a"] {
            assert_eq!(of(text), Marks::default(), "{text}");
        }
    }
}
