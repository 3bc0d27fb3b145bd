//! The names of OpenTelemetry's GenAI conventions for what goes out: a turn is a trace (its id is a trace id) and an agent's
//! invocation, a call is a span. What is not known is left out.

use serde_json::{Map, Value, json};

use super::summary::{CallSummary, StoredDetail, TurnSummary};
use crate::wire::Usage;

/// A call's attributes, as a client span `chat {model}` has them.
pub(super) fn of_call(call: &CallSummary, detail: &StoredDetail) -> Value {
    let mut attributes = Attributes::default();
    attributes.set("gen_ai.operation.name", call.operation.as_str());
    attributes.set("gen_ai.provider.name", call.provider.as_str());
    attributes.some("gen_ai.request.model", call.request_model.as_deref());
    attributes.some("gen_ai.response.model", call.response_model.as_deref());
    attributes.some("gen_ai.response.id", detail.response_id.as_deref());
    attributes.some("gen_ai.response.finish_reasons", call.finish_reason.as_ref().map(|reason| json!([reason])));
    attributes.some("gen_ai.conversation.id", call.session_id.as_deref());
    for (name, keys) in PARAMETERS {
        attributes.some(name, keys.iter().find_map(|key| detail.parameters.get(*key)).cloned());
    }
    attributes.usage(&call.usage);
    attributes.some("http.response.status_code", call.status);
    attributes.some("error.type", call.error.as_ref().map(|error| error.kind.as_str()));
    if let Some((address, port)) = call.server.as_deref().and_then(|server| server.rsplit_once(':')) {
        attributes.set("server.address", detail.authority.as_deref().map_or(address, host_of));
        attributes.some("server.port", port.parse::<u16>().ok());
    }
    Value::Object(attributes.map)
}

/// A turn's attributes, as a span `invoke_agent {agent}` has them.
pub(super) fn of_turn(turn: &TurnSummary) -> Value {
    let mut attributes = Attributes::default();
    attributes.set("gen_ai.operation.name", "invoke_agent");
    attributes.set("gen_ai.agent.name", turn.agent.kind.as_str());
    attributes.some("gen_ai.agent.version", turn.agent.version.as_deref());
    attributes.set("gen_ai.conversation.id", turn.session_id.as_str());
    attributes.some("gen_ai.response.model", turn.models.first().map(String::as_str));
    attributes.usage(&turn.usage);
    Value::Object(attributes.map)
}

/// Parameters by their name in the conventions and those on the wire.
const PARAMETERS: &[(&str, &[&str])] = &[
    ("gen_ai.request.max_tokens", &["max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens"]),
    ("gen_ai.request.temperature", &["temperature"]),
    ("gen_ai.request.top_p", &["top_p", "topP"]),
    ("gen_ai.request.top_k", &["top_k", "topK"]),
    ("gen_ai.request.frequency_penalty", &["frequency_penalty", "frequencyPenalty"]),
    ("gen_ai.request.presence_penalty", &["presence_penalty", "presencePenalty"]),
    ("gen_ai.request.seed", &["seed"]),
    ("gen_ai.request.stop_sequences", &["stop_sequences", "stop", "stopSequences"]),
];

#[derive(Default)]
struct Attributes {
    map: Map<String, Value>,
}

impl Attributes {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.map.insert(name.to_owned(), value.into());
    }

    fn some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Input tokens include the cached ones here.
    fn usage(&mut self, usage: &Usage) {
        self.some("gen_ai.usage.input_tokens", usage.input_total);
        self.some("gen_ai.usage.output_tokens", usage.output_total);
        self.some("gen_ai.usage.cache_read.input_tokens", usage.cache_read);
        let written = [usage.cache_write_5m, usage.cache_write_1h];
        let written = written.into_iter().flatten().reduce(u64::saturating_add);
        // The name changed; readers of the old one are still about.
        self.some("gen_ai.usage.cache_write.input_tokens", written);
        self.some("gen_ai.usage.cache_creation.input_tokens", written);
        self.some("gen_ai.usage.reasoning.output_tokens", usage.output_reasoning);
    }
}

/// A host without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}
