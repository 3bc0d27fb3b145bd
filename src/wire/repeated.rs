//! The event that a streamed answer repeats: what was read once is not read again.
//!
//! Servers send a token per event, and most events differ in the token alone. [`Repeated`] keeps the bytes around the text of
//! the event before, when adding that text to a block was all that it did. An event with the same bytes around another text
//! does the same with that one: equal bytes are read equally, and whatever else the event says was just said.
//!
//! Decoders take part by telling [`Answer::said`](crate::wire::answer::Answer) which text they added where.

use crate::wire::answer::Answer;
use crate::wire::decoder::Event;
use crate::wire::json::{Raw, Span, value_len};

/// Longer surroundings are not worth keeping: such events are few.
const MAX_AROUND: usize = 4096;

/// What an event added to the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Said {
    /// Nothing that was told.
    #[default]
    Nothing,
    /// One text.
    Text(Place, Span),
    /// More than one thing, or something that depends on what was said before.
    More,
}

/// Where a text is added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The choice's index.
    pub(crate) choice: u64,
    /// The block's key.
    pub(crate) key: u64,
    /// The block's kind.
    pub(crate) kind: Kind,
}

/// What kind of block it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Text,
    Thinking,
    /// A tool's arguments.
    Arguments,
}

impl Said {
    /// A text is added; `value` is the string in the event.
    pub(crate) fn text(&mut self, place: Place, value: Raw<'_>) {
        *self = if *self == Said::Nothing { Said::Text(place, value.span()) } else { Said::More };
    }

    /// Something else is said.
    pub(crate) fn more(&mut self) {
        *self = Said::More;
    }
}

/// The event before, as far as it can be repeated.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    place: Option<Place>,
    name: String,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Repeated {
    /// Takes an event that repeats the one before; false when it does not.
    pub(crate) fn take(&self, event: Event<'_>, answer: &mut Answer) -> bool {
        let Some(place) = self.place.filter(|_| event.name == self.name) else { return false };
        let Some(text) = self.text_of(event.data.bytes()).and_then(|value| Raw::new(value).text()) else {
            return false;
        };
        let choice = answer.choice(place.choice);
        match place.kind {
            Kind::Text => choice.text(place.key, &text),
            Kind::Thinking => choice.thinking(place.key, &text),
            Kind::Arguments => choice.arguments(place.key, &text),
        }
        true
    }

    /// The string between the known bytes, quotes included.
    fn text_of<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        let rest = data.strip_prefix(&self.before[..])?;
        let value = rest.get(..value_len(rest)?)?;
        (rest.get(value.len()..)? == self.after && value.starts_with(b"\"")).then_some(value)
    }

    /// Keeps what surrounds the text of an event that was read.
    pub(crate) fn learn(&mut self, event: Event<'_>, said: Said) {
        self.place = None;
        let Said::Text(place, span) = said else { return };
        let Some((before, after)) = event.data.around(span) else { return };
        if before.len() + after.len() > MAX_AROUND {
            return;
        }
        self.place = Some(place);
        self.name.clear();
        self.name.push_str(event.name);
        self.before.clear();
        self.before.extend_from_slice(before);
        self.after.clear();
        self.after.extend_from_slice(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::WireApi;
    use crate::wire::live::Decode;
    use crate::wire::stage::Bounds;

    fn event(data: &str) -> Event<'_> {
        Event { name: "", data: Raw::new(data.as_bytes()) }
    }

    /// Both ways to read the events: with what was learned, and each for itself.
    fn both(api: WireApi, events: &[String]) -> usize {
        let (mut quick, mut plain) = (Decode::new(api, &Bounds::default()), Decode::new(api, &Bounds::default()));
        let mut repeats = 0;
        for (at, data) in events.iter().enumerate() {
            let at = crate::event::Nanos(at as u64);
            repeats += usize::from(quick.repeated.text_of(event(data).data.bytes()).is_some());
            quick.event(at, event(data));
            plain.repeated = Repeated::default();
            plain.event(at, event(data));
        }
        assert_eq!(format!("{:?}", quick.answer), format!("{:?}", plain.answer));
        repeats
    }

    #[test]
    fn events_of_tokens_are_read_the_same_with_and_without_the_one_before() {
        let texts =
            ["a", " b", "", "\\\"", "\\n\\ud83d", "\u{e9}", "]}", "c\\\\", " d", "e\",\"index\":9,\"x\":\"", "f"];
        let anthropic = |kind: &str, text: &str| {
            format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"d","{kind}":"{text}"}}}}"#)
        };
        for kind in ["text", "thinking", "partial_json"] {
            let events: Vec<String> = texts.iter().map(|text| anthropic(kind, text)).collect();
            assert!(both(WireApi::AnthropicMessages, &events) > 6);
        }
        let chat = |fields: &str| {
            format!(r#"{{"id":"c","model":"m","choices":[{{"index":0,"delta":{{{fields}}},"finish_reason":null}}]}}"#)
        };
        for kind in ["content", "reasoning_content"] {
            let events: Vec<String> = texts.iter().map(|text| chat(&format!(r#""{kind}":"{text}""#))).collect();
            assert!(both(WireApi::OpenAiChat, &events) > 6);
        }
        // Whatever says more than one text is read as a whole.
        let more = [
            r#""content":"a","reasoning":"b""#,
            r#""content":"a","tool_calls":[{"index":0,"id":"x","function":{"name":"n","arguments":"{}"}}]"#,
            r#""content":"a","refusal":"no""#,
        ];
        for fields in more {
            let events: Vec<String> = (0..4).map(|_| chat(fields)).collect();
            assert_eq!(both(WireApi::OpenAiChat, &events), 0, "{fields}");
        }
    }

    #[test]
    fn another_event_between_is_not_forgotten() {
        let token = |id: &str, text: &str| {
            format!(r#"{{"id":"{id}","choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#)
        };
        let events = [token("a", "x"), token("b", "y"), token("a", "z"), token("a", "w")];
        assert_eq!(both(WireApi::OpenAiChat, &events), 1);
    }
}
