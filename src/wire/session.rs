//! What a WebSocket's session says beside its responses: model, instructions, tools and the conversation so far, and
//! which message begins or ends a response.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::wire::json::Raw;
use crate::wire::message::Draft;
use crate::wire::socket::Turn;
use crate::wire::{Call, Message, Role, ToolOffered, WireApi, decoder, gemini, openai_responses, parts};

/// Messages of the conversation kept at most.
const MAX_HISTORY: usize = 10_000;

/// The session of one WebSocket.
pub(crate) struct Session {
    api: WireApi,
    model: Option<String>,
    system: Option<Arc<Message>>,
    tools: Arc<[ToolOffered]>,
    parameters: Map<String, Value>,
    history: Vec<Arc<Message>>,
    /// Gemini: something was said to the model that it has not answered.
    asked: bool,
}

impl Session {
    /// `None` for an API that is not spoken over WebSockets.
    pub(crate) fn new(api: WireApi) -> Option<Session> {
        let spoken = matches!(api, WireApi::OpenAiResponses | WireApi::OpenAiRealtime | WireApi::GeminiLive);
        spoken.then(|| Session {
            api,
            model: None,
            system: None,
            tools: Arc::from([]),
            parameters: Map::new(),
            history: Vec::new(),
            asked: false,
        })
    }

    /// The client's message.
    pub(crate) fn client_says(&mut self, raw: Raw<'_>) -> Turn {
        if self.api == WireApi::GeminiLive {
            return self.gemini_client(raw);
        }
        let kind = raw.str_of("type").unwrap_or(Cow::Borrowed(""));
        match &*kind {
            "response.create" => {
                if self.api == WireApi::OpenAiRealtime {
                    raw.some("response").into_iter().for_each(|settings| self.configure(settings));
                }
                Turn::Begins
            }
            "session.update" => {
                raw.some("session").into_iter().for_each(|settings| self.configure(settings));
                Turn::Beside
            }
            "conversation.item.create" => {
                raw.some("item").into_iter().for_each(|item| self.say(openai_responses::item(item)));
                Turn::Beside
            }
            kind if kind.starts_with("response.") => Turn::Goes,
            _ => Turn::Beside,
        }
    }

    /// The server's message.
    pub(crate) fn server_says(&mut self, raw: Raw<'_>) -> Turn {
        if self.api == WireApi::GeminiLive {
            return self.gemini_server(raw);
        }
        let kind = raw.str_of("type").unwrap_or(Cow::Borrowed(""));
        match &*kind {
            "response.completed"
            | "response.failed"
            | "response.incomplete"
            | "response.cancelled"
            | "response.done" => Turn::Ends,
            "error" if self.api == WireApi::OpenAiResponses => Turn::Ends,
            "response.created" => Turn::Begins,
            "session.created" | "session.updated" => {
                raw.some("session").into_iter().for_each(|settings| self.configure(settings));
                Turn::Beside
            }
            "conversation.item.input_audio_transcription.completed" => {
                if let Some(text) = raw.get("transcript").and_then(Raw::string) {
                    let mut draft = Draft::new(Role::User);
                    draft.text(text);
                    self.say(draft);
                }
                Turn::Beside
            }
            kind if kind.starts_with("response.") => Turn::Goes,
            _ => Turn::Beside,
        }
    }

    /// Writes what the session knows into a call that begins.
    pub(crate) fn describe(&self, call: &mut Call) {
        call.request_model = self.model.clone().or(call.request_model.take());
        if call.request_model.is_none() {
            let named = ["model", "deployment"].iter().find_map(|key| crate::wire::registry::query(&call.target, key));
            call.request_model = named.map(crate::wire::registry::percent_decoded);
        }
        call.parameters.clone_from(&self.parameters);
        call.tools_offered = self.tools.clone();
        call.messages = self.system.iter().chain(&self.history).cloned().collect();
    }

    /// The model has said what it was asked for.
    pub(crate) fn rest(&mut self) {
        self.asked = false;
    }

    /// A response is complete: it is part of the conversation.
    pub(crate) fn answered(&mut self, call: &Call) {
        if self.api != WireApi::OpenAiResponses
            && let Some(answer) = call.output.first()
        {
            self.keep(Arc::new(answer.clone()));
        }
    }

    fn say(&mut self, draft: Draft) {
        if self.api != WireApi::OpenAiResponses {
            self.keep(Arc::new(draft.seal()));
        }
    }

    fn keep(&mut self, message: Arc<Message>) {
        if self.history.len() < MAX_HISTORY {
            self.history.push(message);
        }
    }

    /// Settings of an OpenAI session or response.
    fn configure(&mut self, settings: Raw<'_>) {
        for (key, value) in settings.fields() {
            match &*key {
                "model" => self.model = value.string().or(self.model.take()),
                "instructions" => self.instruct(value),
                "tools" if value.is_array() => self.tools = decoder::tools(value).into(),
                "id" | "object" | "expires_at" | "client_secret" | "input" => {}
                _ => {
                    value.value().map(|value| self.parameters.insert(key.into_owned(), value));
                }
            }
        }
    }

    fn instruct(&mut self, value: Raw<'_>) {
        let mut draft = Draft::new(Role::System);
        parts::content(value, &mut draft);
        self.system = (!draft.content().is_empty()).then(|| Arc::new(draft.seal()));
    }

    fn gemini_client(&mut self, raw: Raw<'_>) -> Turn {
        if let Some(setup) = raw.some("setup") {
            self.gemini_setup(setup);
            return Turn::Beside;
        }
        let content = raw.some("clientContent").or_else(|| raw.some("client_content"));
        let results = raw.some("toolResponse").or_else(|| raw.some("tool_response"));
        if let Some(content) = content {
            content.get("turns").into_iter().flat_map(Raw::elements).for_each(|turn| self.say(gemini::content(turn)));
            let complete = content.get("turnComplete").or_else(|| content.get("turn_complete")).and_then(Raw::bool);
            return self.ask(complete.unwrap_or(false));
        }
        if let Some(results) = results {
            self.say(gemini::tool_response(results));
            return self.ask(true);
        }
        if let Some(text) = raw.some("realtimeInput").and_then(|input| input.get("text")).and_then(Raw::string) {
            let mut draft = Draft::new(Role::User);
            draft.text(text);
            self.say(draft);
        }
        if self.asked { Turn::Goes } else { Turn::Beside }
    }

    fn ask(&mut self, complete: bool) -> Turn {
        let before = self.asked;
        self.asked |= complete;
        match (complete, before) {
            (true, false) => Turn::Begins,
            (_, true) => Turn::Goes,
            (false, false) => Turn::Beside,
        }
    }

    fn gemini_setup(&mut self, setup: Raw<'_>) {
        for (key, value) in setup.fields() {
            match &*key {
                "model" => self.model = value.text().map(|name| gemini::strip_models(&name).to_owned()),
                "systemInstruction" | "system_instruction" => {
                    let mut draft = gemini::content(value);
                    draft.set_role(Role::System);
                    self.system = Some(Arc::new(draft.seal()));
                }
                "tools" => self.tools = gemini::tools(value).into(),
                _ => {
                    value.value().map(|value| self.parameters.insert(key.into_owned(), value));
                }
            }
        }
    }

    fn gemini_server(&mut self, raw: Raw<'_>) -> Turn {
        if raw.some("toolCall").or_else(|| raw.some("tool_call")).is_some() {
            return if self.asked { Turn::Ends } else { Turn::Begins };
        }
        let Some(content) = raw.some("serverContent").or_else(|| raw.some("server_content")) else {
            return Turn::Goes;
        };
        let said = |key: &str| content.get(key).and_then(Raw::bool).unwrap_or(false);
        if said("turnComplete") || said("turn_complete") {
            return Turn::Ends;
        }
        let heard = content.path(&["inputTranscription", "text"]).and_then(Raw::string);
        if let Some(text) = heard {
            let mut draft = Draft::new(Role::User);
            draft.text(text);
            self.say(draft);
        }
        if content.get("modelTurn").is_none() && content.get("outputTranscription").is_none() {
            return Turn::Goes;
        }
        if std::mem::replace(&mut self.asked, true) { Turn::Goes } else { Turn::Begins }
    }
}
