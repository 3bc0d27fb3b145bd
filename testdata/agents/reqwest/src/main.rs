//! LLM calls on reqwest over HTTP/2 without TLS (prior knowledge), three at a time on one connection.
//! `heron-reqwest-client BASE_URL [CALLS]`.

use serde_json::json;

async fn call(client: &reqwest::Client, url: &str, n: u32) -> Result<usize, reqwest::Error> {
    let words = "a longer prompt ".repeat(if n % 4 == 3 { 4000 } else { 1 });
    let body = json!({"model": "claude-sonnet-5-5", "max_tokens": 512, "stream": n % 2 == 0,
        "messages": [{"role": "user", "content": format!("call {n}: {words}")}]});
    let answer = client
        .post(format!("{url}/v1/messages"))
        .header("x-api-key", "sk-ant-test-0000")
        .header("anthropic-version", "2023-06-01")
        .json(&body)
        .send()
        .await?
        .error_for_status()?;
    Ok(answer.bytes().await?.len())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("usage: heron-reqwest-client BASE_URL [CALLS]")?;
    let calls: u32 = args.next().map_or(Ok(9), |text| text.parse())?;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build()?;
    for first in (0..calls).step_by(3) {
        let (a, b, c) =
            tokio::join!(call(&client, &url, first), call(&client, &url, first + 1), call(&client, &url, first + 2));
        println!("{} {} {}", a?, b?, c?);
    }
    Ok(())
}
