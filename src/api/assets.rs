//! The console's files, built by `build.rs` and embedded into the binary; or a page that says why there is none.

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use rust_embed::RustEmbed;

use super::routes::error;

#[derive(RustEmbed)]
#[folder = "console/dist/"]
#[allow_missing = true]
struct Files;

/// A file of the console; any other path is a place inside the single page.
pub(super) async fn asset(uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path.starts_with("api/") || path == "api" {
        return error(StatusCode::NOT_FOUND, &format!("there is no {}: docs/api.md lists the paths", uri.path()));
    }
    if let Some(file) = Files::get(path) {
        let kind = HeaderValue::from_static(content_type(path));
        let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
        let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static(cache))];
        return (headers, file.data.into_owned()).into_response();
    }
    if path.starts_with("assets/") {
        return error(StatusCode::NOT_FOUND, "there is no such file");
    }
    match Files::get("index.html") {
        Some(page) => ([(header::CACHE_CONTROL, "no-cache")], Html(page.data.into_owned())).into_response(),
        None => Html(MISSING.replace("{why}", &escaped(WHY))).into_response(),
    }
}

/// Why the build has no console, where it said so.
const WHY: &str = match option_env!("HERON_CONSOLE_MISSING") {
    Some(why) => why,
    None => "its files were not there when heron was built",
};

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

const MISSING: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>heron: the console was not built</title>
<style>body{font:16px/1.6 system-ui,sans-serif;max-width:42rem;margin:12vh auto;padding:0 1.5rem;color:#1c2230;background:#fafaf8}
code,pre{font-family:ui-monospace,monospace;background:#eceae4;border-radius:6px;padding:.1em .35em}pre{padding:.9em 1.1em}
@media(prefers-color-scheme:dark){body{color:#e6e8ee;background:#12141a}code,pre{background:#232733}}</style>
<h1>Heron is running, without its console</h1>
<p>The console is not in this binary: {why}.</p><p>Capturing is not affected, and the JSON API works: <a href="/api/health">/api/health</a>, <a href="/api/calls">/api/calls</a>, <a href="/api/traces">/api/traces</a>.</p>
<p>To get it, install Node 20.19 or newer (from <code>nodejs.org</code>, or <code>apt-get install nodejs npm</code> where that is new enough) and
build again in heron's checkout:</p>
<pre>make build</pre>
</html>
"#;
