//! How one model is spelled: with vendor, region, path, version and date, or without.

/// A name as the table has it: lower case, `.` and `-` alike.
pub(super) fn key(name: &str) -> String {
    name.to_ascii_lowercase().replace('.', "-")
}

/// The spellings under which a name (in lower case) may be known, from the one that was sent to the plainest.
pub(super) fn spellings(name: &str) -> Vec<String> {
    let mut found = vec![name.to_owned()];
    let mut add = |name: &str| {
        if !name.is_empty() && found.iter().all(|known| known != name) {
            found.push(name.to_owned());
        }
    };
    let name = name.split('[').next().unwrap_or_default();
    add(name);
    // `models/x`, `publishers/google/models/x`, `vendor/x`, an ARN's `inference-profile/x`
    let name = name.rsplit('/').next().unwrap_or_default();
    add(name);
    let name = without_date(name).unwrap_or(name);
    add(name);
    let name = without_vendor(name);
    add(name);
    let name = name.strip_suffix("-latest").unwrap_or(name);
    add(name);
    found
}

/// A name without region and vendor (`us.anthropic.`).
fn without_vendor(name: &str) -> &str {
    const PREFIXES: &[&str] = &[
        "us.",
        "eu.",
        "apac.",
        "au.",
        "jp.",
        "global.",
        "us-gov.",
        "anthropic.",
        "amazon.",
        "meta.",
        "mistral.",
        "cohere.",
        "openai.",
        "deepseek.",
        "qwen.",
    ];
    let mut name = name;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name
}

/// A name without the date and version at its end (`-20250929`, `-2024-08-06`, `@20250929`, `-v1:0`), where it has one.
pub(super) fn without_date(name: &str) -> Option<&str> {
    let unversioned = match name.rfind("-v") {
        Some(at) if name.get(at + 2..).is_some_and(|v| is_version(v, name)) => name.get(..at)?,
        _ => name,
    };
    let short = match unversioned.split_once('@') {
        Some((before, _)) => before,
        None => undated(unversioned),
    };
    (short.len() < name.len() && !short.is_empty()).then_some(short)
}

/// `1:0`, as Bedrock counts versions of one model; `3` alone is part of the name but for Claude's.
fn is_version(version: &str, name: &str) -> bool {
    let digits = version.bytes().all(|b| b.is_ascii_digit() || b == b':');
    !version.is_empty() && digits && (version.contains(':') || name.contains("claude"))
}

fn undated(name: &str) -> &str {
    for shape in ["-dddddddd", "-dddd-dd-dd"] {
        let Some(start) = name.len().checked_sub(shape.len()) else { continue };
        let Some(end) = name.get(start..) else { continue };
        let fits = end.bytes().zip(shape.bytes()).all(|(b, s)| if s == b'd' { b.is_ascii_digit() } else { b == s });
        if fits {
            return name.get(..start).unwrap_or(name);
        }
    }
    name
}

/// Who makes a model, by its name: only models that nobody else can host, or names that say their vendor.
pub(super) fn maker(name: &str, plain: &str) -> Option<&'static str> {
    let by_vendor = match name.split('/').next().unwrap_or_default() {
        "anthropic" => Some("anthropic"),
        "openai" => Some("openai"),
        "google" => Some("gcp.gemini"),
        "x-ai" | "xai" => Some("x_ai"),
        "mistralai" | "mistral" => Some("mistral_ai"),
        "deepseek" => Some("deepseek"),
        "moonshotai" => Some("moonshot_ai"),
        "z-ai" => Some("z_ai"),
        "cohere" => Some("cohere"),
        _ => None,
    };
    if plain.starts_with("gpt-oss") {
        return None;
    }
    let by_name = [("claude-", "anthropic"), ("gpt-", "openai"), ("gemini-", "gcp.gemini"), ("grok-", "x_ai")];
    by_name.iter().find(|(prefix, _)| plain.starts_with(prefix)).map(|(_, maker)| *maker).or(by_vendor)
}

/// True when a name fits a pattern in which `*` stands for any characters.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_versions_go() {
        for (name, short) in [
            ("claude-sonnet-4-5-20250929", Some("claude-sonnet-4-5")),
            ("gpt-4o-2024-08-06", Some("gpt-4o")),
            ("claude-opus-4-1-20250805-v1:0", Some("claude-opus-4-1")),
            ("claude-opus-4-6-v1", Some("claude-opus-4-6")),
            ("claude-haiku-4-5@20251001", Some("claude-haiku-4-5")),
            ("gpt-5", None),
            ("deepseek-v3", None),
            ("é-20250929", Some("é")),
        ] {
            assert_eq!(without_date(name), short, "{name}");
        }
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, fits) in [
            ("a*", "abc", true),
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "abd", false),
            ("*b*", "abc", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("", "a", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
