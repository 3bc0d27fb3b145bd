//! What the constants say, read in one pass: strings survive stripping.

use memchr::memmem;

use crate::elf::{Image, Window};
use crate::signature::boringssl;

/// Hits kept per string.
const MAX_HITS: usize = 64;
/// The longest path before a file name.
const MAX_PATH: usize = 500;

/// The strings of interest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strings {
    /// Addresses of the path in BoringSSL's error macro, at its first byte.
    pub(crate) boringssl: Vec<u64>,
    /// Addresses of the function names in OpenSSL's error macros.
    pub(crate) openssl: Vec<u64>,
    /// Such as `OpenSSL 3.5.8 25 Aug 2026`.
    pub(crate) openssl_version: Option<String>,
    /// rustls is linked in.
    pub(crate) rustls: bool,
    /// Its version, out of a panic path.
    pub(crate) rustls_version: Option<String>,
    /// ring is linked in.
    pub(crate) ring: bool,
    /// aws-lc-rs is linked in.
    pub(crate) aws_lc: bool,
}

impl Strings {
    pub(crate) fn of(image: &Image<'_>) -> Strings {
        let mut strings = Strings::default();
        let finders = Finders::new();
        image.constant_windows(|window| strings.look(&window, &finders));
        strings
    }

    fn look(&mut self, window: &Window<'_>, finders: &Finders) {
        let own = |finder: &memmem::Finder<'_>| {
            finder.find_iter(window.bytes).filter(|at| window.owns(*at)).take(MAX_HITS).collect::<Vec<usize>>()
        };
        for at in own(&finders.boringssl) {
            self.boringssl.extend(window.address.checked_add(path_start(window.bytes, at) as u64));
        }
        for finder in [&finders.openssl_read, &finders.openssl_write] {
            // The NUL before the name is part of the search.
            self.openssl.extend(own(finder).iter().map(|at| window.address + *at as u64 + 1));
        }
        let rest = |at: usize, text: &memmem::Finder<'_>| window.bytes.get(at + text.needle().len()..);
        if self.openssl_version.is_none() {
            self.openssl_version =
                finders.openssl.find_iter(window.bytes).find_map(|at| openssl_version(window.bytes.get(at..)?));
        }
        if self.rustls_version.is_none() {
            let mut hits = finders.rustls.find_iter(window.bytes);
            self.rustls_version = hits.find_map(|at| crate_version(rest(at, &finders.rustls)?));
        }
        self.rustls |= self.rustls_version.is_some()
            || finders.rustls_source.find(window.bytes).is_some()
            || finders.rustls_webpki.find(window.bytes).is_some();
        self.ring |=
            finders.ring.find_iter(window.bytes).any(|at| rest(at, &finders.ring).and_then(crate_version).is_some());
        self.aws_lc |= finders.aws_lc.find(window.bytes).is_some();
    }
}

struct Finders {
    boringssl: memmem::Finder<'static>,
    openssl_read: memmem::Finder<'static>,
    openssl_write: memmem::Finder<'static>,
    openssl: memmem::Finder<'static>,
    rustls: memmem::Finder<'static>,
    rustls_source: memmem::Finder<'static>,
    rustls_webpki: memmem::Finder<'static>,
    ring: memmem::Finder<'static>,
    aws_lc: memmem::Finder<'static>,
}

impl Finders {
    fn new() -> Finders {
        Finders {
            boringssl: memmem::Finder::new(boringssl::FILE),
            openssl_read: memmem::Finder::new(b"\0ssl_read_internal\0"),
            openssl_write: memmem::Finder::new(b"\0ssl_write_internal\0"),
            openssl: memmem::Finder::new(b"OpenSSL "),
            rustls: memmem::Finder::new(b"/rustls-"),
            rustls_source: memmem::Finder::new(b"/rustls/src/"),
            rustls_webpki: memmem::Finder::new(b"/rustls-webpki-"),
            ring: memmem::Finder::new(b"/ring-0."),
            aws_lc: memmem::Finder::new(b"/aws-lc-rs-"),
        }
    }
}

/// Where the string that contains `at` begins: after the NUL that ends the one before.
fn path_start(bytes: &[u8], at: usize) -> usize {
    let from = at.saturating_sub(MAX_PATH);
    let head = bytes.get(from..at).unwrap_or(&[]);
    memchr::memrchr(0, head).map_or(at, |nul| from + nul + 1)
}

/// `OpenSSL 3.5.8 25 Aug 2026`, out of bytes that begin with it.
fn openssl_version(bytes: &[u8]) -> Option<String> {
    let text = bytes.get(..bytes.len().min(48))?.split(|b| *b == 0).next()?;
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split(' ').skip(1);
    let number = words.next()?;
    let day = words.find(|w| !w.is_empty())?;
    let plausible = number.starts_with(|c: char| c.is_ascii_digit())
        && number.matches('.').count() == 2
        && day.chars().all(|c| c.is_ascii_digit());
    plausible.then(|| text.to_owned())
}

/// `0.23.46` out of `0.23.46/src/...`.
fn crate_version(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().take(32).position(|b| *b == b'/')?;
    let version = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let plausible = version.starts_with(|c: char| c.is_ascii_digit()) && version.contains('.');
    plausible.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_taken_only_from_version_texts() {
        let good = b"OpenSSL 3.0.17 1 Jul 2025\0rest";
        assert_eq!(openssl_version(good).as_deref(), Some("OpenSSL 3.0.17 1 Jul 2025"));
        assert_eq!(openssl_version(b"OpenSSL 1.1.1w  11 Sep 2023\0").as_deref(), Some("OpenSSL 1.1.1w  11 Sep 2023"));
        assert_eq!(openssl_version(b"OpenSSL compatible layer\0"), None);
        assert_eq!(openssl_version(b"OpenSSL "), None);
        assert_eq!(crate_version(b"0.23.46/src/conn.rs").as_deref(), Some("0.23.46"));
        assert_eq!(crate_version(b"platform-verifier-0.5/src"), None);
    }
}
