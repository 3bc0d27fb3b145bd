//! A request of an HTTP/1 connection and how far its exchange has come, in the order of requests.

use super::exchange::{Exchange, Progress, names};
use super::h1::SwitchTo;
use crate::http::{Header, Side, header};

/// An exchange in the queue.
#[derive(Debug)]
pub(super) struct Waiter {
    /// `None` for a placeholder: a request that was lost.
    pub exchange: Option<Exchange>,
    pub kind: Kind,
    /// The request said `Expect: 100-continue` and no body came yet.
    pub expects_continue: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Any method whose answer has a body by its own headers.
    Usual,
    Head,
    Connect,
    Upgrade(SwitchTo),
    UnknownUpgrade,
}

impl Waiter {
    pub fn progress(&self, side: Side) -> Progress {
        match (&self.exchange, side) {
            (Some(exchange), side) => exchange.progress(side),
            (None, Side::Request) => Progress::Done,
            (None, Side::Response) => Progress::Waiting,
        }
    }

    pub fn awaits_response(&self) -> bool {
        self.progress(Side::Response) == Progress::Waiting
    }
}

impl Kind {
    pub fn of(method: &str, headers: &[Header]) -> Kind {
        match method {
            "HEAD" => Kind::Head,
            "CONNECT" => Kind::Connect,
            _ if names(headers, "upgrade", "websocket") => Kind::Upgrade(SwitchTo::WebSocket),
            _ if names(headers, "upgrade", "h2c") && names(headers, "connection", "upgrade") => {
                Kind::Upgrade(SwitchTo::Http2)
            }
            _ if header(headers, "upgrade").is_some() && names(headers, "connection", "upgrade") => {
                Kind::UnknownUpgrade
            }
            _ => Kind::Usual,
        }
    }
}
