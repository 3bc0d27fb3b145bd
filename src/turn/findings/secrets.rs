//! Which kinds of credentials stand in a text. The value is never kept, and never said.

use super::marks::Marks;

/// A kind of credential: how it begins, what may follow, and how much of it must.
struct Kind {
    name: &'static str,
    prefix: &'static str,
    /// Three letters of the prefix.
    mark: Marks,
    /// At least so many characters follow the prefix.
    at_least: usize,
    /// True when all of them are upper case letters and digits.
    upper: bool,
}

const KINDS: &[Kind] = &[
    kind("An Anthropic API key", "sk-ant-", "k-a", 32),
    kind("An OpenAI API key", "sk-proj-", "k-p", 32),
    kind("An OpenAI API key", "sk-svcacct-", "k-s", 32),
    kind("An OpenRouter API key", "sk-or-v1-", "k-o", 32),
    kind("A Stripe secret key", "sk_live_", "k_l", 20),
    kind("A Stripe secret key", "rk_live_", "k_l", 20),
    kind("A GitHub token", "ghp_", "hp_", 36),
    kind("A GitHub token", "gho_", "ho_", 36),
    kind("A GitHub token", "ghs_", "hs_", 36),
    kind("A GitHub token", "github_pat_", "b_p", 40),
    kind("A GitLab token", "glpat-", "glp", 20),
    kind("A Slack token", "xoxb-", "oxb", 24),
    kind("A Slack token", "xoxp-", "oxp", 24),
    kind("A Hugging Face token", "hf_", "hf_", 30),
    kind("An npm token", "npm_", "pm_", 36),
    kind("A Google API key", "AIza", "aiz", 35),
    kind("A DigitalOcean token", "dop_v1_", "p_v", 60),
    kind("A SendGrid API key", "SG.", "sg.", 60),
    Kind { upper: true, ..kind("An AWS access key", "AKIA", "kia", 16) },
    Kind { upper: true, ..kind("An AWS access key", "ASIA", "sia", 16) },
];

const PRIVATE_KEY: Marks = Marks::mark("y--");
const URL: Marks = Marks::mark("://");

const fn kind(name: &'static str, prefix: &'static str, mark: &str, at_least: usize) -> Kind {
    Kind { name, prefix, mark: Marks::mark(mark), at_least, upper: false }
}

/// The kinds of credentials in a text with these marks, each once, in the order of the table.
pub(super) fn kinds_in(text: &str, marks: Marks) -> Vec<&'static str> {
    let mut found = Vec::new();
    for kind in KINDS {
        if marks.share(kind.mark) && !found.contains(&kind.name) && occurs(text, kind) {
            found.push(kind.name);
        }
    }
    if marks.share(PRIVATE_KEY) && has_private_key(text) {
        found.push("A private key");
    }
    if marks.share(URL) && has_password_in_url(text) {
        found.push("A password in a URL");
    }
    found
}

fn occurs(text: &str, kind: &Kind) -> bool {
    text.match_indices(kind.prefix).take(1_024).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let token: String = text
            .get(at + kind.prefix.len()..)
            .unwrap_or_default()
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
            .take(256)
            .collect();
        let fits = !kind.upper
            || token.len() == kind.at_least && token.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
            && token.len() >= kind.at_least
            && fits
            && is_random(&token)
    })
}

/// Placeholders repeat themselves or say what they are; keys do not.
fn is_random(token: &str) -> bool {
    let lower = token.to_ascii_lowercase();
    let says =
        ["example", "xxxx", "your", "placeholder", "dummy", "redacted", "test-key", "fake", "1234567890", "abcdef"];
    let mut distinct: Vec<char> = token.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    let digits = token.chars().any(|c| c.is_ascii_digit());
    let letters = token.chars().any(|c| c.is_ascii_alphabetic());
    distinct.len() >= 10 && digits && letters && !says.iter().any(|word| lower.contains(word))
}

fn has_private_key(text: &str) -> bool {
    text.match_indices("PRIVATE KEY-----").take(64).any(|(at, found)| {
        let line = text.get(..at).unwrap_or_default().rsplit('\n').next().unwrap_or_default();
        let body = text.get(at + found.len()..).unwrap_or_default().trim_start();
        let data = body.chars().take_while(|c| c.is_ascii_alphanumeric() || "+/=\r\n".contains(*c)).take(128).count();
        line.contains("-----BEGIN") && data >= 60
    })
}

/// `scheme://user:password@host`, where the password is no variable and no mask.
fn has_password_in_url(text: &str) -> bool {
    text.match_indices("://").take(1_024).any(|(at, found)| {
        let rest = text.get(at + found.len()..).unwrap_or_default();
        let authority: &str =
            rest.split(|c: char| c.is_whitespace() || "/\"'`<>)".contains(c)).next().unwrap_or_default();
        let Some((login, host)) = authority.rsplit_once('@') else { return false };
        let Some((user, password)) = login.split_once(':') else { return false };
        let plain = !password.contains(['$', '{', '*', '%', '<', '[']) && password.len() >= 8;
        let lower = password.to_ascii_lowercase();
        let placeholder =
            ["password", "secret", "pass", "changeme", "postgres", "example"].iter().any(|w| lower.contains(w));
        !user.is_empty()
            && !host.is_empty()
            && plain
            && !placeholder
            && !host.starts_with("localhost")
            && !host.starts_with("127.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::findings::marks;

    fn kinds_in(text: &str) -> Vec<&'static str> {
        super::kinds_in(text, marks::of(text))
    }

    /// Put together here, so that no scanner takes this file for a leak.
    fn key(prefix: &str, body: &str) -> String {
        format!("{prefix}{body}")
    }

    #[test]
    fn keys_are_found_wherever_they_stand() {
        let body = "Zk3mQ9wLr7Tx2VbN8sHc5YpJ4dGfA6uE1oRi";
        for (prefix, name) in
            [("sk-ant-", "An Anthropic API key"), ("ghp_", "A GitHub token"), ("hf_", "A Hugging Face token")]
        {
            assert_eq!(kinds_in(&format!("export KEY=\"{}\"", key(prefix, body))), [name]);
        }
        assert_eq!(kinds_in(&key("AKIA", "Z3MQ9WLR7TX2VBN8")), ["An AWS access key"]);
        let pem = format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n", "MIIEowIBAAKCAQEA7x".repeat(5));
        assert_eq!(kinds_in(&pem), ["A private key"]);
        assert_eq!(kinds_in("postgres://app:Tr0ub4dor-3@db.internal/x"), ["A password in a URL"]);
    }

    #[test]
    fn placeholders_and_parts_of_words_are_none() {
        for text in [
            key("sk-ant-", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
            key("AKIA", "IOSFODNN7EXAMPLE"),
            key("ghp_", "short"),
            "task-proj-management".into(),
            "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----".into(),
            "postgres://app:$PASSWORD@db/x and https://user:password@example.com".into(),
            "http://example.com:8080/path@2".into(),
        ] {
            assert!(kinds_in(&text).is_empty(), "{text}");
        }
    }

    #[test]
    fn every_kind_has_its_mark() {
        for kind in KINDS {
            assert!(marks::of(&format!("{}.", kind.prefix)).share(kind.mark), "{}", kind.prefix);
        }
        assert!(marks::of("PRIVATE KEY-----").share(PRIVATE_KEY) && marks::of("a://b").share(URL));
    }
}
