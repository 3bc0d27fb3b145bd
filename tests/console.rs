//! The console in a real headless browser: calls appear while they stream, every place shows what is stored, nothing
//! is loaded from elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;
mod made;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use heron::api::{Config, Handle, Hub, Update, bind, serve};
use heron::event::Nanos;
use heron::store::{Item, Location, Store, Writer};
use heron::turn::{Finding, Severity, TurnStatus};
use heron::wire::{Call, CallState, Content};
use serde_json::{Value, json};

/// A browser that does what it is told, one thing at a time.
struct Browser {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    /// `None`, loudly, where the browser, Node or the built console is missing.
    fn open(test: &str, address: &str, scheme: &str) -> Option<Browser> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let chromium = std::env::var("HERON_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
        let wanted = [
            (root.join("console/dist/index.html"), "the console was not built"),
            (root.join("console/node_modules/playwright-core"), "npm packages are missing"),
            (chromium.into(), "there is no Chromium"),
        ];
        for (path, why) in wanted {
            if !path.exists() {
                eprintln!("SKIPPED {test}: {why} ({})", path.display());
                return None;
            }
        }
        let mut child = Command::new("node")
            .arg(root.join("console/e2e/browser.mjs"))
            .arg(format!("http://{address}"))
            .arg(scheme)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is there, for the console was built");
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut browser = Browser { child, commands, answers };
        assert_eq!(browser.answer()["ready"], true);
        Some(browser)
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.answers.read_line(&mut line).unwrap() > 0, "the browser ended");
        serde_json::from_str(&line).unwrap()
    }

    fn tell(&mut self, command: Value) -> Value {
        let commands = self.commands.as_mut().unwrap();
        writeln!(commands, "{command}").unwrap();
        let mut answer = self.answer();
        assert!(answer.get("failed").is_none(), "{command}: {}", answer["failed"].as_str().unwrap_or_default());
        answer["ok"].take()
    }

    fn goto(&mut self, path: &str) {
        self.tell(json!({"do": "goto", "path": path}));
    }

    /// Waits until `selector` shows `text`; all of its text.
    fn see(&mut self, selector: &str, text: &str) -> String {
        self.tell(json!({"do": "see", "selector": selector, "text": text})).as_str().unwrap_or_default().to_owned()
    }

    fn press(&mut self, key: &str) {
        self.tell(json!({"do": "press", "key": key}));
    }

    fn click(&mut self, selector: &str) {
        self.tell(json!({"do": "click", "selector": selector}));
    }

    fn wait_for(&mut self, path: &str) {
        self.tell(json!({"do": "waitFor", "path": path}));
    }

    /// A picture for people, where HERON_TEST_SHOTS names a folder.
    fn shot(&mut self, name: &str) {
        if let Ok(folder) = std::env::var("HERON_TEST_SHOTS") {
            self.tell(json!({"do": "shot", "file": format!("{folder}/{name}.png")}));
        }
    }

    /// Nothing went wrong in the page so far.
    fn is_clean(&mut self) {
        assert_eq!(self.tell(json!({"do": "errors"})), json!([]));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without commands the driver closes the browser and ends.
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}

struct Served {
    hub: Arc<Hub>,
    writer: Writer,
    handle: Handle,
}

fn served() -> Served {
    served_with(json!({
        "status": "degraded", "source": "ebpf", "counters": {"kernel": {"ring_full": 2, "seen_bytes": 4096}},
        "losses": {"ring_full": 2}, "seen_bytes": 4096, "passed_bytes": 1024, "filtered_bytes": 3072,
        "targets": [{"pid": 4242, "path": "/usr/lib/libssl.so.3", "library": "openssl", "found_by": "dynsym",
                     "state": "attached_never_fired", "reason": "", "hits": 0}],
    }))
}

fn served_with(health: Value) -> Served {
    let store = Store::open(Location::Memory).unwrap();
    let hub = Arc::new(Hub::new());
    let config = Config {
        listener: bind(0).unwrap(),
        reader: store.reader(),
        hub: Arc::clone(&hub),
        health: Arc::new(move || health.clone()),
    };
    Served { hub, writer: store.into_writer().unwrap(), handle: serve(config).unwrap() }
}

fn streaming(number: u64, text: &str) -> Arc<Call> {
    let mut call = made::call(number);
    call.state = CallState::InProgress;
    call.times.last_byte = None;
    call.finish_reason = None;
    call.output[0].content = vec![Content::Text { text: text.to_owned() }];
    Arc::new(call)
}

#[test]
fn a_call_is_shown_while_it_streams() {
    let mut served = served();
    let address = served.handle.address().to_string();
    let Some(mut browser) = Browser::open("a_call_is_shown_while_it_streams", &address, "light") else { return };
    browser.goto("/");
    browser.see(".empty", "No calls yet");
    browser.see("[data-link=live]", "");
    served.hub.publish(Update::Process(made::exec()));
    served.writer.push(Item::Process(made::exec())).unwrap();
    let row = format!("[data-call='{}']", made::call_id(0));
    let open = format!("{row}[data-state=in_progress]");
    served.hub.publish(Update::Call(streaming(0, "The first words")));
    let shown = browser.see(&open, "The first words");
    assert!(shown.contains("streaming") && shown.contains("claude · 4242"), "{shown}");
    browser.click(&row);
    browser.see(".detail .msg.assistant", "The first words");
    served.hub.publish(Update::Call(streaming(0, "The first words and those that follow")));
    browser.see(&open, "and those that follow");
    browser.shot("streaming");
    browser.see(".detail .msg.assistant", "and those that follow");
    let done = Arc::new(made::call(0));
    served.hub.publish(Update::Call(Arc::clone(&done)));
    served.hub.publish(Update::Placement(made::placement(0, 1)));
    served.writer.push(Item::Call(done)).unwrap();
    served.writer.push(Item::Placement(made::placement(0, 1))).unwrap();
    served.writer.flush().unwrap();
    browser.see(&format!("{row}[data-state=done]"), "200");
    browser.see(".detail", "tool_use");
    browser.see(".detail", "1.00 s");
    browser.is_clean();
}

#[test]
fn every_place_shows_what_is_stored() {
    let mut served = served();
    let address = served.handle.address().to_string();
    let Some(mut browser) = Browser::open("every_place_shows_what_is_stored", &address, "dark") else { return };
    served.writer.push(Item::Process(made::exec())).unwrap();
    for number in 0..40 {
        served.writer.push(Item::Call(Arc::new(made::call(number)))).unwrap();
        served.writer.push(Item::Placement(made::placement(number, 1))).unwrap();
    }
    served.writer.push(Item::Turn(Arc::new(made::turn(1, 0..40, TurnStatus::Complete)))).unwrap();
    let finding = Finding {
        kind: "loop".into(),
        severity: Severity::Warning,
        sentence: "The same command was run three times.".into(),
        turn_id: Some(made::turn_id(1)),
        session_id: Some(made::session_id(1)),
        call_ids: vec![made::call_id(3)],
        at: Nanos(made::START),
    };
    served.writer.push(Item::Finding(Arc::new(finding))).unwrap();
    served.writer.flush().unwrap();

    let newest = made::call_id(39).to_string();
    browser.goto("/calls");
    browser.see(&format!("[data-call='{newest}']"), "prompt 39");
    browser.press("j");
    browser.press("Enter");
    browser.wait_for(&format!("/calls/{newest}"));
    browser.see(".detail .msg.user", "prompt 39");
    browser.click(".detail [role=tab]:nth-child(2)");
    browser.shot("call");
    browser.see(".detail .headers", "[redacted]");
    browser.see(".detail .code", "claude-opus-4-5");
    browser.press("Escape");
    browser.wait_for("/calls");
    browser.press("/");
    browser.tell(json!({"do": "type", "text": "prompt 17:"}));
    browser.see(&format!("[data-call='{}']", made::call_id(17)), "prompt 17");
    browser.tell(json!({"do": "gone", "selector": format!("[data-call='{newest}']")}));
    browser.press("Escape");
    browser.press("t");
    browser.wait_for("/turns");
    browser.see(".turn-card", "the answer of turn 1");
    browser.press("j");
    browser.press("Enter");
    browser.wait_for(&format!("/turns/{}", made::turn_id(1)));
    browser.see(".waterfall", "claude-opus-4-5-20251101");
    assert_eq!(browser.tell(json!({"do": "count", "selector": ".wf-row"})), 40);
    browser.see(".finding", "three times");
    browser.shot("turn");
    browser.press("s");
    browser.see("table", "the prompt of turn 1");
    browser.press("f");
    browser.see(".finding", "The same command");
    browser.press("p");
    browser.see("table", "claude-code");
    browser.see("table .tag.warn", "openssl");
    browser.shot("processes");
    browser.press("m");
    browser.see(".tile", "40");
    browser.shot("trends");
    browser.press("h");
    browser.see(".notice", "ring full: 2");
    browser.shot("health");
    browser.press("?");
    browser.see(".dialog", "next, previous");
    browser.is_clean();
}

#[test]
fn connections_that_stayed_closed_are_told_of() {
    let served = served_with(json!({
        "source": "pcap",
        "encrypted": [
            {"client": "10.0.0.2:50000", "server": "203.0.113.7:443", "server_name": "api.models.test",
             "first_seen": 1_700_000_000_000_000_000u64, "last_seen": 1_700_000_002_500_000_000u64,
             "sent_bytes": 20_480, "received_bytes": 3_145_728, "reason": "its keys are not in a key log"},
            {"client": "10.0.0.2:50001", "server": "203.0.113.8:443", "server_name": null,
             "first_seen": 1_700_000_003_000_000_000u64, "last_seen": 1_700_000_003_000_000_000u64,
             "sent_bytes": 0, "received_bytes": 512, "reason": "its handshake was not captured whole"},
        ],
    }));
    let address = served.handle.address().to_string();
    let Some(mut browser) = Browser::open("connections_that_stayed_closed_are_told_of", &address, "light") else {
        return;
    };
    browser.goto("/calls");
    browser.see(".empty", "2 connections are encrypted");
    browser.see("a.nav[aria-current=page]", "Calls");
    browser.press("e");
    browser.wait_for("/encrypted");
    let all = browser.see("[data-testid=encrypted]", "api.models.test");
    for said in ["203.0.113.7:443", "2.50 s", "20 KiB", "3.0 MiB", "its keys are not in a key log", "name not seen"] {
        assert!(all.contains(said), "{said}: {all}");
    }
    browser.shot("encrypted");
    browser.tell(json!({"do": "click", "selector": "input[aria-label='search connections']"}));
    browser.tell(json!({"do": "type", "text": "models.test"}));
    browser.tell(json!({"do": "gone", "selector": "[data-testid=encrypted] tr:nth-child(2) td"}));
    browser.is_clean();
}

#[test]
fn an_agents_call_is_shown_while_it_streams() {
    if !lab::can_trace("an_agents_call_is_shown_while_it_streams") {
        return;
    }
    let server = lab::Server::start(&["--gate", "2"]);
    let (url, script, python) = (server.url(), lab::agent("anthropic_agent.py"), lab::python());
    let command = [python.to_str().unwrap(), script.to_str().unwrap(), "--base-url", &url, "--calls", "1", "--stream"];
    let mut run = lab::Exec::start(&server, &[], &command);
    let api = run.console();
    let Some(mut browser) = Browser::open("an_agents_call_is_shown_while_it_streams", &api, "light") else { return };
    browser.goto("/calls");
    server.control("/__wait?gated=1");
    // The answer stands still in its middle until the browser has shown it.
    let shown = browser.see("[data-state=in_progress]", "streaming");
    assert!(shown.contains("python"), "{shown}");
    browser.shot("agent");
    browser.goto("/processes");
    browser.see("table", "anthropic_agent.py");
    browser.shot("agent-processes");
    browser.goto("/health");
    browser.see(".card", "let through as LLM traffic");
    browser.shot("agent-health");
    browser.is_clean();
    server.control("/__continue?all=1");
    drop(browser);
    let (code, said) = run.wait();
    assert_eq!(code, 0, "{said}");
}
