//! Header blocks, one stream each: the first byte of each says how long it is.
#![no_main]

use heron_fuzz::Driver;
use heron_fuzz::event::Direction;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut driver = Driver::new(false);
    driver.bytes(Direction::Sent, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut rest = data;
    let mut stream = 1u32;
    while let Some((len, after)) = rest.split_first() {
        let (block, after) = after.split_at(usize::from(*len).min(after.len()));
        rest = after;
        let mut frame = (block.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([1, 5]);
        frame.extend(stream.to_be_bytes());
        frame.extend(block);
        driver.bytes(Direction::Sent, &frame);
        stream += 2;
    }
    driver.finish();
});
