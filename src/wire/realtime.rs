//! OpenAI Realtime: the server's events on the WebSocket, and the HTTP requests that set a session up.
//!
//! Responses speak as those of the Responses API do, with text, speech and its transcript under names of their own.

use std::borrow::Cow;

use crate::wire::Call;
use crate::wire::answer::Answer;
use crate::wire::decoder::{Event, Wire};
use crate::wire::json::Raw;
use crate::wire::openai_other::Media;
use crate::wire::openai_responses::{Responses, text_delta};
use crate::wire::request::Body;

/// The decoder.
#[derive(Debug, Default)]
pub(crate) struct Realtime {
    responses: Responses,
}

impl Wire for Realtime {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        if body.raw().bytes().is_empty() {
            call.request_model =
                crate::wire::registry::query(&call.target, "model").map(crate::wire::registry::percent_decoded);
            return true;
        }
        Media.request(body, call)
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        let kind = event.data.str_of("type").unwrap_or(Cow::Borrowed(""));
        match &*kind {
            "response.text.delta" | "response.audio_transcript.delta" | "response.output_audio_transcript.delta" => {
                text_delta(event.data, answer);
            }
            "response.audio.delta" | "response.output_audio.delta" => {
                answer.understood = true;
                answer.token = true;
            }
            // An error of the session ends no response.
            "error" if event.data.path(&["error", "event_id"]).is_some() => {}
            _ => self.responses.event(event, answer),
        }
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        Media.whole(body, answer);
    }
}
