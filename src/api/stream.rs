//! `/api/stream`: server-sent events, one for each change.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::wrappers::{BroadcastStream, IntervalStream};
use tokio_stream::{Stream, StreamExt};

use super::Shared;
use super::routes::{error, health_json};

/// How often a listener is told how heron is.
const HEALTH_EVERY: Duration = Duration::from_secs(2);

pub(super) async fn stream(State(shared): State<Arc<Shared>>) -> Response {
    let Some(events) = shared.hub.subscribe() else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "heron is about to end");
    };
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Sse::new(changes(events, shared)).keep_alive(keep_alive).into_response()
}

/// What is sent, or the end.
enum Next {
    Event(Event),
    End,
}

fn changes(
    events: tokio::sync::broadcast::Receiver<super::hub::StreamEvent>,
    shared: Arc<Shared>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let changes = BroadcastStream::new(events)
        .map(|change| {
            Next::Event(match change {
                Ok(change) => Event::default().event(change.name).data(&*change.data),
                Err(BroadcastStreamRecvError::Lagged(missed)) => {
                    Event::default().event("lagged").data(format!("{{\"missed\":{missed}}}"))
                }
            })
        })
        .chain(tokio_stream::once(Next::End));
    let health = IntervalStream::new(tokio::time::interval(HEALTH_EVERY))
        .map(move |_| Next::Event(Event::default().event("health").data(health_json(&shared).to_string())));
    changes.merge(health).map_while(|next| match next {
        Next::Event(event) => Some(Ok(event)),
        Next::End => None,
    })
}
