//! Chains: what makes a call the continuation of another.
//!
//! A message is read as *atoms*: a person's words, a text or a tool call of the model, the place of a tool result. What
//! agents move about between calls is in no atom: system messages, reminders, pictures beside words, thinking, ids, white space, how contents are
//! cut into messages, and the contents of tool results (agents clear old ones). A chain is a running fold over atoms, so
//! the fold of every prefix of a conversation costs one step per atom. A second, strict fold takes tool results in; it
//! only breaks ties.
//!
//! `spine` remembers atoms and whole chains, so that a history resent a thousand times is read once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use serde_json::Value;

use crate::wire::{Content, Message, Role};

use super::prompt::{self, Kind};

/// A content hash of 128 bits.
pub(super) type Digest = u128;

/// Hash maps whose keys are hashes already.
pub(super) type DigestMap<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// Takes the first eight bytes of a key that is a hash.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u128(&mut self, word: u128) {
        self.0 ^= word as u64 ^ (word >> 64) as u64;
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

/// Who speaks in an atom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Speaker {
    /// The person, or the agent in the person's name.
    User,
    /// The model.
    Model,
    /// A tool.
    Tool,
}

/// One atom.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Atom {
    /// Who.
    pub speaker: Speaker,
    /// What; the same for every tool result.
    pub digest: Digest,
    /// What, with the contents of tool results.
    pub strict: Digest,
    /// True when it would hardly come twice by chance: a tool call with arguments, or a long text.
    pub distinctive: bool,
}

/// Texts of this many bytes and more hardly come twice by chance.
const DISTINCTIVE_BYTES: usize = 48;

/// Hashes words regardless of white space.
pub(super) fn words_digest(words: &str) -> Digest {
    let mut text = Words::default();
    text.push(words);
    digest(&text.bytes)
}

/// Texts that follow one another, hashed as one: their words, a space after each. Hashed in one go, which is several times
/// faster than word by word.
#[derive(Default)]
struct Words {
    bytes: Vec<u8>,
}

impl Words {
    fn push(&mut self, words: &str) {
        if !words.is_ascii() {
            self.bytes.reserve(words.len() + 1);
            for word in words.split_whitespace() {
                self.bytes.extend_from_slice(word.as_bytes());
                self.bytes.push(b' ');
            }
            return;
        }
        // Without a branch per byte: a space that is not wanted is written over by what follows it.
        let start = self.bytes.len();
        self.bytes.resize(start + words.len() + 1, b' ');
        let out = self.bytes.get_mut(start..).unwrap_or_default();
        let (mut len, mut in_word) = (0, false);
        for &byte in words.as_bytes() {
            // The white space of `split_whitespace` that is ASCII.
            let is_space = byte == b' ' || byte.wrapping_sub(b'\t') < 5;
            if let Some(place) = out.get_mut(len) {
                *place = if is_space { b' ' } else { byte };
            }
            len += usize::from(!is_space | in_word);
            in_word = !is_space;
        }
        if let Some(place) = out.get_mut(len).filter(|_| in_word) {
            *place = b' ';
            len += 1;
        }
        self.bytes.truncate(start + len);
    }

    /// The atom of what was pushed, if anything was.
    fn take(&mut self, speaker: Speaker) -> Option<Atom> {
        if self.bytes.is_empty() {
            return None;
        }
        let digest = digest(&self.bytes);
        let distinctive = self.bytes.len() >= DISTINCTIVE_BYTES;
        self.bytes.clear();
        Some(Atom { speaker, digest, strict: digest, distinctive })
    }
}

fn digest(bytes: &[u8]) -> Digest {
    let hash = blake3::hash(bytes);
    let mut half = [0; 16];
    half.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    Digest::from_le_bytes(half)
}

/// Hashes a JSON value regardless of the order of keys. Iterative: depth is the sender's choice.
pub(super) fn value_digest(value: &Value) -> Digest {
    enum Work<'a> {
        Value(&'a Value),
        Mark(&'a str),
    }
    let mut said = Vec::new();
    let mut stack = vec![Work::Value(value)];
    while let Some(work) = stack.pop() {
        match work {
            Work::Mark(text) => {
                said.extend_from_slice(text.as_bytes());
                said.push(0);
            }
            Work::Value(Value::Array(items)) => {
                said.push(b'[');
                stack.push(Work::Mark("]"));
                stack.extend(items.iter().rev().map(Work::Value));
            }
            Work::Value(Value::Object(entries)) => {
                said.push(b'{');
                stack.push(Work::Mark("}"));
                let mut entries: Vec<_> = entries.iter().filter(|(_, value)| !value.is_null()).collect();
                entries.sort_unstable_by(|a, b| b.0.cmp(a.0));
                for (key, value) in entries {
                    stack.push(Work::Value(value));
                    stack.push(Work::Mark(key));
                }
            }
            Work::Value(Value::String(text)) => {
                said.push(b's');
                said.extend_from_slice(text.trim().as_bytes());
                said.push(0);
            }
            Work::Value(Value::Number(number)) => {
                let text = number.as_f64().map_or_else(|| number.to_string(), |n| n.to_string());
                said.extend_from_slice(text.as_bytes());
                said.push(0);
            }
            Work::Value(Value::Bool(truth)) => {
                said.push(if *truth { b't' } else { b'f' });
            }
            Work::Value(Value::Null) => {
                said.push(b'n');
            }
        }
    }
    digest(&said)
}

/// A message and its continuation as one message: with the words run together, and side by side.
pub(super) fn joined(first: &Message, second: &Message) -> Vec<Message> {
    ["", " "]
        .into_iter()
        .map(|between| {
            let mut content = first.content.clone();
            let mut more = second.content.iter();
            if let (Some(Content::Text { text }), Some(Content::Text { text: next })) =
                (content.last_mut(), second.content.first())
            {
                *text = format!("{text}{between}{next}");
                more.next();
            }
            content.extend(more.cloned());
            Message { role: Role::Assistant, content, hash: first.hash }
        })
        .collect()
}

const TOOL_RESULT: Digest = 0x746f_6f6c;

/// The atoms of a message.
pub(super) fn atoms(message: &Message) -> Vec<Atom> {
    match message.role {
        Role::System => Vec::new(),
        Role::Assistant => model_atoms(message),
        Role::User | Role::Tool => user_atoms(message),
    }
}

fn model_atoms(message: &Message) -> Vec<Atom> {
    let mut atoms = Vec::new();
    let mut words = Words::default();
    for content in &message.content {
        let (digest, distinctive) = match content {
            Content::Text { text } | Content::Refusal { text } => {
                words.push(text);
                continue;
            }
            Content::ToolCall(call) => {
                (mix(words_digest(&call.name), value_digest(&call.arguments)), !call.arguments.is_null())
            }
            Content::Media { size, .. } => (Digest::from(*size) | 1 << 100, true),
            _ => continue,
        };
        atoms.extend(words.take(Speaker::Model));
        atoms.push(Atom { speaker: Speaker::Model, digest, strict: digest, distinctive });
    }
    atoms.extend(words.take(Speaker::Model));
    atoms
}

fn user_atoms(message: &Message) -> Vec<Atom> {
    let (mut atoms, mut pictures) = (Vec::new(), Vec::new());
    let (mut words, mut wrapped) = (Words::default(), Words::default());
    for content in &message.content {
        match content {
            Content::Text { text } => {
                let reading = prompt::read(text);
                match reading.kind {
                    // Each text for itself: agents add the next prompt to the message of one that was not answered.
                    Kind::Prompt | Kind::Summary | Kind::ToolText => {
                        words.push(&reading.words);
                        atoms.extend(words.take(Speaker::User));
                    }
                    Kind::Wrapped => wrapped.push(&reading.words),
                    Kind::Interrupt | Kind::Notice => {}
                }
            }
            Content::ToolResult { text, .. } => {
                let strict = words_digest(text);
                atoms.push(Atom { speaker: Speaker::Tool, digest: TOOL_RESULT, strict, distinctive: false });
            }
            Content::Media { kind, size, .. } => {
                let digest = mix(words_digest(kind), Digest::from(*size));
                pictures.push(Atom { speaker: Speaker::User, digest, strict: digest, distinctive: *size > 64 });
            }
            _ => {}
        }
    }
    if atoms.is_empty() {
        atoms.extend(wrapped.take(Speaker::User));
    }
    if atoms.is_empty() {
        // Agents drop pictures later, and leave the words beside them.
        atoms = pictures;
    }
    atoms
}

fn mix(a: Digest, b: Digest) -> Digest {
    Fold::START.push(a).push(b).0
}

/// A running hash over atoms. Fast rather than strong: the atoms are strong already.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Fold(pub Digest);

impl Fold {
    /// The fold of nothing.
    pub const START: Fold = Fold(0x6865_726f_6e20_7365_6573_2074_7572_6e73);

    /// The fold with one more digest.
    pub fn push(self, digest: Digest) -> Fold {
        let (s0, s1) = (self.0 as u64, (self.0 >> 64) as u64);
        let (d0, d1) = (digest as u64, (digest >> 64) as u64);
        let low = multiply(s0 ^ d0 ^ 0xa076_1d64_78bd_642f, s1 ^ d1 ^ 0xe703_7ed1_a0b4_28db);
        let high = multiply(
            s1.rotate_left(29) ^ d0 ^ 0x8ebc_6af0_9c88_c6e3,
            s0.rotate_left(31) ^ d1.rotate_left(17) ^ 0x5899_65cc_7537_4cc3,
        );
        Fold(Digest::from(low) | Digest::from(high) << 64)
    }

    fn push_atom(self, atom: &Atom) -> Fold {
        let speaker = match atom.speaker {
            Speaker::User => 1 << 120,
            Speaker::Model => 2 << 120,
            Speaker::Tool => 3 << 120,
        };
        self.push(atom.digest ^ speaker)
    }
}

fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Both folds of a prefix of a conversation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Folds {
    /// Without the contents of tool results: the identity.
    pub chain: Fold,
    /// With them: breaks ties.
    pub strict: Fold,
}

impl Folds {
    /// The folds of nothing.
    pub const START: Folds = Folds { chain: Fold::START, strict: Fold::START };

    /// The folds with one more atom.
    pub fn push(self, atom: &Atom) -> Folds {
        Folds { chain: self.chain.push_atom(atom), strict: self.strict.push(atom.strict) }
    }

    /// The folds with more atoms.
    pub fn extend(self, atoms: &[Atom]) -> Folds {
        atoms.iter().fold(self, Folds::push)
    }
}

/// The state of a chain after one atom.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Position {
    /// The place of the message that the atom is of; system messages at the beginning of the call do not count.
    pub message: usize,
    /// The first message that is not wholly behind this position.
    pub next: usize,
    /// The folds up to and with it.
    pub folds: Folds,
    /// Who speaks last in it.
    pub speaker: Speaker,
    /// The fold of this unbroken run of the same speaker alone.
    pub run: Fold,
    /// Whether something in the run is distinctive.
    pub distinctive: bool,
}

impl Position {
    /// The position after one more atom of a message, whose place and successor are given.
    pub fn after(before: Option<&Position>, start: Folds, atom: &Atom, message: usize, next: usize) -> Position {
        let folds = before.map_or(start, |before| before.folds).push(atom);
        let (run, distinctive) = match before.filter(|before| before.speaker == atom.speaker) {
            Some(before) => (before.run, before.distinctive),
            None => (Fold::START, false),
        };
        Position {
            message,
            next,
            folds,
            speaker: atom.speaker,
            run: run.push(atom.digest),
            distinctive: distinctive || atom.distinctive,
        }
    }
}

/// The fold of an answer as one run of the model.
pub(super) fn run_of(atoms: &[Atom]) -> (Fold, bool) {
    let run = atoms.iter().fold(Fold::START, |run, atom| run.push(atom.digest));
    (run, atoms.iter().any(|atom| atom.distinctive))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{MessageHash, ToolCall};
    use serde_json::json;

    fn message(role: Role, content: Vec<Content>) -> Message {
        Message { role, content, hash: MessageHash([0; 16]) }
    }

    fn text(text: &str) -> Content {
        Content::Text { text: text.into() }
    }

    fn folds(messages: &[Message]) -> Folds {
        let atoms: Vec<Atom> = messages.iter().flat_map(atoms).collect();
        Folds::START.extend(&atoms)
    }

    #[test]
    fn words_are_those_of_unicode_white_space() {
        for text in ["", " ", "a", " a\tb\r\n\u{b}c\u{c}d \u{1c}e ", "a  b", "\u{a0}a\u{2003}b\u{85}c", "\u{e9} \u{e9}"]
        {
            let words: String = text.split_whitespace().flat_map(|word| [word, " "]).collect();
            assert_eq!(words_digest(text), digest(words.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn cutting_contents_into_messages_otherwise_is_the_same_chain() {
        let call = Content::ToolCall(ToolCall { id: "a".into(), name: "ls".into(), ..ToolCall::default() });
        let one = [message(Role::Assistant, vec![text("let me look"), call.clone()])];
        let two = [message(Role::Assistant, vec![text(" let me\nlook ")]), message(Role::Assistant, vec![call])];
        assert_eq!(folds(&one), folds(&two));
    }

    #[test]
    fn thinking_ids_reminders_and_null_arguments_are_in_no_chain() {
        let call = |id: &str, arguments| {
            Content::ToolCall(ToolCall { id: id.into(), name: "ls".into(), arguments, server_side: false })
        };
        let one = [
            message(Role::User, vec![text("<system-reminder>x</system-reminder>"), text("go")]),
            message(
                Role::Assistant,
                vec![Content::Thinking { text: "hm".into() }, call("toolu_1", json!({"a": 1, "b": "x", "c": null}))],
            ),
        ];
        let two = [
            message(Role::System, vec![text("be good")]),
            message(Role::User, vec![text("go")]),
            message(Role::Assistant, vec![call("call_9", json!({"b": "x", "a": 1.0}))]),
        ];
        assert_eq!(folds(&one), folds(&two));
    }

    #[test]
    fn results_count_in_the_strict_fold_only() {
        let result = |text: &str| {
            message(
                Role::Tool,
                vec![Content::ToolResult { id: "1".into(), name: None, text: text.into(), is_error: false }],
            )
        };
        let (one, two) = (folds(&[result("a")]), folds(&[result("b")]));
        assert_eq!(one.chain, two.chain);
        assert_ne!(one.strict, two.strict);
    }

    #[test]
    fn a_user_who_says_what_the_model_said_is_another_chain() {
        assert_ne!(
            folds(&[message(Role::User, vec![text("hi")])]).chain,
            folds(&[message(Role::Assistant, vec![text("hi")])]).chain
        );
    }

    #[test]
    fn a_deeply_nested_argument_does_not_overflow_the_stack() {
        let mut value = json!(1);
        for _ in 0..100 {
            value = json!([value]);
        }
        assert_eq!(value_digest(&value), value_digest(&value.clone()));
    }
}
