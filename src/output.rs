//! The JSON lines of `docs/output.md`: what `heron replay --json` and `heron exec --json` write.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::capture::Encrypted;
use crate::event::ProcessInfo;
use crate::store::{CallSummary, FindingRow, ProcessBrief, TurnSummary};
use crate::turn::{Finding, Placement, Turn};
use crate::wire::Call;

/// Fields of the API's shapes that the lines do not have.
const NOT_IN_LINES: &[&str] = &["state", "preview"];

/// A call's line, without its line end. `info` is its process's image where that is known.
pub fn call_line(call: &Call, place: Option<&Placement>, info: Option<&ProcessInfo>) -> String {
    let process = call.process.map(|process| ProcessBrief::of(process, info));
    line("call", &CallSummary::of(call, place, process), &["prompt"])
}

/// A turn's line, without its line end.
pub fn turn_line(turn: &Turn, info: Option<&ProcessInfo>) -> String {
    let process = turn.process.map(|process| ProcessBrief::of(process, info));
    line("turn", &TurnSummary::of(turn, process), &[])
}

/// The line of a connection that stayed closed, without its line end.
pub fn encrypted_line(encrypted: &Encrypted) -> String {
    json!({
        "type": "encrypted",
        "client": encrypted.client.to_string(),
        "server": encrypted.server.to_string(),
        "server_name": encrypted.server_name,
        "first_seen": encrypted.first_seen.rfc3339(),
        "last_seen": encrypted.last_seen.rfc3339(),
        "sent_bytes": encrypted.sent_bytes,
        "received_bytes": encrypted.received_bytes,
        "reason": encrypted.reason,
    })
    .to_string()
}

/// A finding's line, without its line end. Its `type` is `finding`, so what kind it is of is `kind`.
pub fn finding_line(finding: &Finding) -> String {
    line("finding", &FindingRow::of(finding), &[])
}

fn line(kind: &str, shape: &impl Serialize, without: &[&str]) -> String {
    let mut object = Map::from_iter([("type".to_owned(), Value::from(kind))]);
    if let Ok(Value::Object(fields)) = serde_json::to_value(shape) {
        let fields = fields
            .into_iter()
            .filter(|(name, _)| !NOT_IN_LINES.contains(&name.as_str()) && !without.contains(&name.as_str()));
        object.extend(fields);
    }
    Value::Object(object).to_string()
}
