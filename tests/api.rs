//! The HTTP API, asked over a real socket: what is under way and what is stored come as one list, and strangers get nothing.
#![allow(clippy::unwrap_used)]

mod made;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use heron::api::{Config, Handle, Hub, ServeError, Update, bind, serve};
use heron::store::{Item, Location, Store, Writer};
use heron::turn::TurnStatus;
use heron::wire::{Call, CallState, Content};
use serde_json::{Value, json};

struct Served {
    hub: Arc<Hub>,
    writer: Writer,
    handle: Handle,
}

fn served() -> Served {
    let store = Store::open(Location::Memory).unwrap();
    let hub = Arc::new(Hub::new());
    let config = Config {
        listener: bind(0).unwrap(),
        reader: store.reader(),
        hub: Arc::clone(&hub),
        health: Arc::new(
            || json!({"status": "ok", "counters": {"kernel": {"ring_full": 3}}, "targets": [{"pid": 4242, "state": "attached"}]}),
        ),
    };
    Served { hub, writer: store.into_writer().unwrap(), handle: serve(config).unwrap() }
}

impl Served {
    fn store(&mut self, number: u64) {
        self.writer.push(Item::Call(Arc::new(made::call(number)))).unwrap();
        self.writer.push(Item::Placement(made::placement(number, 1))).unwrap();
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = ask(self.handle.address(), path, "localhost:3000", &[]);
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    fn ids(&self, path: &str) -> Vec<String> {
        let (status, answer) = self.get(path);
        assert_eq!(status, 200, "{answer}");
        answer["calls"].as_array().unwrap().iter().map(|call| call["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn connect(address: SocketAddr, path: &str, host: &str, headers: &[&str]) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(address).unwrap();
    let extra: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{extra}\r\n").unwrap();
    BufReader::new(socket)
}

fn head(answer: &mut BufReader<TcpStream>) -> (u16, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(answer.read_line(&mut head).unwrap() > 0, "the head was cut: {head}");
    }
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_ascii_lowercase())
}

fn ask(address: SocketAddr, path: &str, host: &str, headers: &[&str]) -> (u16, String, Vec<u8>) {
    let mut answer = connect(address, path, host, headers);
    let (status, head) = head(&mut answer);
    let mut body = Vec::new();
    answer.read_to_end(&mut body).unwrap();
    (status, head, body)
}

/// The same call while its answer streams.
fn streaming(number: u64, text: &str) -> Call {
    let mut call = made::call(number);
    call.state = CallState::InProgress;
    call.times.last_byte = None;
    call.output[0].content = vec![Content::Text { text: text.to_owned() }];
    call
}

#[test]
fn a_call_is_seen_while_it_streams_and_once_when_it_is_stored() {
    let mut served = served();
    served.hub.publish(Update::Process(made::exec()));
    served.writer.push(Item::Process(made::exec())).unwrap();
    served.store(0);
    served.writer.flush().unwrap();
    served.hub.publish(Update::Call(Arc::new(streaming(1, "the first words"))));
    let (_, answer) = served.get("/api/calls");
    assert_eq!(answer["calls"][0]["state"], "in_progress");
    assert_eq!(answer["calls"][0]["preview"], "the first words");
    assert_eq!(answer["calls"][0]["duration_ms"], Value::Null);
    assert_eq!(answer["calls"][0]["process"]["exe"], "/usr/bin/claude");
    assert_eq!(answer["calls"][1]["state"], "done");
    let id = made::call_id(1).to_string();
    let (_, detail) = served.get(&format!("/api/calls/{id}"));
    assert_eq!((&detail["state"], &detail["messages"][1]["role"]), (&json!("in_progress"), &json!("user")));
    let done = Arc::new(made::call(1));
    served.hub.publish(Update::Call(Arc::clone(&done)));
    served.hub.publish(Update::Placement(made::placement(1, 1)));
    for stored in [false, true] {
        if stored {
            served.store(1);
            served.writer.flush().unwrap();
        }
        assert_eq!(served.ids("/api/calls"), [id.clone(), made::call_id(0).to_string()]);
        let (_, detail) = served.get(&format!("/api/calls/{id}"));
        assert_eq!(detail["state"], "done");
        assert_eq!(detail["turn_id"], made::turn_id(1).to_string());
        let (_, _, body) = ask(served.handle.address(), &format!("/api/calls/{id}/request/body"), "127.0.0.1", &[]);
        assert_eq!(body, done.request.body);
    }
}

#[test]
fn pages_join_what_is_live_and_what_is_stored() {
    let mut served = served();
    for number in 0..20 {
        served.store(number);
    }
    served.writer.flush().unwrap();
    // The newest five are in the hub as well, three of them in the hub only.
    for number in 18..23 {
        served.hub.publish(Update::Call(Arc::new(made::call(number))));
    }
    let mut seen = Vec::new();
    let mut path = "/api/calls?limit=4".to_owned();
    loop {
        let (_, answer) = served.get(&path);
        seen.extend(answer["calls"].as_array().unwrap().iter().map(|call| call["id"].as_str().unwrap().to_owned()));
        let Some(next) = answer["next"].as_str() else { break };
        path = format!("/api/calls?limit=4&before={next}");
    }
    let expected: Vec<String> = (0..23).rev().map(|number| made::call_id(number).to_string()).collect();
    assert_eq!(seen, expected);
    assert_eq!(served.ids("/api/calls?q=prompt+21:").len(), 1);
    assert_eq!(served.ids("/api/calls?error=1").len(), 0);
}

#[test]
fn the_stream_tells_each_change_as_it_happens() {
    let served = served();
    let mut stream = connect(served.handle.address(), "/api/stream", "localhost", &[]);
    let (status, head) = head(&mut stream);
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/event-stream"));
    let mut next = |wanted: &str| -> Value {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended before {wanted}");
            if let Some(event) = line.strip_prefix("event: ") {
                event.trim().clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ").filter(|_| name == wanted) {
                return serde_json::from_str(data).unwrap();
            }
        }
    };
    assert_eq!(next("health")["counters"]["kernel"]["ring_full"], 3);
    served.hub.publish(Update::Call(Arc::new(streaming(1, "hel"))));
    assert_eq!(next("call")["preview"], "hel");
    served.hub.publish(Update::Call(Arc::new(made::call(1))));
    assert_eq!(next("call")["state"], "done");
    served.hub.publish(Update::Placement(made::placement(1, 1)));
    assert_eq!(next("call")["turn_id"], made::turn_id(1).to_string());
    served.hub.publish(Update::Turn(Arc::new(made::turn(1, 1..2, TurnStatus::InProgress))));
    assert_eq!(next("turn")["status"], "in_progress");
}

#[test]
fn stopping_ends_open_streams() {
    let served = served();
    let mut stream = connect(served.handle.address(), "/api/stream", "localhost", &[]);
    assert_eq!(head(&mut stream).0, 200);
    served.handle.stop();
    let mut rest = Vec::new();
    // Ended or cut: both are an end.
    let _ = stream.read_to_end(&mut rest);
}

#[test]
fn a_turn_under_way_is_listed_and_has_its_live_calls() {
    let mut served = served();
    served.store(0);
    served.writer.flush().unwrap();
    served.hub.publish(Update::Call(Arc::new(streaming(1, "word"))));
    served.hub.publish(Update::Turn(Arc::new(made::turn(1, 0..2, TurnStatus::InProgress))));
    let (_, traces) = served.get("/api/traces?limit=5");
    assert_eq!(traces["traces"][0]["status"], "in_progress");
    let id = made::turn_id(1).to_string();
    let (_, trace) = served.get(&format!("/api/traces/{id}"));
    assert_eq!(trace["calls"].as_array().unwrap().len(), 2);
    assert_eq!(trace["calls"][1]["state"], "in_progress");
    assert_eq!(trace["time"]["model_ms"], 5.0);
    served.store(1);
    let done = Arc::new(made::turn(1, 0..2, TurnStatus::Complete));
    served.hub.publish(Update::Turn(Arc::clone(&done)));
    served.writer.push(Item::Turn(done)).unwrap();
    served.writer.flush().unwrap();
    let (_, trace) = served.get(&format!("/api/traces/{id}"));
    assert_eq!((&trace["status"], trace["steps"].as_array().unwrap().len()), (&json!("complete"), 2));
    let (_, sessions) = served.get("/api/sessions");
    let session = sessions["sessions"][0]["id"].as_str().unwrap();
    let (_, session) = served.get(&format!("/api/sessions/{session}"));
    assert_eq!(session["turn_list"][0]["id"], id);
}

#[test]
fn strangers_are_refused() {
    let served = served();
    let address = served.handle.address();
    for (host, headers) in [
        ("evil.example", &[][..]),
        ("evil.example:3000", &[]),
        ("localhost", &["Origin: https://evil.example"]),
        ("localhost", &["Origin: null"]),
        ("localhost", &["Sec-Fetch-Site: cross-site"]),
    ] {
        for path in ["/api/calls", "/", "/metrics", "/api/stream"] {
            let (status, head, body) = ask(address, path, host, headers);
            assert_eq!(status, 403, "{path} {host} {headers:?}");
            assert!(head.contains("content-security-policy"));
            assert!(serde_json::from_slice::<Value>(&body).unwrap()["error"].is_string());
        }
    }
    let (status, ..) = ask(address, "/api/health", "localhost", &["Origin: http://localhost:5173"]);
    assert_eq!(status, 200);
}

#[test]
fn what_cannot_be_answered_is_said_in_a_sentence() {
    let served = served();
    for (path, expected) in [
        ("/api/calls/0000", 404),
        ("/api/calls/0000/request/body", 404),
        ("/api/traces/x", 404),
        ("/api/sessions/x", 404),
        ("/api/nonsense", 404),
        ("/assets/none.js", 404),
        ("/api/calls?limit=ten", 400),
        ("/api/calls?status=99999999", 400),
        ("/api/calls?auxiliary=maybe", 400),
        ("/api/calls?before=unknown", 404),
    ] {
        let (status, answer) = served.get(path);
        assert_eq!(status, expected, "{path}");
        assert!(answer["error"].as_str().is_some_and(|sentence| sentence.len() > 10), "{path}: {answer}");
    }
    let port = served.handle.address().port();
    let error = bind(port).err().unwrap();
    assert!(matches!(error, ServeError::PortTaken(taken) if taken == port));
    assert!(error.to_string().contains("--port"));
}

#[test]
fn bodies_are_answered_as_sent_and_decoded() {
    let mut served = served();
    let mut call = made::call(0);
    let text = call.response.body.to_vec();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&text).unwrap();
    call.response.body = encoder.finish().unwrap().into();
    call.response.headers.push(heron::http::Header { name: "Content-Encoding".into(), value: "gzip".into() });
    let packed = call.response.body.to_vec();
    served.writer.push(Item::Call(Arc::new(call))).unwrap();
    served.writer.flush().unwrap();
    let path = format!("/api/calls/{}/response/body", made::call_id(0));
    let (_, head, body) = ask(served.handle.address(), &path, "localhost", &[]);
    assert!(head.contains("application/octet-stream"));
    assert_eq!(body, packed);
    let (_, head, body) = ask(served.handle.address(), &format!("{path}?decoded=1"), "localhost", &[]);
    assert!(head.contains("content-type: text/event-stream"));
    assert_eq!(body, text);
}

#[test]
fn health_metrics_processes_and_the_page_are_there() {
    let mut served = served();
    served.writer.push(Item::Process(made::exec())).unwrap();
    served.store(0);
    served.writer.flush().unwrap();
    let (_, health) = served.get("/api/health");
    assert_eq!((&health["status"], &health["version"]), (&json!("ok"), &json!(env!("CARGO_PKG_VERSION"))));
    let (_, processes) = served.get("/api/processes");
    assert_eq!(processes["processes"][0]["targets"][0]["state"], "attached");
    let (_, metrics) = served.get("/api/metrics?window=3600");
    assert_eq!((&metrics["calls"], &metrics["window"]), (&json!(1), &json!(3600)));
    let (_, _, text) = ask(served.handle.address(), "/metrics", "localhost", &[]);
    assert!(String::from_utf8(text).unwrap().contains("heron_events_total{stage=\"kernel\",name=\"ring_full\"} 3"));
    let (status, head, page) = ask(served.handle.address(), "/turns/whatever", "localhost", &[]);
    assert!(status == 200 && head.contains("text/html") && head.contains("default-src 'none'"));
    assert!(String::from_utf8(page).unwrap().to_lowercase().contains("heron"));
}
