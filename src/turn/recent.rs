//! A map of bounded size that keeps what was used lately: two generations, of which the older is dropped as a whole.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

/// The map. Holds between `bound` and twice `bound` entries once it is full. Has no iteration, so that the order of hashing shows
/// nowhere.
#[derive(Debug)]
pub(super) struct Recent<K, V, S = RandomState> {
    young: HashMap<K, V, S>,
    old: HashMap<K, V, S>,
    bound: usize,
}

impl<K: Hash + Eq + Clone, V, S: BuildHasher + Default> Recent<K, V, S> {
    /// Keeps at least the `bound` entries used last.
    pub fn new(bound: usize) -> Recent<K, V, S> {
        Recent { young: HashMap::default(), old: HashMap::default(), bound: bound.max(1) }
    }

    /// The entry of a key, which counts as a use.
    pub fn touch(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let value = self.old.remove(key)?;
            self.insert(key.clone(), value);
        }
        self.young.get_mut(key)
    }

    /// The entry of a key.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Sets the entry of a key.
    pub fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.bound && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Takes the entry of a key out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let old = self.old.remove(key);
        self.young.remove(key).or(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut recent: Recent<u32, u32> = Recent::new(4);
        for n in 0..100 {
            recent.insert(n, n);
            assert_eq!(recent.touch(&0), Some(&mut 0));
        }
        assert_eq!(recent.peek(&50), None);
        assert!(recent.young.len() + recent.old.len() <= 8);
    }
}
