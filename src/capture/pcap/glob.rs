//! File name patterns, for shells that did not expand them: `*`, `?` and `[...]` in the last part of a path.

use std::io;
use std::path::{Path, PathBuf};

/// The files that match, in the order of their names.
pub(super) fn paths(pattern: &str) -> io::Result<Vec<PathBuf>> {
    let path = Path::new(pattern);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if matches(name.as_bytes(), entry.file_name().to_string_lossy().as_bytes()) {
            found.push(if path.parent() == Some(Path::new("")) { entry.file_name().into() } else { entry.path() });
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a name matches; the usual two-pointer walk, which returns to the last `*` and never recurses.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while let Some(&byte) = name.get(n) {
        match one(pattern.get(p..).unwrap_or_default(), byte) {
            _ if pattern.get(p) == Some(&b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(len) => (p, n) = (p + len, n + 1),
            None => {
                let Some((after, at)) = star else { return false };
                (p, n) = (after, at + 1);
                star = Some((after, at + 1));
            }
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|&b| b == b'*')
}

/// Length of the pattern's first element if it matches the byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', set @ ..] => {
            let end = set.iter().skip(1).position(|&b| b == b']')? + 1;
            let (negated, members) = match set.get(..end)? {
                [b'!' | b'^', rest @ ..] => (true, rest),
                all => (false, all),
            };
            (contains(members, byte) != negated).then_some(end + 2)
        }
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

fn contains(mut set: &[u8], byte: u8) -> bool {
    loop {
        set = match set {
            [low, b'-', high, ..] if (low..=high).contains(&&byte) => return true,
            [_, b'-', _, rest @ ..] => rest,
            [member, ..] if *member == byte => return true,
            [_, rest @ ..] => rest,
            [] => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        let cases: [(&str, &str, bool); 9] = [
            ("*.pcap", "a.pcap", true),
            ("*.pcap", "a.pcapng", false),
            ("a*b*c", "aXXbYYbZc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("x[0-9].gz", "x7.gz", true),
            ("x[!0-9].gz", "x7.gz", false),
            ("x[", "x[", false),
            ("*", "", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
