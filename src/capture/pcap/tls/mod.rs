//! TLS of captures, decrypted with logged keys: TLS 1.2 and 1.3, AES-GCM and ChaCha20-Poly1305,
//! and TLS 1.2's AES-CBC.
//!
//! Keys come from a key log (the NSS format of `SSLKEYLOGFILE`) or from the capture itself. Without keys a connection is
//! only described: server name, times, sizes. Lost packets cost the records they were part of and nothing more.

mod cbc;
mod cipher;
mod half;
mod handshake;
mod keylog;
mod session;

pub(super) use keylog::KeyLog;
pub(super) use session::{Piece, Session, Shut};
