//! The paths of `docs/api.md`. What is under way (hub) is merged over what is stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::hub::{LiveCall, is_open};
use super::{Shared, assets, content, guard, prometheus, stream};
use crate::event::Nanos;
use crate::store::{CallFilter, CallSummary, Page, StoreError, TurnFilter, TurnSummary, step_json};
use crate::turn::Turn;
use crate::wire::CallState;

type Parameters = Query<HashMap<String, String>>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/health", get(health))
        .route("/api/calls", get(calls))
        .route("/api/calls/{id}", get(call))
        .route("/api/calls/{id}/request/body", get(request_body))
        .route("/api/calls/{id}/response/body", get(response_body))
        .route("/api/traces", get(traces))
        .route("/api/traces/{id}", get(trace))
        .route("/api/sessions", get(sessions))
        .route("/api/sessions/{id}", get(session))
        .route("/api/findings", get(findings))
        .route("/api/processes", get(processes))
        .route("/api/metrics", get(metrics))
        .route("/api/stream", get(stream::stream))
        .route("/metrics", get(exposition))
        .fallback(get(assets::asset))
        .layer(axum::middleware::from_fn(guard::guard))
        .with_state(shared)
}

/// An error's answer.
pub(super) fn error(status: StatusCode, sentence: &str) -> Response {
    (status, Json(json!({"error": sentence}))).into_response()
}

/// A handler's refusal or failure.
struct Failure(StatusCode, String);

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        tracing::warn!("the API could not read: {error}");
        Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        error(self.0, &self.1)
    }
}

type Answer<T> = Result<T, Failure>;

fn not_found(what: &str, id: &str) -> Failure {
    let id: String = id.chars().take(64).collect();
    Failure(StatusCode::NOT_FOUND, format!("there is no {what} {id:?}"))
}

/// Runs what reads the database where it may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(_) => {
            Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, "heron failed to answer; its log says why".to_owned()))
        }
    }
}

/// The query's parameters, read strictly: a value that cannot be understood is the caller's error.
struct Asked(HashMap<String, String>);

impl Asked {
    fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Answer<Option<T>> {
        let Some(value) = self.text(name) else { return Ok(None) };
        let refused = |_| Failure(StatusCode::BAD_REQUEST, format!("{name}={value:?} is not a number that fits"));
        value.parse().map(Some).map_err(refused)
    }

    fn flag(&self, name: &str) -> Answer<Option<bool>> {
        match self.text(name).as_deref() {
            None => Ok(None),
            Some("1" | "true") => Ok(Some(true)),
            Some("0" | "false") => Ok(Some(false)),
            Some(value) => Err(Failure(StatusCode::BAD_REQUEST, format!("{name}={value:?} is neither 0 nor 1"))),
        }
    }

    fn limit(&self, default: usize) -> Answer<usize> {
        Ok(self.number("limit")?.unwrap_or(default).clamp(1, 1_000))
    }
}

pub(super) fn health_json(shared: &Shared) -> Value {
    let mut health = match (shared.health)() {
        Value::Object(health) => health,
        _ => Map::new(),
    };
    let mut default = |name: &str, value: Value| {
        health.entry(name).or_insert(value);
    };
    default("status", "ok".into());
    default("version", env!("CARGO_PKG_VERSION").into());
    default("uptime_ms", (shared.started.elapsed().as_millis() as u64).into());
    default("source", Value::Null);
    default("database", Value::Null);
    default("counters", json!({}));
    default("losses", json!({}));
    default("targets", json!([]));
    for bytes in ["seen_bytes", "passed_bytes", "filtered_bytes"] {
        default(bytes, 0.into());
    }
    Value::Object(health)
}

async fn health(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(health_json(&shared))
}

async fn exposition(State(shared): State<Arc<Shared>>) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], prometheus::text(&health_json(&shared))).into_response()
}

async fn calls(State(shared): State<Arc<Shared>>, Query(asked): Parameters) -> Answer<Json<Value>> {
    let asked = Asked(asked);
    let filter = CallFilter {
        model: asked.text("model"),
        wire_api: asked.text("wire_api"),
        provider: asked.text("provider"),
        status: asked.number("status")?,
        error: asked.flag("error")?,
        auxiliary: asked.flag("auxiliary")?,
        turn: asked.text("turn"),
        session: asked.text("session"),
        pid: asked.number("pid")?,
        text: asked.text("q"),
    };
    let (limit, before) = (asked.limit(50)?, asked.text("before"));
    blocking(move || {
        let before = match before {
            Some(id) => Some((call_start(&shared, &id)?, id)),
            None => None,
        };
        let live = shared.hub.calls();
        let mut rows: Vec<(u64, CallSummary)> = live
            .iter()
            .map(|live| (live.started().0, live.summary()))
            .filter(|(start, call)| is_before(*start, &call.id, before.as_ref()) && matches(&filter, call))
            .collect();
        let live_ids: HashSet<String> = live.iter().map(|live| live.call.id.to_string()).collect();
        // Stored rows that the hub has too are answered from the hub, so more are read than asked for.
        let page = Page { limit: limit + 1 + live_ids.len(), before };
        for call in shared.reader.calls(&filter, &page)? {
            if !live_ids.contains(&call.id) {
                rows.push((nanos_of(&call.started_at), call));
            }
        }
        rows.sort_by(|(a_start, a), (b_start, b)| (b_start, &b.id).cmp(&(a_start, &a.id)));
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(_, call)| call.id.clone());
        let calls: Vec<CallSummary> = rows.into_iter().map(|(_, call)| call).collect();
        Ok(Json(json!({"calls": calls, "next": next})))
    })
    .await
}

fn call_start(shared: &Shared, id: &str) -> Answer<u64> {
    if let Some(live) = shared.hub.call(id) {
        return Ok(live.started().0);
    }
    shared.reader.call_start(id)?.ok_or_else(|| not_found("call", id))
}

fn is_before(start: u64, id: &str, before: Option<&(u64, String)>) -> bool {
    before.is_none_or(|(before, before_id)| (start, id) < (*before, before_id.as_str()))
}

/// The filter of the store, for a call that is not there yet.
fn matches(filter: &CallFilter, call: &CallSummary) -> bool {
    let is = |asked: &Option<String>, has: Option<&str>| asked.as_deref().is_none_or(|asked| has == Some(asked));
    let model = filter.model.as_deref().is_none_or(|model| {
        call.request_model.as_deref() == Some(model) || call.response_model.as_deref() == Some(model)
    });
    let pid = call.process.as_ref().map(|process| process.pid);
    let text = filter.text.as_deref().is_none_or(|words| {
        let words = words.to_lowercase();
        let process = call.process.as_ref().map(|process| format!("{} {}", process.exe, process.cmdline.join(" ")));
        let error = call.error.as_ref().map(|error| format!("{} {}", error.kind, error.message));
        [
            Some(&call.prompt),
            Some(&call.preview),
            call.request_model.as_ref(),
            call.response_model.as_ref(),
            Some(&call.wire_api),
            process.as_ref(),
            error.as_ref(),
        ]
        .into_iter()
        .flatten()
        .any(|field| field.to_lowercase().contains(&words))
    });
    model
        && text
        && is(&filter.wire_api, Some(&call.wire_api))
        && is(&filter.provider, Some(&call.provider))
        && is(&filter.turn, call.turn_id.as_deref())
        && is(&filter.session, call.session_id.as_deref())
        && filter.status.is_none_or(|status| call.status == Some(status))
        && filter.error.is_none_or(|error| call.error.is_some() == error)
        && filter.auxiliary.is_none_or(|auxiliary| call.auxiliary == auxiliary)
        && filter.pid.is_none_or(|asked| pid == Some(asked))
}

/// The time in an RFC 3339 text that the store wrote; only its order matters here.
fn nanos_of(text: &str) -> u64 {
    parse_rfc3339(text).unwrap_or(0)
}

async fn call(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer<Json<Value>> {
    blocking(move || {
        // The store's row is the better one once it exists: its place is final.
        let live = shared.hub.call(&id);
        if let Some(live) = live.as_ref().filter(|live| live.call.state == CallState::InProgress) {
            return Ok(Json(live.detail().to_json()));
        }
        if let Some(call) = shared.reader.call(&id)? {
            return Ok(Json(call.to_json()));
        }
        let live = live.ok_or_else(|| not_found("call", &id))?;
        Ok(Json(live.detail().to_json()))
    })
    .await
}

async fn request_body(state: State<Arc<Shared>>, Path(id): Path<String>, Query(asked): Parameters) -> Answer<Response> {
    body(state.0, id, true, Asked(asked).flag("decoded")?.unwrap_or(false)).await
}

async fn response_body(
    state: State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(asked): Parameters,
) -> Answer<Response> {
    body(state.0, id, false, Asked(asked).flag("decoded")?.unwrap_or(false)).await
}

async fn body(shared: Arc<Shared>, id: String, of_request: bool, decoded: bool) -> Answer<Response> {
    blocking(move || {
        let live = shared.hub.call(&id);
        let bytes = match &live {
            Some(LiveCall { call, .. }) => {
                let half = if of_request { &call.request } else { &call.response };
                half.body.to_vec()
            }
            None => shared.reader.body(&id, of_request)?.ok_or_else(|| not_found("call", &id))?,
        };
        if !decoded {
            return Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response());
        }
        let detail = match live {
            Some(live) => live.detail(),
            None => shared.reader.call(&id)?.ok_or_else(|| not_found("call", &id))?,
        };
        let half = if of_request { detail.request() } else { detail.response() };
        let bytes = content::decode(bytes, half.content_encoding.as_deref().unwrap_or_default())
            .map_err(|error| Failure(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
        // A captured page must not run here: the policy header forbids scripts, and HTML is shown as text.
        let kind = half.content_type.clone().filter(|kind| !kind.to_ascii_lowercase().contains("html"));
        let kind = kind.and_then(|kind| HeaderValue::from_str(&kind).ok());
        let kind = kind.unwrap_or(HeaderValue::from_static("text/plain; charset=utf-8"));
        Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
    })
    .await
}

async fn traces(State(shared): State<Arc<Shared>>, Query(asked): Parameters) -> Answer<Json<Value>> {
    let asked = Asked(asked);
    let filter = TurnFilter {
        session: asked.text("session"),
        agent: asked.text("agent"),
        status: asked.text("status"),
        text: asked.text("q"),
    };
    let (limit, before) = (asked.limit(5)?, asked.text("before"));
    blocking(move || {
        let before = match before {
            Some(id) => Some((turn_start(&shared, &id)?, id)),
            None => None,
        };
        let live = shared.hub.turns();
        let live_ids: HashSet<String> = live.iter().map(|(_, turn)| turn.id.clone()).collect();
        let mut rows: Vec<(u64, TurnSummary)> = live
            .into_iter()
            .map(|(turn, summary)| (turn.started_at.0, summary))
            .filter(|(start, turn)| is_before(*start, &turn.id, before.as_ref()) && turn_matches(&filter, turn))
            .collect();
        let page = Page { limit: limit + 1 + live_ids.len(), before };
        for turn in shared.reader.turns(&filter, &page)? {
            if !live_ids.contains(&turn.id) {
                rows.push((nanos_of(&turn.started_at), turn));
            }
        }
        rows.sort_by(|(a_start, a), (b_start, b)| (b_start, &b.id).cmp(&(a_start, &a.id)));
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(_, turn)| turn.id.clone());
        let traces: Vec<TurnSummary> = rows.into_iter().map(|(_, turn)| turn).collect();
        Ok(Json(json!({"traces": traces, "next": next})))
    })
    .await
}

fn turn_start(shared: &Shared, id: &str) -> Answer<u64> {
    if let Some((turn, _)) = shared.hub.turn(id) {
        return Ok(turn.started_at.0);
    }
    shared.reader.turn_start(id)?.ok_or_else(|| not_found("turn", id))
}

fn turn_matches(filter: &TurnFilter, turn: &TurnSummary) -> bool {
    let is = |asked: &Option<String>, has: &str| asked.as_deref().is_none_or(|asked| has == asked);
    let text = filter.text.as_deref().is_none_or(|words| {
        let words = words.to_lowercase();
        [&turn.prompt, &turn.answer].into_iter().chain(&turn.models).any(|field| field.to_lowercase().contains(&words))
    });
    text && is(&filter.session, &turn.session_id)
        && is(&filter.agent, &turn.agent.kind)
        && is(&filter.status, &turn.status)
}

async fn trace(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer<Json<Value>> {
    blocking(move || {
        let live = shared.hub.turn(&id);
        if let Some((turn, summary)) = live.as_ref().filter(|(turn, _)| is_open(turn)) {
            return live_trace(&shared, turn, summary);
        }
        if let Some(stored) = shared.reader.turn(&id)? {
            return Ok(Json(serde_json::to_value(stored).unwrap_or_default()));
        }
        let (turn, summary) = live.ok_or_else(|| not_found("turn", &id))?;
        live_trace(&shared, &turn, &summary)
    })
    .await
}

/// A turn of the hub: its calls may be in the hub or in the store already.
fn live_trace(shared: &Shared, turn: &Turn, summary: &TurnSummary) -> Answer<Json<Value>> {
    let mut calls: Vec<(u64, CallSummary)> = shared
        .reader
        .calls_by_id(&summary.call_ids)?
        .into_iter()
        .map(|call| (nanos_of(&call.started_at), call))
        .collect();
    let stored: HashSet<String> = calls.iter().map(|(_, call)| call.id.clone()).collect();
    for live in shared.hub.calls() {
        let id = live.call.id.to_string();
        let belongs = summary.call_ids.contains(&id) || live.place.is_some_and(|place| place.turn_id == Some(turn.id));
        if belongs && !stored.contains(&id) {
            calls.push((live.started().0, live.summary()));
        }
    }
    calls.sort_by(|(a_start, a), (b_start, b)| (a_start, &a.id).cmp(&(b_start, &b.id)));
    let calls: Vec<CallSummary> = calls.into_iter().map(|(_, call)| call).collect();
    let mut answer = serde_json::to_value(summary).unwrap_or_default();
    answer["steps"] = turn.steps.iter().map(step_json).collect();
    answer["calls"] = serde_json::to_value(calls).unwrap_or_default();
    answer["findings"] = serde_json::to_value(shared.reader.findings_of_turn(&summary.id)?).unwrap_or_default();
    let sub_turns: Vec<TurnSummary> = shared
        .hub
        .turns()
        .into_iter()
        .filter(|(live, _)| live.parent_turn_id == Some(turn.id))
        .map(|(_, summary)| summary)
        .collect();
    answer["sub_turns"] = serde_json::to_value(sub_turns).unwrap_or_default();
    Ok(Json(answer))
}

async fn sessions(State(shared): State<Arc<Shared>>, Query(asked): Parameters) -> Answer<Json<Value>> {
    let limit = Asked(asked).limit(50)?;
    blocking(move || Ok(Json(json!({"sessions": shared.reader.sessions(None, limit)?})))).await
}

async fn session(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer<Json<Value>> {
    blocking(move || {
        let session =
            shared.reader.sessions(Some(&id), 1)?.into_iter().next().ok_or_else(|| not_found("session", &id))?;
        let filter = TurnFilter { session: Some(id), ..TurnFilter::default() };
        let mut turns = shared.reader.turns(&filter, &Page { limit: 1_000, before: None })?;
        turns.reverse();
        let mut answer = serde_json::to_value(session).unwrap_or_default();
        answer["turn_list"] = serde_json::to_value(turns).unwrap_or_default();
        Ok(Json(answer))
    })
    .await
}

async fn findings(State(shared): State<Arc<Shared>>, Query(asked): Parameters) -> Answer<Json<Value>> {
    let limit = Asked(asked).limit(50)?;
    blocking(move || Ok(Json(json!({"findings": shared.reader.findings(limit)?})))).await
}

async fn processes(State(shared): State<Arc<Shared>>, Query(asked): Parameters) -> Answer<Json<Value>> {
    let limit = Asked(asked).limit(500)?;
    blocking(move || {
        let targets = health_json(&shared).get("targets").cloned().unwrap_or_default();
        let mut rows = Vec::new();
        for process in shared.reader.processes(limit)? {
            let of_process =
                |target: &&Value| target.get("pid").and_then(Value::as_u64) == Some(u64::from(process.pid));
            let own: Vec<Value> = targets.as_array().into_iter().flatten().filter(of_process).cloned().collect();
            let mut row = serde_json::to_value(process).unwrap_or_default();
            row["targets"] = Value::Array(own);
            rows.push(row);
        }
        Ok(Json(json!({"processes": rows, "targets": targets})))
    })
    .await
}

async fn metrics(State(shared): State<Arc<Shared>>, Query(asked): Parameters) -> Answer<Json<Value>> {
    let window: u64 = Asked(asked).number("window")?.unwrap_or(3_600).clamp(1, 366 * 86_400);
    blocking(move || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_nanos() as u64).unwrap_or(0);
        let span = window.saturating_mul(1_000_000_000);
        // A replayed capture may be years old: its window ends with its newest call.
        let newest = shared.reader.newest_call()?.unwrap_or(now);
        let to = if newest < now.saturating_sub(span) { newest } else { now.max(newest) };
        let from = to.saturating_sub(span);
        let mut answer = shared.reader.metrics(from, to)?;
        answer["from"] = Nanos(from).rfc3339().into();
        answer["to"] = Nanos(to).rfc3339().into();
        answer["window"] = window.into();
        Ok(Json(answer))
    })
    .await
}

/// Nanoseconds of a time as [`Nanos::rfc3339`] writes it.
fn parse_rfc3339(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second, nanos) = (number(11..13)?, number(14..16)?, number(17..19)?, number(20..29)?);
    let shifted = if month <= 2 { year.checked_sub(1)? } else { year };
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day.checked_sub(1)?;
    let days = shifted / 400 * 146_097 + {
        let year_of_era = shifted % 400;
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year
    };
    let days = days.checked_sub(719_468)?;
    (((days * 24 + hour) * 60 + minute) * 60 + second).checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for nanos in [0, 1, 951_782_400_000_000_001, 1_709_251_199_999_999_999, 1_795_872_894_120_000_000, u64::MAX] {
            assert_eq!(parse_rfc3339(&Nanos(nanos).rfc3339()), Some(nanos));
        }
        assert_eq!(parse_rfc3339("2026"), None);
    }
}
