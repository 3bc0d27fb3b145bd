//! Byte patterns with wildcards, written the way disassemblers show bytes: `"55 48 89 e5 e8 ?? ?? ?? ??"`.

/// A pattern: bytes, and which of them count.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    bytes: Vec<Option<u8>>,
}

impl Pattern {
    /// Parses the text form; what is not two hex digits is a wildcard.
    pub(crate) fn new(text: &str) -> Pattern {
        Pattern { bytes: text.split_ascii_whitespace().map(|t| u8::from_str_radix(t, 16).ok()).collect() }
    }

    /// The pattern's bytes stand at the start of `code`.
    pub(crate) fn matches(&self, code: &[u8]) -> bool {
        code.len() >= self.bytes.len() && self.bytes.iter().zip(code).all(|(p, c)| p.is_none_or(|p| p == *c))
    }

    /// The first two bytes, which must be fixed.
    pub(crate) fn head(&self) -> Option<[u8; 2]> {
        Some([(*self.bytes.first()?)?, (*self.bytes.get(1)?)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_anything_and_nothing_beyond_the_end() {
        let p = Pattern::new("55 ?? 89");
        assert!(p.matches(&[0x55, 0, 0x89, 1]));
        assert!(!p.matches(&[0x55, 0, 0x88]));
        assert!(!p.matches(&[0x55, 0]));
        assert_eq!(Pattern::new("?? 55").head(), None);
    }
}
