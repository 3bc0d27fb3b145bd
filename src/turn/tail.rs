//! What is new in a call: the messages after those it shares with the call it continues.

use std::sync::Arc;

use crate::wire::{Content, Message, Role};

use super::prompt::{self, Kind};

/// The new messages, read.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Tail {
    /// The person's words since the model last spoke (or, when calls were not seen, before it did).
    pub prompts: Vec<String>,
    /// True when the model spoke after those words: calls in between were not seen.
    pub answered: bool,
    /// True when there are results of tools.
    pub results: bool,
    /// True when there is the summary of an older conversation.
    pub summary: bool,
    /// What else a user message says: the prompt when there is no other.
    pub others: Vec<String>,
    /// The kind of a picture or file that a user message brings.
    media: Option<String>,
}

/// Reads messages.
pub(super) fn read(messages: &[Arc<Message>]) -> Tail {
    let mut tail = Tail::default();
    for message in messages {
        match message.role {
            Role::System => {}
            Role::Assistant => {
                tail.answered |= !tail.prompts.is_empty();
                tail.results = false;
                tail.others.clear();
                tail.media = None;
            }
            Role::Tool => tail.results = true,
            Role::User => tail.take_user(message),
        }
    }
    if let Some(kind) = tail.media.take().filter(|_| !tail.results && (tail.prompts.is_empty() || tail.answered)) {
        // A picture alone is a prompt too; beside tool results it is the agent's.
        tail.prompts = vec![format!("[{kind}]")];
    }
    tail
}

/// The last words of a person in a whole conversation.
pub(super) fn last_prompt(messages: &[Arc<Message>]) -> Option<String> {
    messages.iter().rev().filter(|message| message.role == Role::User).find_map(|message| {
        let tail = read(std::slice::from_ref(message));
        (!tail.prompts.is_empty()).then(|| tail.prompts.join("\n"))
    })
}

impl Tail {
    /// The prompt as one text.
    pub fn prompt(&self) -> Option<String> {
        (!self.prompts.is_empty()).then(|| self.prompts.join("\n"))
    }

    fn take_user(&mut self, message: &Message) {
        let mut words = Vec::new();
        let mut wrapped = Vec::new();
        let mut results = false;
        let mut stopped = false;
        for content in &message.content {
            match content {
                Content::Text { text } => {
                    let reading = prompt::read(text);
                    match reading.kind {
                        Kind::Prompt => words.push(reading.words),
                        Kind::Wrapped => wrapped.push(reading.words),
                        Kind::ToolText => {
                            results = true;
                            self.others.push(reading.words);
                        }
                        Kind::Summary => {
                            self.summary = true;
                            self.others.push(reading.words);
                        }
                        Kind::Interrupt => {
                            // What was said before was not answered.
                            stopped = true;
                            words.clear();
                            self.prompts.clear();
                        }
                        Kind::Notice if !reading.words.is_empty() => self.others.push(reading.words),
                        Kind::Notice => {}
                    }
                }
                Content::ToolResult { text, .. } => {
                    results = true;
                    stopped |= prompt::is_refusal(text);
                }
                Content::Media { kind, .. } => self.media = Some(kind.clone()),
                _ => {}
            }
        }
        self.results |= results;
        if words.is_empty() && !results {
            words = wrapped;
        }
        if results && !stopped {
            // Words beside results in one message are the agent's (hints, reminders), unless a person stopped the tools.
            self.others.append(&mut words);
        }
        if !words.is_empty() {
            if std::mem::take(&mut self.answered) {
                self.prompts.clear();
            }
            self.prompts.append(&mut words);
        }
    }
}
