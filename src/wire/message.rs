//! Messages and their content address.
//!
//! The canonical form leaves out what clients move about between one call and the next, so that a message of the
//! history has the address that it had when it was new, and an answer has the address under which the next request repeats it:
//!
//! - the role (developer is system), then each content in order; reasoning is left out;
//! - texts that follow one another are one text (streams and clients cut them differently), white space around it trimmed, an empty
//!   one left out; a plain string equals an array of one text part;
//! - cache markers and tool-call ids are left out;
//! - JSON (tool arguments, parts of unknown kind) has its keys sorted and its whole numbers written as integers;
//! - inline media count by a hash of their data.

use serde_json::Value;

use crate::wire::{Content, Message, MessageHash, Role, ToolCall};

/// A message under construction.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    role: Role,
    content: Vec<Content>,
    /// Hashes of inline media data, in the order of their contents.
    media: Vec<[u8; 32]>,
}

impl Draft {
    pub(crate) fn new(role: Role) -> Draft {
        Draft { role, content: Vec::new(), media: Vec::new() }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn set_role(&mut self, role: Role) {
        self.role = role;
    }

    pub(crate) fn content(&self) -> &[Content] {
        &self.content
    }

    pub(crate) fn push(&mut self, content: Content) {
        self.content.push(content);
    }

    pub(crate) fn text(&mut self, text: impl Into<String>) {
        self.content.push(Content::Text { text: text.into() });
    }

    pub(crate) fn thinking(&mut self, text: impl Into<String>) {
        self.content.push(Content::Thinking { text: text.into() });
    }

    /// Media: by reference, or with its data inline (only its size and hash are kept).
    pub(crate) fn media(&mut self, kind: &str, media_type: Option<String>, reference: Option<String>, data: &[u8]) {
        if !data.is_empty() {
            self.media.push(*blake3::hash(data).as_bytes());
        }
        self.content.push(Content::Media { kind: kind.to_owned(), media_type, reference, size: data.len() as u64 });
    }

    /// Contents, and the hashes of the inline media among them, in order.
    pub(crate) fn into_parts(self) -> (Vec<Content>, Vec<[u8; 32]>) {
        (self.content, self.media)
    }

    /// A content with the hash of its inline data.
    pub(crate) fn push_with_digest(&mut self, content: Content, digest: Option<[u8; 32]>) {
        self.content.push(content);
        self.media.extend(digest);
    }

    pub(crate) fn append(&mut self, mut other: Draft) {
        self.content.append(&mut other.content);
        self.media.append(&mut other.media);
    }

    pub(crate) fn seal(self) -> Message {
        let hash = address(self.role, &self.content, &self.media);
        Message { role: self.role, content: self.content, hash }
    }
}

fn address(role: Role, content: &[Content], media: &[[u8; 32]]) -> MessageHash {
    let mut form = Form { hasher: blake3::Hasher::new() };
    form.hasher.update(&[match role {
        Role::System => 1,
        Role::User => 2,
        Role::Assistant => 3,
        Role::Tool => 4,
    }]);
    // Texts that follow one another; a single one, which is the rule, is not copied.
    let mut texts: Vec<&str> = Vec::new();
    for piece in content {
        match piece {
            Content::Text { text } => texts.push(text),
            Content::Thinking { .. } | Content::RedactedThinking => {}
            other => {
                form.joined_text(&mut texts);
                form.content(other);
            }
        }
    }
    form.joined_text(&mut texts);
    for digest in media {
        form.tagged(7, digest);
    }
    let mut hash = [0; 16];
    hash.copy_from_slice(form.hasher.finalize().as_bytes().get(..16).unwrap_or(&[0; 16]));
    MessageHash(hash)
}

struct Form {
    hasher: blake3::Hasher,
}

impl Form {
    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.hasher.update(&[tag]);
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    fn joined_text(&mut self, texts: &mut Vec<&str>) {
        let joined;
        let text = match texts.as_slice() {
            [] => return,
            [one] => one,
            more => {
                joined = more.concat();
                joined.as_str()
            }
        };
        let trimmed = text.trim();
        if !trimmed.is_empty() {
            self.tagged(1, trimmed.as_bytes());
        }
        texts.clear();
    }

    fn content(&mut self, content: &Content) {
        match content {
            Content::Text { text } | Content::Thinking { text } => self.tagged(1, text.trim().as_bytes()),
            Content::RedactedThinking => {}
            Content::ToolCall(call) => self.tool_call(call),
            Content::ToolResult { text, is_error, .. } => {
                self.tagged(3, text.trim().as_bytes());
                self.hasher.update(&[u8::from(*is_error)]);
            }
            Content::Media { kind, media_type, reference, size } => {
                self.tagged(4, kind.as_bytes());
                self.tagged(4, media_type.as_deref().unwrap_or("").as_bytes());
                self.tagged(4, reference.as_deref().unwrap_or("").as_bytes());
                self.hasher.update(&size.to_le_bytes());
            }
            Content::Refusal { text } => self.tagged(5, text.trim().as_bytes()),
            Content::Other { json } => self.tagged(6, canonical_json(json).as_bytes()),
        }
    }

    fn tool_call(&mut self, call: &ToolCall) {
        self.tagged(2, call.name.as_bytes());
        self.tagged(2, canonical_json(&call.arguments).as_bytes());
    }
}

/// JSON with sorted keys, no spaces, whole numbers as integers, and without `cache_control`.
pub(crate) fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

/// Recursion is bounded: values come from `Raw::value`, which refuses depth.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().filter(|key| *key != "cache_control").collect();
            keys.sort_unstable();
            out.push('{');
            for (at, key) in keys.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(map.get(key).unwrap_or(&Value::Null), out);
            }
            out.push('}');
        }
        Value::Array(elements) => {
            out.push('[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_canonical(element, out);
            }
            out.push(']');
        }
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                out.push_str(&(float as i64).to_string());
            }
            _ => out.push_str(&number.to_string()),
        },
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hash(role: Role, content: Vec<Content>) -> MessageHash {
        let mut draft = Draft::new(role);
        content.into_iter().for_each(|piece| draft.push(piece));
        draft.seal().hash
    }

    fn text(text: &str) -> Content {
        Content::Text { text: text.to_owned() }
    }

    fn call(id: &str, arguments: Value) -> Content {
        Content::ToolCall(ToolCall { id: id.to_owned(), name: "Bash".to_owned(), arguments, server_side: false })
    }

    #[test]
    fn what_clients_move_about_does_not_change_the_address() {
        let plain = hash(Role::Assistant, vec![text("I will"), call("a", json!({"x": 1, "y": {"b": 2.0, "a": "q"}}))]);
        let moved = hash(
            Role::Assistant,
            vec![
                Content::Thinking { text: "hm".to_owned() },
                text(" I "),
                text("will\n"),
                call("b", json!({"y": {"a": "q", "b": 2}, "x": 1})),
                text(" "),
            ],
        );
        assert_eq!(plain, moved);
    }

    #[test]
    fn what_was_said_changes_the_address() {
        let base = hash(Role::User, vec![text("a")]);
        assert_ne!(base, hash(Role::System, vec![text("a")]));
        assert_ne!(base, hash(Role::User, vec![text("b")]));
        assert_ne!(
            hash(Role::Assistant, vec![call("a", json!({"x": 1}))]),
            hash(Role::Assistant, vec![call("a", json!({"x": 2}))])
        );
        let image = |data: &[u8]| {
            let mut draft = Draft::new(Role::User);
            draft.media("image", None, None, data);
            draft.seal().hash
        };
        assert_ne!(image(b"aa"), image(b"bb"));
    }
}
