//! Takes credentials out of headers, request targets and command lines, before anything is stored or shown.
//!
//! The whole value goes, without a tail to recognise it by; only the scheme's word of an authorization header stays.

/// What stands in a credential's place.
pub const MARK: &str = "[redacted]";

/// Headers that are credentials by their exact name.
const HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "set-cookie2",
    "x-api-key",
    "api-key",
    "apikey",
    "x-goog-api-key",
    "x-goog-iam-authorization-token",
    "x-amz-security-token",
    "x-auth-key",
    "cf-access-client-secret",
    "openai-ephemeral-key",
    "sec-websocket-protocol-key",
    "chatgpt-account-id-token",
    "x-csrf-token",
    "x-xsrf-token",
];

/// Last words of names that are credentials.
const WORDS: &[&str] =
    &["authorization", "key", "apikey", "token", "secret", "password", "passwd", "signature", "credential", "cookie"];

/// Names that end in such a word and are none.
const INNOCENT: &[&str] = &[
    "sec-websocket-key",
    "idempotency-key",
    "x-idempotency-key",
    "x-stainless-idempotency-key",
    "prompt-cache-key",
    "prompt_cache_key",
    "max-token",
    "surrogate-key",
    "cache-key",
    "x-cache-key",
];

/// Parameters of a query that are credentials by their exact name.
const PARAMETERS: &[&str] = &[
    "key",
    "sig",
    "code",
    "auth",
    "jwt",
    "pwd",
    "pass",
    "client_assertion",
    "x-amz-credential",
    "x-amz-signature",
    "awsaccesskeyid",
];

/// A header's value without its credential.
pub fn header(name: &str, value: &str) -> String {
    let name = name.to_ascii_lowercase();
    if name == "sec-websocket-protocol" {
        return subprotocols(value);
    }
    if !HEADERS.contains(&name.as_str()) && !ends_in_secret(&name) {
        return value.to_owned();
    }
    match value.split_once(' ') {
        Some((scheme, _)) if name.ends_with("authorization") && is_scheme(scheme) => format!("{scheme} {MARK}"),
        _ => MARK.to_owned(),
    }
}

/// A request's target without credentials in its query.
pub fn target(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let parts: Vec<String> = query.split('&').map(parameter).collect();
    format!("{path}?{}", parts.join("&"))
}

fn parameter(part: &str) -> String {
    match part.split_once('=') {
        Some((name, value)) if !value.is_empty() && is_secret_parameter(name) => format!("{name}={MARK}"),
        _ => part.to_owned(),
    }
}

fn is_secret_parameter(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    PARAMETERS.contains(&name.as_str()) || ends_in_secret(&name)
}

/// True when a name's last word says credential: words are parted by `-`, `_` or `.`, or stuck to `api` and `access`.
fn ends_in_secret(name: &str) -> bool {
    if INNOCENT.contains(&name) {
        return false;
    }
    WORDS.iter().any(|word| {
        name.strip_suffix(word).is_some_and(|front| {
            front.is_empty() || front.ends_with(['-', '_', '.']) || front.ends_with("api") || front.ends_with("access")
        })
    })
}

fn is_scheme(word: &str) -> bool {
    !word.is_empty() && word.len() <= 20 && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Browsers put a key into the list of subprotocols: `realtime, openai-insecure-api-key.sk-...`.
fn subprotocols(value: &str) -> String {
    let parts: Vec<String> = value
        .split(',')
        .map(|part| match part.split_once("key.") {
            Some((front, _)) => format!("{front}key.{MARK}"),
            None => part.to_owned(),
        })
        .collect();
    parts.join(",")
}

/// A command line without credentials in its options: `--api-key X`, `--token=X`, `KEY=X`, and words that are keys themselves.
pub fn arguments(arguments: &[String]) -> Vec<String> {
    let mut next_is_secret = false;
    arguments
        .iter()
        .map(|word| {
            if std::mem::take(&mut next_is_secret) && !word.starts_with('-') {
                return MARK.to_owned();
            }
            if let Some((name, value)) = word.split_once('=')
                && is_option_name(name)
                && !value.is_empty()
            {
                return format!("{name}={MARK}");
            }
            next_is_secret = word.starts_with('-') && is_option_name(word);
            keys_in(word)
        })
        .collect()
}

fn is_option_name(name: &str) -> bool {
    let plain = name.trim_start_matches('-').to_ascii_lowercase();
    let short = plain.len() <= 40 && plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    short && ends_in_secret(&plain) && plain != "key"
}

/// Takes out what looks like a key wherever it stands (`-H "Authorization: Bearer ..."`, `sk-...`).
fn keys_in(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    for name in ["authorization:", "x-api-key:", "api-key:", "x-goog-api-key:", "cookie:"] {
        if let Some(at) = lower.find(name) {
            let end = at + name.len();
            return format!("{} {MARK}", word.get(..end).unwrap_or_default());
        }
    }
    for prefix in ["sk-", "AIza", "gsk_", "xai-", "ghp_", "github_pat_", "hf_", "r8_"] {
        if word.starts_with(prefix) && word.len() >= 20 {
            return MARK.to_owned();
        }
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_headers_go_and_the_scheme_stays() {
        let cases = [
            ("Authorization", "Bearer sk-123", "Bearer [redacted]"),
            ("authorization", "AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=y", "AWS4-HMAC-SHA256 [redacted]"),
            ("Authorization", "sk-123", "[redacted]"),
            ("Proxy-Authorization", "Basic eA==", "Basic [redacted]"),
            ("X-Api-Key", "sk-ant", "[redacted]"),
            ("api-key", "x", "[redacted]"),
            ("x-goog-api-key", "AIza", "[redacted]"),
            ("Cookie", "a=b; c=d", "[redacted]"),
            ("set-cookie", "a=b", "[redacted]"),
            ("x-amz-security-token", "x", "[redacted]"),
            ("Ocp-Apim-Subscription-Key", "x", "[redacted]"),
            ("content-type", "application/json", "application/json"),
            ("sec-websocket-key", "abc", "abc"),
            ("x-ratelimit-remaining-tokens", "12", "12"),
            ("anthropic-version", "2023-06-01", "2023-06-01"),
            (
                "sec-websocket-protocol",
                "realtime, openai-insecure-api-key.sk-1",
                "realtime, openai-insecure-api-key.[redacted]",
            ),
        ];
        for (name, value, expected) in cases {
            assert_eq!(header(name, value), expected, "{name}");
        }
    }

    #[test]
    fn credentials_in_queries_go() {
        let cases = [
            ("/v1/x?key=AIza&alt=sse", "/v1/x?key=[redacted]&alt=sse"),
            (
                "/v1/x?alt=sse&api_key=1&access_token=2&token=3",
                "/v1/x?alt=sse&api_key=[redacted]&access_token=[redacted]&token=[redacted]",
            ),
            (
                "/x?X-Amz-Signature=a&X-Amz-Credential=b&X-Amz-Security-Token=c&X-Amz-Date=d",
                "/x?X-Amz-Signature=[redacted]&X-Amz-Credential=[redacted]&X-Amz-Security-Token=[redacted]&X-Amz-Date=d",
            ),
            ("/x?api-version=1&monkey=2", "/x?api-version=1&monkey=2"),
            ("/x", "/x"),
            ("/x?", "/x?"),
        ];
        for (given, expected) in cases {
            assert_eq!(target(given), expected);
        }
    }

    #[test]
    fn credentials_in_command_lines_go() {
        let words: Vec<String> = [
            "curl",
            "-H",
            "Authorization: Bearer sk-1",
            "--api-key",
            "abc",
            "--token=def",
            "OPENAI_API_KEY=x",
            "sk-aaaaaaaaaaaaaaaaaaaaaaaa",
            "list the keys",
        ]
        .map(str::to_owned)
        .to_vec();
        let expected = [
            "curl",
            "-H",
            "Authorization: [redacted]",
            "--api-key",
            MARK,
            "--token=[redacted]",
            "OPENAI_API_KEY=[redacted]",
            MARK,
            "list the keys",
        ];
        assert_eq!(arguments(&words), expected);
    }
}
