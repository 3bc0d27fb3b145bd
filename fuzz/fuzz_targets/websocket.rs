//! WebSocket frames after an upgrade; the first byte chooses the extension.
#![no_main]

use heron_fuzz::Driver;
use heron_fuzz::event::Direction;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, script)) = data.split_first() else { return };
    let extension = match first % 3 {
        0 => "",
        1 => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        _ => "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n",
    };
    let mut driver = Driver::new(false);
    driver.bytes(Direction::Sent, b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n{extension}\r\n");
    driver.bytes(Direction::Received, answer.as_bytes());
    driver.script(script);
    driver.finish();
});
