//! The handshake messages that matter to somebody who has the keys (RFC 8446 section 4, RFC 5246 section 7.4).

use super::super::field::{array, be16, from, u8 as byte};

/// Server name extension.
const SERVER_NAME: u16 = 0;
/// Session ticket extension of TLS 1.2 (RFC 5077).
const SESSION_TICKET: u16 = 35;
/// RFC 7366.
const ENCRYPT_THEN_MAC: u16 = 22;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;

/// The random of a ServerHello that is a HelloRetryRequest.
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11,
    0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// A handshake message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    ClientHello(ClientHello),
    ServerHello(ServerHello),
    HelloRetryRequest,
    /// TLS 1.2's ticket.
    NewSessionTicket(Box<[u8]>),
    EndOfEarlyData,
    /// Whether early data was accepted.
    EncryptedExtensions {
        early_data: bool,
    },
    Finished,
    KeyUpdate,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientHello {
    pub random: [u8; 32],
    pub server_name: Option<String>,
    pub early_data: bool,
    pub session_id: Box<[u8]>,
    pub ticket: Box<[u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerHello {
    pub random: [u8; 32],
    pub suite: u16,
    /// The version: 0x0303 is TLS 1.2.
    pub version: u16,
    pub tls13: bool,
    pub encrypt_then_mac: bool,
    pub session_id: Box<[u8]>,
}

/// Decodes a message of type `kind`; what is cut or strange is [`Message::Other`].
pub(super) fn message(kind: u8, body: &[u8]) -> Message {
    match kind {
        1 => client_hello(body).map_or(Message::Other, Message::ClientHello),
        2 if body.get(2..34) == Some(&RETRY[..]) => Message::HelloRetryRequest,
        2 => server_hello(body).map_or(Message::Other, Message::ServerHello),
        4 => ticket(body).map_or(Message::Other, Message::NewSessionTicket),
        5 => Message::EndOfEarlyData,
        8 => Message::EncryptedExtensions { early_data: extensions(body).any(|(kind, _)| kind == EARLY_DATA) },
        20 => Message::Finished,
        24 => Message::KeyUpdate,
        _ => Message::Other,
    }
}

fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let random = array(body, 2)?;
    let session_id = body.get(35..35 + usize::from(byte(body, 34)?))?;
    let rest = from(body, 35 + session_id.len());
    let suites = rest.get(2..2 + usize::from(be16(rest, 0)?))?;
    let rest = from(rest, 2 + suites.len());
    let rest = from(rest, 1 + usize::from(byte(rest, 0)?));
    let find = |wanted| extensions(rest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    Some(ClientHello {
        random,
        server_name: find(SERVER_NAME).and_then(server_name),
        early_data: find(EARLY_DATA).is_some(),
        session_id: session_id.into(),
        ticket: find(SESSION_TICKET).unwrap_or_default().into(),
    })
}

fn server_name(value: &[u8]) -> Option<String> {
    let name = value.get(5..5 + usize::from(be16(value, 3)?))?;
    let fine = byte(value, 2)? == 0 && name.iter().all(u8::is_ascii_graphic);
    fine.then(|| String::from_utf8_lossy(name).into_owned())
}

fn server_hello(body: &[u8]) -> Option<ServerHello> {
    let random = array(body, 2)?;
    let session_id = body.get(35..35 + usize::from(byte(body, 34)?))?;
    let rest = from(body, 35 + session_id.len());
    let suite = be16(rest, 0)?;
    let tls13 = extensions(from(rest, 3)).any(|(kind, value)| kind == SUPPORTED_VERSIONS && value == [3, 4]);
    let encrypt_then_mac = extensions(from(rest, 3)).any(|(kind, _)| kind == ENCRYPT_THEN_MAC);
    let session_id = session_id.into();
    Some(ServerHello { random, suite, version: be16(body, 0)?, tls13, encrypt_then_mac, session_id })
}

fn ticket(body: &[u8]) -> Option<Box<[u8]>> {
    Some(body.get(6..6 + usize::from(be16(body, 4)?))?.into())
}

/// The extensions of a hello: (type, value).
fn extensions(block: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = from(block, 2);
    std::iter::from_fn(move || {
        let (kind, len) = (be16(rest, 0)?, usize::from(be16(rest, 2)?));
        let value = rest.get(4..4 + len)?;
        rest = from(rest, 4 + len);
        Some((kind, value))
    })
}
