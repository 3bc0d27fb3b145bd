//! One turn with a tool call on ureq and rustls. `heron-rust-client BASE_URL [TURNS]`; the CA from SSL_CERT_FILE.

use std::error::Error;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

fn agent() -> Result<Agent, Box<dyn Error>> {
    let pem = std::fs::read(std::env::var("SSL_CERT_FILE")?)?;
    let certs: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(cert)) => Some(cert),
            _ => None,
        })
        .collect();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certs)).build();
    Ok(Agent::config_builder().tls_config(tls).build().into())
}

fn call(agent: &Agent, url: &str, messages: &[Value]) -> Result<Vec<Value>, Box<dyn Error>> {
    let tool = json!({"name": "run_shell", "description": "Runs a command",
        "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}});
    let answer: Value = agent
        .post(format!("{url}/v1/messages"))
        .header("x-api-key", "sk-ant-test-0000")
        .header("anthropic-version", "2023-06-01")
        .send_json(json!({"model": "claude-sonnet-5-5", "max_tokens": 512, "tools": [tool], "messages": messages}))?
        .body_mut()
        .read_json()?;
    Ok(answer["content"].as_array().cloned().unwrap_or_default())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("usage: heron-rust-client BASE_URL [TURNS]")?;
    let turns: u32 = args.next().map_or(Ok(1), |text| text.parse())?;
    let agent = agent()?;
    for turn in 1..=turns {
        let mut messages = vec![json!({"role": "user", "content": format!("turn {turn}")})];
        loop {
            let blocks = call(&agent, &url, &messages)?;
            let results: Vec<Value> = blocks
                .iter()
                .filter(|block| block["type"] == "tool_use")
                .map(|block| json!({"type": "tool_result", "tool_use_id": block["id"], "content": "heron-probe"}))
                .collect();
            let text: String = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
            messages.push(json!({"role": "assistant", "content": blocks}));
            if results.is_empty() {
                println!("{text}");
                break;
            }
            messages.push(json!({"role": "user", "content": results}));
        }
    }
    Ok(())
}
