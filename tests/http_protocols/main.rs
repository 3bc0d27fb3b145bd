//! The stages `conn` and `http` over whole connections: events in, exchanges out.
#![allow(clippy::unwrap_used)]

mod connections;
mod hostile;
mod http1;
mod http2;
mod nasty;
mod real_clients;
mod streaming;
mod support;
mod websocket;
