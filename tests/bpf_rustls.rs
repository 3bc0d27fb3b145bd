//! The kernel side against rustls, through the AEAD below it. The client is this test's own program, started again.
//! Needs root and BTF; says so loudly when it is skipped.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use heron::capture::ebpf::Config;
use heron::event::{Confidence, Direction, Event, Transport};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use support::{Held, Server, Tracer, can_trace};

const PORT: &str = "HERON_TEST_RUSTLS_PORT";
const SUITE: &str = "HERON_TEST_RUSTLS_SUITE";
const CONNECTIONS: usize = 8;

/// The test server's certificate is its own.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn connect(port: u16, suite: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![match suite {
        "chacha" => ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        "aes128" => ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        "aes256" => ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        other => panic!("no suite {other}"),
    }];
    let provider = Arc::new(provider);
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port)).unwrap())
}

fn post(stream: &mut StreamOwned<ClientConnection, TcpStream>, path: &str, answer: usize, body: &[&[u8]]) {
    let length: usize = body.iter().map(|piece| piece.len()).sum();
    let head = format!("POST {path}size={answer} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    for piece in body {
        // Each its own record.
        stream.write_all(piece).unwrap();
        stream.flush().unwrap();
    }
    let mut got = Vec::new();
    let mut room = [0; 4096];
    while !got.windows(4).any(|end| end == b"\r\n\r\n") || got.iter().filter(|byte| **byte == b'R').count() < answer {
        let n = stream.read(&mut room).unwrap();
        assert!(n > 0, "the server closed early");
        got.extend_from_slice(&room[..n]);
    }
}

/// Bytes of the smallest records: 1, 2, 3, ... of them, up to three blocks.
const GROWING: usize = 48 * 49 / 2;

/// The traced program. As a test by itself it does nothing.
#[test]
fn client() {
    let (Ok(port), Ok(suite)) = (std::env::var(PORT), std::env::var(SUITE)) else {
        return;
    };
    let port = port.parse().unwrap();
    let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| connect(port, &suite)).collect();
    for (i, stream) in streams.iter_mut().enumerate() {
        post(stream, "/telemetry?", 500, &[b"BBB"]);
        // Larger than a record, and every connection its own sizes.
        post(stream, "/v1/messages?", 20_000 + i, &[&vec![b'B'; 40_000 + 1000 * i]]);
        let pieces: Vec<Vec<u8>> = (1..=48).map(|n| vec![b'B'; n]).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        post(stream, "/v1/messages?growing=1&", GROWING, &pieces);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn chacha_takes_whole_records() {
    requests_and_answers_belong_together("chacha_takes_whole_records", "chacha");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn aes_128_is_put_together_from_its_parts() {
    requests_and_answers_belong_together("aes_128_is_put_together_from_its_parts", "aes128");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn aes_256_is_put_together_from_its_parts() {
    requests_and_answers_belong_together("aes_256_is_put_together_from_its_parts", "aes256");
}

#[cfg(target_arch = "x86_64")]
fn requests_and_answers_belong_together(test: &str, suite: &str) {
    if !can_trace(test) {
        return;
    }
    let server = Server::start(&[]);
    let args = ["--exact", "client", "--nocapture"].map(str::to_owned);
    let port = server.port.to_string();
    let mut held = Held::with(&std::env::current_exe().unwrap(), &args, &[(PORT, &port), (SUITE, suite)]);
    let tracer = Tracer::start(Config { roots: vec![held.root()], ..Config::default() });
    held.release();
    held.finish();
    let outcome = tracer.finish();
    if suite != "chacha" && outcome.targets.iter().any(|target| target.reason.contains("not seen")) {
        eprintln!("SKIPPED {test}: ring takes functions on this processor that are not hooked");
        return;
    }
    let opens: Vec<_> =
        outcome.events.iter().filter_map(|e| if let Event::Open(open) = e { Some(open) } else { None }).collect();
    assert_eq!(opens.len(), CONNECTIONS, "{:?} {:#?}", outcome.counters, outcome.targets);
    for (i, open) in opens.iter().enumerate() {
        assert_eq!(open.transport, Transport::Tls("rustls (ring)".into()));
        let bytes = |direction| -> Vec<u8> {
            let data = outcome.events.iter().filter_map(|e| if let Event::Data(data) = e { Some(data) } else { None });
            data.filter(|d| d.conn == open.conn && d.direction == direction).flat_map(|d| d.bytes.to_vec()).collect()
        };
        let (sent, received) = (bytes(Direction::Sent), bytes(Direction::Received));
        let request = |query: &str, length: usize| {
            let head =
                format!("POST /v1/messages?{query} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
            [head.into_bytes(), vec![b'B'; length]].concat()
        };
        let large = request(&format!("size={}", 20_000 + i), 40_000 + 1000 * i);
        let small = request(&format!("growing=1&size={GROWING}"), GROWING);
        assert!(sent == [large, small].concat(), "connection {i}: {} bytes sent", sent.len());
        let answers: Vec<usize> =
            received.split(|byte| *byte != b'R').map(<[u8]>::len).filter(|run| *run > 100).collect();
        assert_eq!(answers, [20_000 + i, GROWING], "connection {i}");
        assert!(received.starts_with(b"HTTP/1.1 200 OK\r\n"), "connection {i}");
        let ends = open.endpoints.clone().unwrap();
        assert_eq!(ends.confidence, Confidence::Ciphertext);
        assert_eq!(ends.remote.unwrap().to_string(), format!("127.0.0.1:{port}"));
    }
    outcome.assert_nothing_lost();
    assert_eq!(outcome.count("aead_unpaired"), 0);
    assert!(outcome.count("filtered_bytes") > 500 * CONNECTIONS as u64, "{:?}", outcome.counters);
}
