//! MCP in both directions: what the server asks of the client inside an answer is a call of its own, and so is the
//! client's answer to it.

use heron::event::{CloseHow, Direction};
use heron::wire::{Bounds, Operation, Role, WireApi};
use serde_json::json;

use crate::wire_world::{Pipe, Talk, chunked};

fn post(body: &str) -> (Direction, Vec<u8>) {
    let head =
        "POST /mcp HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Type: application/json\r\nMcp-Session-Id: s-1\r\n";
    (Direction::Sent, format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

fn stream(events: &[&str]) -> (Direction, Vec<u8>) {
    let body: String = events.iter().map(|event| format!("event: message\ndata: {event}\n\n")).collect();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    (Direction::Received, [head.as_bytes(), &chunked(body.as_bytes(), 50)].concat())
}

#[test]
fn what_a_server_asks_and_what_it_is_answered_are_calls() {
    let asks = r#"{"jsonrpc":"2.0","id":"srv-1","method":"sampling/createMessage","params":{"messages":[{"role":"user","content":{"type":"text","text":"Capital of France?"}}],"modelPreferences":{"hints":[{"name":"claude-sonnet"}]},"systemPrompt":"Be brief","maxTokens":50}}"#;
    let elicits = r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"message":"Your name?","requestedSchema":{"type":"object"}}}"#;
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"Paris"}],"isError":false}}"#;
    let sampled = r#"{"jsonrpc":"2.0","id":"srv-1","result":{"role":"assistant","content":{"type":"text","text":"Paris."},"model":"claude-sonnet-5-5","stopReason":"endTurn"}}"#;
    let tool = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ask","arguments":{"q":1}}}"#;
    let accepted = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_vec();
    let pieces =
        vec![post(tool), stream(&[progress, asks, elicits, result]), post(sampled), (Direction::Received, accepted)];
    let talk = Talk { pieces };
    for size in [1, 40, 1 << 20] {
        let mut pipe = Pipe::new(Bounds { progress: None, ..Bounds::default() });
        talk.play(&mut pipe, CloseHow::Finished, |_, len| (1..len).step_by(size).collect());
        let calls = pipe.done();
        let methods: Vec<_> = calls.iter().map(|call| call.parameters["method"].as_str().unwrap()).collect();
        assert_eq!(methods, ["sampling/createMessage", "elicitation/create", "tools/call", "response"]);
        assert!(
            calls.iter().all(|call| call.wire_api == WireApi::Mcp && call.flaws.is_empty() && call.error.is_none())
        );
        assert!(calls.iter().all(|call| call.conversation_hint.as_deref() == Some("s-1")));

        let sampling = calls[0];
        assert_eq!(sampling.operation, Operation::Mcp);
        assert_eq!(sampling.parameters["direction"], json!("server_to_client"));
        assert_eq!((&sampling.parameters["id"], &sampling.parameters["maxTokens"]), (&json!("srv-1"), &json!(50)));
        assert_eq!(sampling.request_model.as_deref(), Some("claude-sonnet"));
        let said: Vec<_> = sampling.messages.iter().map(|message| (message.role, message.text())).collect();
        let expected = [(Role::System, "Be brief".to_owned()), (Role::User, "Capital of France?".to_owned())];
        assert_eq!(said, expected);
        assert_eq!(&sampling.request.body[..], asks.as_bytes());

        let tool_call = calls[2];
        assert_eq!(tool_call.operation, Operation::ExecuteTool);
        assert!(tool_call.answered);

        let answer = calls[3];
        assert_eq!((&answer.parameters["id"], answer.status), (&json!("srv-1"), Some(202)));
        assert_eq!(answer.parameters["model"], json!("claude-sonnet-5-5"));
        assert_eq!((answer.messages[0].role, answer.messages[0].text()), (Role::Assistant, "Paris.".to_owned()));

        let ids: std::collections::BTreeSet<_> = calls.iter().map(|call| call.id).collect();
        assert_eq!(ids.len(), 4, "each has an id of its own");
    }
}
