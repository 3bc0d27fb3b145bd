//! HTTP/2 from its preface on.
#![no_main]

use heron_fuzz::Driver;
use heron_fuzz::event::Direction;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut driver = Driver::new(false);
    driver.bytes(Direction::Sent, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    driver.script(data);
    driver.finish();
});
