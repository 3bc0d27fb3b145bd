//! The answer under construction: what the events of a stream, or a whole body, have said so far.
//!
//! Must not know any vendor's names: decoders translate. Everything that data can make long is bounded here, and what is
//! over a bound is counted ([`Answer::over_bound`]).

use serde_json::{Map, Value};

use crate::wire::json::Raw;
use crate::wire::message::Draft;
use crate::wire::repeated::Said;
use crate::wire::usage::Counts;
use crate::wire::{CallError, Content, Message, Role, ToolCall};

/// More choices than any API gives.
const MAX_CHOICES: usize = 128;
/// More blocks than an answer has.
const MAX_BLOCKS: usize = 16_384;

/// What an answer has said so far.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) counts: Counts,
    pub(crate) service_tier: Option<String>,
    pub(crate) error: Option<CallError>,
    /// The server software, where the shape shows it.
    pub(crate) server_kind: Option<&'static str>,
    /// The provider, where the shape shows it.
    pub(crate) provider: Option<&'static str>,
    /// The error's type, where a header says it.
    pub(crate) error_type: Option<String>,
    /// The answer came to its own end (final event, `[DONE]`, finish reason).
    pub(crate) complete: bool,
    /// Content arrived since this was last cleared: a token, for the clock.
    pub(crate) token: bool,
    /// Something was not of the shape that the wire API has.
    pub(crate) misshapen: bool,
    /// Something of the expected shape came.
    pub(crate) understood: bool,
    /// A bound was reached.
    pub(crate) over_bound: bool,
    /// Tools that the answer lists (MCP).
    pub(crate) tools: Vec<crate::wire::ToolOffered>,
    /// What the event under way has said, as far as its decoder tells.
    pub(crate) said: Said,
    finish_reason: Option<String>,
    choices: Vec<Choice>,
}

/// One choice or candidate.
#[derive(Debug)]
pub(crate) struct Choice {
    index: u64,
    role: Role,
    finish_reason: Option<String>,
    blocks: Vec<(u64, Block)>,
    token: bool,
    over_bound: bool,
}

/// One content of a choice under construction.
#[derive(Debug)]
pub(crate) enum Block {
    Text(String),
    Thinking(String),
    Refusal(String),
    Tool(ToolBlock),
    Whole(Draft),
}

/// A tool call under construction.
#[derive(Debug, Default)]
pub(crate) struct ToolBlock {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Fragments joined.
    pub(crate) text: String,
    /// Arguments that came as a value; fragments win over it.
    pub(crate) value: Option<Value>,
    pub(crate) server_side: bool,
    /// The text is no JSON but the tool's free input.
    pub(crate) free_form: bool,
}

impl Answer {
    /// The choice of an index, made when it is new.
    pub(crate) fn choice(&mut self, index: u64) -> &mut Choice {
        let at = match self.choices.iter().position(|choice| choice.index == index) {
            Some(at) => at,
            None if self.choices.len() >= MAX_CHOICES => {
                self.over_bound = true;
                self.choices.len() - 1
            }
            None => {
                self.choices.push(Choice::new(index));
                self.choices.len() - 1
            }
        };
        // `at` is in range: a position, or the last of a list that is not empty.
        &mut self.choices[at]
    }

    /// The main choice.
    pub(crate) fn main(&mut self) -> &mut Choice {
        self.choice(0)
    }

    pub(crate) fn has_content(&self) -> bool {
        self.choices.iter().any(|choice| !choice.blocks.is_empty())
    }

    /// Sets the main choice's finish reason.
    pub(crate) fn finish(&mut self, reason: Raw<'_>) {
        if let Some(reason) = reason.string() {
            self.finish_reason = Some(reason);
        }
    }

    pub(crate) fn finish_as(&mut self, reason: &str) {
        self.finish_reason = Some(reason.to_owned());
    }

    pub(crate) fn finish_reason(&self) -> Option<&str> {
        let first = self.choices.iter().min_by_key(|choice| choice.index);
        self.finish_reason.as_deref().or_else(|| first.and_then(|choice| choice.finish_reason.as_deref()))
    }

    /// Records an error; the first one counts.
    pub(crate) fn fail(&mut self, kind: impl Into<String>, message: impl Into<String>) {
        self.understood = true;
        if self.error.is_none() {
            self.error = Some(CallError { kind: kind.into(), message: message.into() });
        }
    }

    pub(crate) fn set_id(&mut self, id: Option<Raw<'_>>) {
        set(&mut self.id, id);
    }

    pub(crate) fn set_model(&mut self, model: Option<Raw<'_>>) {
        set(&mut self.model, model);
    }

    pub(crate) fn set_tier(&mut self, tier: Option<Raw<'_>>) {
        set(&mut self.service_tier, tier);
    }

    pub(crate) fn set_tier_text(&mut self, tier: Option<&str>) {
        if let Some(tier) = tier {
            self.service_tier = Some(tier.to_owned());
        }
    }

    /// Takes the choices' own marks: a token came, a bound was reached.
    pub(crate) fn settle(&mut self) {
        for choice in &mut self.choices {
            self.token |= std::mem::take(&mut choice.token);
            self.over_bound |= choice.over_bound;
        }
    }

    /// The messages so far, the main one first.
    pub(crate) fn messages(&self) -> Vec<Message> {
        let mut choices: Vec<&Choice> = self.choices.iter().filter(|choice| !choice.blocks.is_empty()).collect();
        choices.sort_by_key(|choice| choice.index);
        choices.into_iter().map(Choice::message).collect()
    }
}

fn set(into: &mut Option<String>, value: Option<Raw<'_>>) {
    let Some(text) = value.and_then(Raw::text).filter(|text| !text.is_empty()) else { return };
    if into.as_deref() != Some(&*text) {
        *into = Some(text.into_owned());
    }
}

impl Choice {
    fn new(index: u64) -> Choice {
        Choice {
            index,
            role: Role::Assistant,
            finish_reason: None,
            blocks: Vec::new(),
            token: false,
            over_bound: false,
        }
    }

    pub(crate) fn set_role(&mut self, role: Role) {
        self.role = role;
    }

    pub(crate) fn finish(&mut self, reason: Raw<'_>) {
        if let Some(reason) = reason.string() {
            self.finish_reason = Some(reason);
        }
    }

    fn block(&mut self, key: u64, make: impl FnOnce() -> Block) -> Option<&mut Block> {
        // The block under way is nearly always the last one.
        let at = match self.blocks.iter().rposition(|(known, _)| *known == key) {
            Some(at) => at,
            None if self.blocks.len() >= MAX_BLOCKS => {
                self.over_bound = true;
                return None;
            }
            None => {
                self.blocks.push((key, make()));
                self.blocks.len() - 1
            }
        };
        self.blocks.get_mut(at).map(|(_, block)| block)
    }

    /// Text for the block of a key.
    pub(crate) fn text(&mut self, key: u64, more: &str) {
        if more.is_empty() {
            return;
        }
        self.token = true;
        if let Some(Block::Text(text)) = self.block(key, || Block::Text(String::new())) {
            text.push_str(more);
        }
    }

    /// Reasoning for the block of a key.
    pub(crate) fn thinking(&mut self, key: u64, more: &str) {
        if more.is_empty() {
            return;
        }
        self.token = true;
        if let Some(Block::Thinking(text)) = self.block(key, || Block::Thinking(String::new())) {
            text.push_str(more);
        }
    }

    /// A refusal's text for the block of a key.
    pub(crate) fn refusal(&mut self, key: u64, more: &str) {
        if more.is_empty() {
            return;
        }
        self.token = true;
        if let Some(Block::Refusal(text)) = self.block(key, || Block::Refusal(String::new())) {
            text.push_str(more);
        }
    }

    /// The tool call of a key, made when it is new. The caller says whether a token came.
    pub(crate) fn tool(&mut self, key: u64) -> Option<&mut ToolBlock> {
        match self.block(key, || Block::Tool(ToolBlock::default())) {
            Some(Block::Tool(tool)) => Some(tool),
            _ => None,
        }
    }

    /// A piece of the arguments of a key's tool call.
    pub(crate) fn arguments(&mut self, key: u64, more: &str) {
        if more.is_empty() {
            return;
        }
        self.token = true;
        if let Some(tool) = self.tool(key) {
            tool.text.push_str(more);
        }
    }

    /// A token came that no other method saw.
    pub(crate) fn mark_token(&mut self) {
        self.token = true;
    }

    /// Contents that are whole, under a key.
    pub(crate) fn whole(&mut self, key: u64, draft: Draft) {
        if draft.content().is_empty() {
            return;
        }
        self.token = true;
        if let Some(Block::Whole(whole)) = self.block(key, || Block::Whole(Draft::new(Role::Assistant))) {
            whole.append(draft);
        }
    }

    /// Replaces the blocks of a range of keys by whole contents, in the first one's place; true when there were some.
    pub(crate) fn replace_range(&mut self, from: u64, to: u64, draft: Draft) -> bool {
        let inside = |key: u64| (from..to).contains(&key);
        let first = self.blocks.iter().position(|(key, _)| inside(*key));
        self.blocks.retain(|(key, _)| !inside(*key));
        let place = first.unwrap_or(self.blocks.len()).min(self.blocks.len());
        if self.blocks.len() < MAX_BLOCKS {
            self.blocks.insert(place, (from, Block::Whole(draft)));
        }
        first.is_some()
    }

    /// Text for an API without block indexes: joins the last block where that is text.
    pub(crate) fn append_text(&mut self, more: &str) {
        let key = self.open_key(|block| matches!(block, Block::Text(_)));
        self.text(key, more);
    }

    /// Reasoning for an API without block indexes.
    pub(crate) fn append_thinking(&mut self, more: &str) {
        let key = self.open_key(|block| matches!(block, Block::Thinking(_)));
        self.thinking(key, more);
    }

    /// Whole contents for an API without block indexes.
    pub(crate) fn append_whole(&mut self, draft: Draft) {
        let key = self.new_key();
        self.whole(key, draft);
    }

    fn open_key(&self, fits: impl Fn(&Block) -> bool) -> u64 {
        match self.blocks.last() {
            Some((key, block)) if fits(block) => *key,
            _ => self.new_key(),
        }
    }

    pub(crate) fn new_key(&self) -> u64 {
        (1 << 48) | self.blocks.len() as u64
    }

    fn message(&self) -> Message {
        let mut draft = Draft::new(self.role);
        for (_, block) in &self.blocks {
            match block {
                Block::Text(text) => draft.text(text.as_str()),
                Block::Thinking(text) => draft.thinking(text.as_str()),
                Block::Refusal(text) => draft.push(Content::Refusal { text: text.clone() }),
                Block::Tool(tool) => draft.push(Content::ToolCall(tool.call())),
                Block::Whole(whole) => draft.append(whole.clone()),
            }
        }
        draft.seal()
    }
}

impl ToolBlock {
    fn call(&self) -> ToolCall {
        let arguments = match &self.value {
            Some(value) if self.text.is_empty() => value.clone(),
            _ => arguments(&self.text, self.free_form),
        };
        ToolCall { id: self.id.clone(), name: self.name.clone(), arguments, server_side: self.server_side }
    }
}

/// Arguments as an object: parsed from their JSON text; free text under `input`; nothing is an empty object; what does
/// not parse stays a string.
pub(crate) fn arguments(text: &str, free_form: bool) -> Value {
    if free_form {
        return Value::Object(Map::from_iter([("input".to_owned(), Value::String(text.to_owned()))]));
    }
    if text.trim().is_empty() {
        return Value::Object(Map::new());
    }
    Raw::new(text.as_bytes())
        .value()
        .filter(|value| !matches!(value, Value::Null))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Arguments that came as a raw value: a JSON string is read, an object is taken.
pub(crate) fn arguments_of(raw: Raw<'_>) -> Value {
    match raw.text() {
        Some(text) => arguments(&text, false),
        None if raw.is_null() => Value::Object(Map::new()),
        None => raw.value().unwrap_or_else(|| Value::String(raw.display())),
    }
}
