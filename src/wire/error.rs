//! Errors as providers write them: an `error` object of several shapes, a sentence, or only a status.

use crate::wire::answer::Answer;
use crate::wire::json::{Kind, Raw};

/// How much of a body that is no JSON is kept as the error's sentence.
const MAX_SENTENCE: usize = 500;

/// Reads an error body or event into the answer; false when it is none.
pub(crate) fn read(raw: Raw<'_>, answer: &mut Answer) -> bool {
    // Gemini's streams put the error into an array.
    let raw = if raw.is_array() { raw.elements().next().unwrap_or(raw) } else { raw };
    if !raw.is_object() {
        return false;
    }
    if let Some(error) = raw.some("error") {
        from_field(error, raw, answer);
        return true;
    }
    let sentence = ["message", "Message", "detail", "error_message", "msg"].iter().find_map(|key| raw.some(key));
    match sentence {
        Some(sentence) => {
            let kind = ["type", "__type", "code", "Code"].iter().find_map(|key| raw.some(key)).map(Raw::display);
            let kind = kind.map(|kind| kind.rsplit('#').next().unwrap_or_default().to_owned());
            answer.fail(kind.unwrap_or_default(), shorten(&sentence.display()));
            true
        }
        None => false,
    }
}

fn from_field(error: Raw<'_>, around: Raw<'_>, answer: &mut Answer) {
    if error.kind() == Kind::String {
        let kind = around.some("code").or_else(|| around.some("type")).and_then(Raw::string).unwrap_or_default();
        let sentence = around.some("message").or_else(|| around.some("error_description")).unwrap_or(error);
        return answer.fail(kind, shorten(&sentence.display()));
    }
    // OpenAI's `code` says more than its `type` (`tokens`), Gemini's `code` is only the HTTP status again.
    let candidates = ["code", "type", "status"].map(|key| error.some(key));
    let name = candidates.iter().flatten().find(|value| value.kind() == Kind::String).and_then(|value| value.string());
    let kind = name.filter(|name| name != "error").unwrap_or_else(|| {
        candidates
            .iter()
            .flatten()
            .find(|value| value.kind() == Kind::Number)
            .map_or_else(String::new, |code| code.display())
    });
    let sentence = error.some("message").or_else(|| error.some("detail")).map_or_else(String::new, Raw::display);
    answer.fail(kind, shorten(&sentence));
}

/// A body that is no JSON, as a sentence.
pub(crate) fn sentence(body: &[u8]) -> String {
    shorten(String::from_utf8_lossy(body.get(..body.len().min(4 * MAX_SENTENCE)).unwrap_or_default()).trim())
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_SENTENCE) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Option<(String, String)> {
        let mut answer = Answer::default();
        read(Raw::new(text.as_bytes()), &mut answer);
        answer.error.map(|error| (error.kind, error.message))
    }

    #[test]
    fn every_shape_is_read() {
        let cases = [
            (r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#, "rate_limit_error", "m"),
            (r#"{"error":{"message":"m","type":"invalid_request_error","code":"x"}}"#, "x", "m"),
            (r#"{"error":{"message":"m","type":null,"code":"rate_limit_exceeded"}}"#, "rate_limit_exceeded", "m"),
            (r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}"#, "RESOURCE_EXHAUSTED", "m"),
            (r#"[{"error":{"code":500,"message":"m"}}]"#, "500", "m"),
            (r#"{"error":"m"}"#, "", "m"),
            (r#"{"message":"m"}"#, "", "m"),
            (r#"{"detail":[{"loc":1}]}"#, "", r#"[{"loc":1}]"#),
            (r#"{"object":"error","message":"m","type":"NotFoundError","code":404}"#, "NotFoundError", "m"),
            (r#"{"__type":"com.amazon#ThrottlingException","message":"m"}"#, "ThrottlingException", "m"),
        ];
        for (text, kind, message) in cases {
            assert_eq!(error(text), Some((kind.to_owned(), message.to_owned())), "{text}");
        }
        assert_eq!(error(r#"{"id":"x"}"#), None);
        assert_eq!(error("oops"), None);
    }
}
