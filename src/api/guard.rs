//! Who may ask: only a page that heron itself served, or a program on this host that says so.
//!
//! Listening on loopback does not keep a web site out: its script can ask `http://localhost:3000` (foreign `Origin`), or
//! its name can be made to point here (DNS rebinding: foreign `Host`). Both get 403.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::routes::error;

/// Lets a request through, or answers 403; and sets the headers that every answer carries.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let mut response = match refusal(request.method(), request.headers()) {
        Some(sentence) => error(StatusCode::FORBIDDEN, sentence),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response.into_response()
}

/// The page may load only what heron serves. Styles set by scripts (chart sizes, virtual lists) need `unsafe-inline`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn refusal(method: &Method, headers: &HeaderMap) -> Option<&'static str> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some("heron's API only reads: use GET");
    }
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    if !text(header::HOST).is_some_and(is_loopback_authority) {
        return Some("this host name is not heron's: use http://localhost or http://127.0.0.1");
    }
    if text(header::ORIGIN).is_some_and(|origin| !is_loopback_origin(origin)) {
        return Some("another site's page may not read heron's data");
    }
    let cross_site = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    let navigation = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
    if cross_site && !navigation {
        return Some("another site's page may not read heron's data");
    }
    None
}

fn is_loopback_origin(origin: &str) -> bool {
    origin
        .split_once("://")
        .is_some_and(|(scheme, authority)| matches!(scheme, "http" | "https") && is_loopback_authority(authority))
}

fn is_loopback_authority(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) => (host, port),
            None => return false,
        },
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_is_well_formed = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let is_loopback = host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    port_is_well_formed && is_loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(pairs: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        refusal(&Method::GET, &headers).is_some()
    }

    #[test]
    fn only_loopback_names_are_hosts() {
        for host in ["localhost:3000", "127.0.0.1:3000", "[::1]:3000", "LOCALHOST", "127.0.0.2"] {
            assert!(!refused(&[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil.example:3000",
            "10.0.0.1:3000",
            "127.0.0.1.evil.example",
            "[::1",
            "localhost:x",
            "0.0.0.0:3000",
            "",
        ] {
            assert!(refused(&[("host", host)]), "{host}");
        }
        assert!(refused(&[]));
    }

    #[test]
    fn foreign_origins_are_refused() {
        let host = ("host", "localhost:3000");
        for origin in ["http://localhost:3000", "http://127.0.0.1:5173"] {
            assert!(!refused(&[host, ("origin", origin)]), "{origin}");
        }
        for origin in ["http://evil.example", "null", "https://localhost.evil.example", "file://"] {
            assert!(refused(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(refused(&[host, ("sec-fetch-site", "cross-site")]));
        assert!(!refused(&[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
    }

    #[test]
    fn nothing_but_reading_is_let_through() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("localhost"));
        assert!(refusal(&Method::POST, &headers).is_some());
        assert!(refusal(&Method::HEAD, &headers).is_none());
    }
}
