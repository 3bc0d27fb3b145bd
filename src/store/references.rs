//! Which earlier bytes a new body is likely to repeat.
//!
//! Bodies are remembered under several keys, from the most telling down (the conversation's first messages, its system
//! prompt, the connection); the first key that is known gives the base. The memory is bounded by bytes; what is
//! forgotten only costs compression.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use bytes::Bytes;

/// After so many differences in a row a body is stored whole, so that reading one stays cheap and pruning possible.
pub(super) const KEYFRAME_EVERY: u32 = 64;

/// Shorter bytes are copied: they may be a slice of much more, which would be kept with them.
const COPIED_BELOW: usize = 4096;

/// Bytes that later bytes may be the difference to.
#[derive(Debug)]
pub(super) struct Reference {
    /// Its number.
    pub piece: i64,
    /// How many differences lie between it and a body stored whole.
    pub depth: u32,
    /// The bytes.
    pub bytes: Bytes,
}

/// The bounded memory.
#[derive(Debug)]
pub(super) struct References {
    by_key: HashMap<u64, Arc<Reference>>,
    oldest_first: VecDeque<(u64, Weak<Reference>)>,
    held_bytes: usize,
    limit_bytes: usize,
}

impl References {
    pub(super) fn new(limit_bytes: usize) -> References {
        References { by_key: HashMap::new(), oldest_first: VecDeque::new(), held_bytes: 0, limit_bytes }
    }

    /// The base for bytes known under `keys`, unless a keyframe is due.
    pub(super) fn find(&self, keys: &[u64]) -> Option<Arc<Reference>> {
        let found = keys.iter().find_map(|key| self.by_key.get(key))?;
        (found.depth + 1 < KEYFRAME_EVERY).then(|| Arc::clone(found))
    }

    /// Remembers bytes under all of `keys`.
    pub(super) fn remember(&mut self, keys: &[u64], mut reference: Reference) {
        if keys.is_empty() || reference.bytes.len() > self.limit_bytes / 2 {
            return;
        }
        if reference.bytes.len() < COPIED_BELOW {
            reference.bytes = Bytes::copy_from_slice(&reference.bytes);
        }
        let reference = Arc::new(reference);
        for key in keys {
            self.held_bytes += reference.bytes.len();
            if let Some(old) = self.by_key.insert(*key, Arc::clone(&reference)) {
                self.held_bytes = self.held_bytes.saturating_sub(old.bytes.len());
            }
            self.oldest_first.push_back((*key, Arc::downgrade(&reference)));
        }
        self.forget();
    }

    /// Forgets everything: what follows is stored whole.
    pub(super) fn clear(&mut self) {
        self.by_key.clear();
        self.oldest_first.clear();
        self.held_bytes = 0;
    }

    fn forget(&mut self) {
        while self.held_bytes > self.limit_bytes || self.oldest_first.len() > 16_384 {
            let Some((key, weak)) = self.oldest_first.pop_front() else { return };
            let current = self.by_key.get(&key).map(Arc::as_ptr);
            if current.is_some_and(|current| std::ptr::eq(current, weak.as_ptr()))
                && let Some(old) = self.by_key.remove(&key)
            {
                self.held_bytes = self.held_bytes.saturating_sub(old.bytes.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(blob: i64, len: usize) -> Reference {
        Reference { piece: blob, depth: 0, bytes: Bytes::from(vec![0; len]) }
    }

    #[test]
    fn the_most_telling_key_wins() {
        let mut memory = References::new(1_000);
        memory.remember(&[1, 10], reference(1, 10));
        memory.remember(&[2, 10], reference(2, 10));
        assert_eq!(memory.find(&[1, 10]).unwrap().piece, 1);
        assert_eq!(memory.find(&[3, 10]).unwrap().piece, 2);
        assert!(memory.find(&[3, 30]).is_none());
    }

    #[test]
    fn the_memory_is_bounded_and_the_oldest_goes_first() {
        let mut memory = References::new(1_000);
        for blob in 0..100 {
            memory.remember(&[blob as u64], reference(blob, 100));
            assert!(memory.held_bytes <= 1_000);
        }
        assert!(memory.find(&[0]).is_none());
        assert_eq!(memory.find(&[99]).unwrap().piece, 99);
        for blob in 0..100_000 {
            memory.remember(&[7], reference(blob, 1));
        }
        assert!(memory.oldest_first.len() <= 16_384);
    }

    #[test]
    fn a_keyframe_is_due_after_so_many_differences() {
        let mut memory = References::new(1_000);
        memory.remember(&[1], Reference { depth: KEYFRAME_EVERY - 1, ..reference(1, 1) });
        assert!(memory.find(&[1]).is_none());
    }
}
