//! A request's body, field by field, reading only what is new: agents send their whole history again at each step.
//!
//! [`Recent`] keeps what was read of the last requests. A new body is held against the one with the same beginning of its
//! conversation: elements of its messages whose bytes are the same are neither walked nor read again, and the messages
//! of both calls are the same `Arc`s. What comes out never depends on what is kept: it is the same values, sooner.

use std::any::TypeId;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;

use crate::wire::json::{Elements, Raw, array_end};
use crate::wire::message::Draft;
use crate::wire::{Message, ToolOffered};

/// How many requests are kept at most.
const MAX_RECENT: usize = 64;
/// How many messages a call carries at most; what is over it is not read.
const MAX_MESSAGES: usize = 100_000;

/// One top-level field of a body.
#[derive(Debug)]
struct Field<'a> {
    key: Cow<'a, str>,
    value: Raw<'a>,
    /// The bytes are those of the earlier request's field.
    same: bool,
    /// How many elements at the beginning are those of the earlier request.
    same_elements: usize,
}

/// A request's body.
pub(crate) struct Body<'a> {
    content: &'a Bytes,
    raw: Raw<'a>,
    fields: Vec<Field<'a>>,
    prior: Option<Arc<Prior>>,
    kept: Vec<Kept>,
    /// Messages over the bound were left out.
    pub(crate) over_bound: bool,
}

/// What was read of an earlier request.
#[derive(Debug, Default)]
pub(crate) struct Prior {
    fields: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    key: String,
    /// Which function read it: the same bytes mean something else to another one.
    reader: TypeId,
    raw: Bytes,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The ends of the elements in the raw bytes, and the messages that were made of them.
    Messages {
        ends: Vec<usize>,
        entries: Vec<Option<Arc<Message>>>,
    },
    Tools(Arc<[ToolOffered]>),
    Whole(Vec<Arc<Message>>),
}

impl<'a> Body<'a> {
    /// Walks the top level of an object.
    pub(crate) fn index(content: &'a Bytes, raw: Raw<'a>, prior: Option<Arc<Prior>>) -> Body<'a> {
        let mut fields = Vec::new();
        let mut walk = raw.fields();
        loop {
            let (mut same, mut same_elements) = (false, 0);
            let known = |key: &str, rest: &'a [u8]| {
                let kept = prior.as_ref()?.fields.iter().find(|kept| kept.key == key)?;
                let common = common_prefix(&kept.raw, rest);
                if common == kept.raw.len() {
                    same = true;
                    same_elements = kept.elements();
                    return Some(common);
                }
                let What::Messages { ends, .. } = &kept.what else { return None };
                same_elements = ends.partition_point(|end| *end <= common);
                let resume = *ends.get(same_elements.checked_sub(1)?)?;
                array_end(rest, resume)
            };
            let Some((key, value)) = walk.next_with(known) else { break };
            fields.push(Field { key, value, same, same_elements });
        }
        Body { content, raw, fields, prior, kept: Vec::new(), over_bound: false }
    }

    /// The body of an object inside (Gemini's Code Assist wraps its request).
    pub(crate) fn inner(&self, key: &str) -> Option<Body<'a>> {
        let inner = self.get(key).filter(|inner| inner.is_object())?;
        Some(Body::index(self.content, inner, self.prior.clone()))
    }

    /// Takes over what an inner body keeps.
    pub(crate) fn adopt(&mut self, inner: Body<'a>) {
        self.kept.extend(inner.kept);
        self.over_bound |= inner.over_bound;
    }

    pub(crate) fn raw(&self) -> Raw<'a> {
        self.raw
    }

    /// A field that is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<Raw<'a>> {
        self.fields.iter().find(|field| field.key == key).map(|field| field.value).filter(|value| !value.is_null())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn string(&self, key: &str) -> Option<String> {
        self.get(key)?.string()
    }

    /// The top-level fields in order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, Raw<'a>)> {
        self.fields.iter().map(|field| (&*field.key, field.value))
    }

    /// The messages of an array; `read` reads one element, and may depend on nothing else (hence `'static`).
    pub(crate) fn messages<F>(&mut self, key: &str, read: F) -> Vec<Arc<Message>>
    where
        F: Fn(Raw<'_>) -> Option<Draft> + 'static,
    {
        let Some(field) = self.fields.iter().find(|field| field.key == key) else { return Vec::new() };
        let (array, same_elements) = (field.value, field.same_elements);
        let reader = TypeId::of::<F>();
        let (mut ends, mut entries) = self.same_entries(key, reader, same_elements);
        let mut elements = match ends.last() {
            Some(end) => Elements::resume(array, *end),
            None => array.elements(),
        };
        while let Some(element) = elements.next() {
            if ends.len() >= MAX_MESSAGES {
                self.over_bound = true;
                break;
            }
            ends.push(elements.position());
            entries.push(read(element).map(|draft| Arc::new(draft.seal())));
        }
        let messages = entries.iter().flatten().cloned().collect();
        self.keep(key, reader, array, What::Messages { ends, entries });
        messages
    }

    /// The earlier request's elements and messages that this one repeats.
    fn same_entries(&self, key: &str, reader: TypeId, count: usize) -> (Vec<usize>, Vec<Option<Arc<Message>>>) {
        let Some(What::Messages { ends, entries }) = self.kept(key, reader) else { return (Vec::new(), Vec::new()) };
        let ends = ends.get(..count).unwrap_or_default().to_vec();
        (ends, entries.get(..count).unwrap_or_default().to_vec())
    }

    /// A field that makes messages as a whole (a system prompt).
    pub(crate) fn whole<F>(&mut self, key: &str, read: F) -> Vec<Arc<Message>>
    where
        F: Fn(Raw<'_>) -> Vec<Draft> + 'static,
    {
        let Some(field) = self.fields.iter().find(|field| field.key == key) else { return Vec::new() };
        let (value, same) = (field.value, field.same);
        let reader = TypeId::of::<F>();
        let messages = match self.kept(key, reader).filter(|_| same) {
            Some(What::Whole(messages)) => messages.clone(),
            _ => read(value).into_iter().map(|draft| Arc::new(draft.seal())).collect(),
        };
        self.keep(key, reader, value, What::Whole(messages.clone()));
        messages
    }

    /// The tools offered.
    pub(crate) fn tools<F>(&mut self, key: &str, read: F) -> Arc<[ToolOffered]>
    where
        F: Fn(Raw<'_>) -> Vec<ToolOffered> + 'static,
    {
        let Some(field) = self.fields.iter().find(|field| field.key == key) else { return Arc::from([]) };
        let (value, same) = (field.value, field.same);
        let reader = TypeId::of::<F>();
        let tools: Arc<[ToolOffered]> = match self.kept(key, reader).filter(|_| same) {
            Some(What::Tools(tools)) => tools.clone(),
            _ => read(value).into(),
        };
        self.keep(key, reader, value, What::Tools(tools.clone()));
        tools
    }

    fn kept(&self, key: &str, reader: TypeId) -> Option<&What> {
        let fields = &self.prior.as_ref()?.fields;
        // The first of a name: that is the one whose bytes were compared.
        fields.iter().find(|kept| kept.key == key).filter(|kept| kept.reader == reader).map(|kept| &kept.what)
    }

    fn keep(&mut self, key: &str, reader: TypeId, value: Raw<'a>, what: What) {
        // Only a container that is whole tells by its own bytes where it ends.
        let whole = matches!(value.bytes(), [b'{', .., b'}'] | [b'[', .., b']']);
        let known = self.kept.iter().any(|kept| kept.key == key);
        if whole && !known {
            self.kept.push(Kept { key: key.to_owned(), reader, raw: self.content.slice_ref(value.bytes()), what });
        }
    }

    /// What the next request is held against.
    pub(crate) fn into_prior(self) -> Prior {
        Prior { fields: self.kept }
    }
}

impl Kept {
    fn elements(&self) -> usize {
        match &self.what {
            What::Messages { ends, .. } => ends.len(),
            _ => 0,
        }
    }
}

/// What was read of the last requests, the newest first.
#[derive(Debug)]
pub(crate) struct Recent {
    entries: VecDeque<(u64, usize, Arc<Prior>)>,
    bytes: usize,
    max_bytes: usize,
}

impl Recent {
    /// Keeps requests of up to `max_bytes` together.
    pub(crate) fn new(max_bytes: usize) -> Recent {
        Recent { entries: VecDeque::new(), bytes: 0, max_bytes }
    }

    /// The earlier request whose conversation began like this one's; else the last one: its tools may be the same.
    pub(crate) fn find(&mut self, key: u64) -> Option<Arc<Prior>> {
        let at = self.entries.iter().position(|(known, ..)| *known == key).unwrap_or(0);
        let entry = self.entries.remove(at)?;
        let prior = entry.2.clone();
        self.entries.push_front(entry);
        Some(prior)
    }

    pub(crate) fn keep(&mut self, key: u64, size: usize, prior: Prior) {
        if let Some(at) = self.entries.iter().position(|(known, ..)| *known == key) {
            self.bytes -= self.entries.remove(at).map_or(0, |(_, size, _)| size);
        }
        self.entries.push_front((key, size, Arc::new(prior)));
        self.bytes += size;
        while self.entries.len() > MAX_RECENT || self.bytes > self.max_bytes {
            self.bytes -= self.entries.pop_back().map_or(self.bytes, |(_, size, _)| size);
        }
    }
}

/// How a conversation begins: the first bytes of its messages, wherever they stand in the body.
pub(crate) fn conversation_key(content: &[u8]) -> u64 {
    let start = ["\"messages\"", "\"contents\"", "\"input\""]
        .iter()
        .find_map(|key| memmem::find(content, key.as_bytes()))
        .unwrap_or(0);
    let rest = content.get(start..).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    rest.get(..rest.len().min(1024)).hash(&mut hasher);
    hasher.finish()
}

/// How many bytes at the beginning are the same.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let mut at = 0;
    loop {
        match (a.get(at..at + BLOCK), b.get(at..at + BLOCK)) {
            (Some(left), Some(right)) if left == right => at += BLOCK,
            _ => break,
        }
    }
    let rest = a.get(at..).unwrap_or_default().iter().zip(b.get(at..).unwrap_or_default());
    at + rest.take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parts;

    fn read(element: Raw<'_>) -> Option<Draft> {
        let mut draft = Draft::new(parts::role(&element.str_of("role")?));
        parts::content(element.get("content")?, &mut draft);
        Some(draft)
    }

    fn messages(text: &str, prior: Option<Arc<Prior>>) -> (Vec<Arc<Message>>, Arc<Prior>) {
        let content = Bytes::copy_from_slice(text.as_bytes());
        let mut body = Body::index(&content, Raw::new(&content), prior);
        let messages = body.messages("messages", read);
        (messages, Arc::new(body.into_prior()))
    }

    fn request(turns: &[(&str, &str)], tail: &str) -> String {
        let elements: Vec<String> =
            turns.iter().map(|(role, text)| format!(r#"{{"role":"{role}","content":"{text}"}}"#)).collect();
        format!(r#"{{"model":"m","messages":[{}],"tail":{tail}}}"#, elements.join(" , "))
    }

    #[test]
    fn a_growing_history_reads_the_same_with_and_without_the_earlier_request() {
        let turns =
            [("user", "a"), ("assistant", "b"), ("assistant", "c"), ("user", "d]}"), ("assistant", "e"), ("user", "f")];
        let mut prior = None;
        for end in 1..=turns.len() {
            let text = request(&turns[..end], r#"{"x":[1]}"#);
            let (fresh, _) = messages(&text, None);
            let (reused, next) = messages(&text, prior);
            assert_eq!(fresh, reused, "{end} turns");
            prior = Some(next);
        }
        // A history that was rewritten, shortened, or changed at its end.
        for changed in [&turns[..2], &[("user", "a"), ("user", "x")][..], &[("user", "z")], &[]] {
            let text = request(changed, "1");
            let (fresh, _) = messages(&text, None);
            let (reused, _) = messages(&text, prior.clone());
            assert_eq!(fresh, reused);
        }
    }

    #[test]
    fn repeated_messages_are_the_same_allocation() {
        let turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")];
        let (first, prior) = messages(&request(&turns[..3], "1"), None);
        let (second, _) = messages(&request(&turns, "2"), Some(prior));
        assert!(Arc::ptr_eq(&first[0], &second[0]));
        assert!(Arc::ptr_eq(&first[1], &second[1]));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut recent = Recent::new(100);
        for key in 0..1000 {
            recent.keep(key, 10, Prior::default());
        }
        assert!(recent.bytes <= 100);
        assert!(recent.find(999).is_some());
        recent.keep(1, 1000, Prior::default());
        assert_eq!((recent.bytes, recent.entries.len()), (0, 0));
    }
}
