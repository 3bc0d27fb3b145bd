//! Any two directions of bytes, holes, late and repeated pieces: HTTP/1, and whatever they turn out to be.
#![no_main]

use heron_fuzz::Driver;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, script)) = data.split_first() else { return };
    let mut driver = Driver::new(first & 1 == 1);
    driver.script(script);
    driver.finish();
});
