//! Lists of phrases that texts are searched for again and again: what a search has to know of a phrase is found out once.

use std::sync::OnceLock;

use memchr::memmem::Finder;

/// Some phrases.
pub(super) struct Phrases {
    list: &'static [&'static str],
    finders: OnceLock<Box<[Finder<'static>]>>,
}

impl Phrases {
    /// The phrases of a list.
    pub(super) const fn new(list: &'static [&'static str]) -> Phrases {
        Phrases { list, finders: OnceLock::new() }
    }

    /// Whether a text holds one of them.
    pub(super) fn are_in(&self, text: &str) -> bool {
        let finders = self.finders.get_or_init(|| self.list.iter().map(|phrase| Finder::new(*phrase)).collect());
        finders.iter().any(|finder| finder.find(text.as_bytes()).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_them_is_found() {
        static SOME: Phrases = Phrases::new(&["one", "two words"]);
        for (text, found) in [("", false), ("someone", true), ("these are two words", true), ("two\nwords", false)] {
            assert_eq!(SOME.are_in(text), found, "{text}");
        }
    }
}
