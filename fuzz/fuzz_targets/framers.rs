//! The framers of streamed bodies: any cut must give what the whole gives.
#![no_main]

use heron_fuzz::http::{event_stream, json_array, ndjson, sse};
use libfuzzer_sys::fuzz_target;

const MAX: usize = 4096;

fn read(kind: u8, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, u64) {
    let mut out: Vec<Vec<u8>> = Vec::new();
    match kind % 4 {
        0 => {
            let mut framer = sse::Framer::new(MAX);
            let mut emit = |e: sse::Event<'_>| out.push(format!("{}|{}|{}", e.name, e.data, e.id).into_bytes());
            pieces.iter().for_each(|piece| framer.push(piece, &mut emit));
            framer.finish(&mut emit);
            (out, framer.dropped())
        }
        1 => {
            let mut framer = ndjson::Framer::new(MAX);
            let mut emit = |line: &[u8]| out.push(line.to_vec());
            pieces.iter().for_each(|piece| framer.push(piece, &mut emit));
            framer.finish(&mut emit);
            (out, framer.dropped())
        }
        2 => {
            let mut framer = json_array::Framer::new(MAX);
            let mut emit = |element: &[u8]| out.push(element.to_vec());
            pieces.iter().for_each(|piece| framer.push(piece, &mut emit));
            framer.finish(&mut emit);
            (out, framer.dropped())
        }
        _ => {
            let mut framer = event_stream::Framer::new(1 << 16);
            let mut emit = |message: event_stream::Message<'_>| {
                let headers = message.headers();
                out.push([format!("{headers:?}").as_bytes(), message.payload].concat());
            };
            pieces.iter().for_each(|piece| framer.push(piece, &mut emit));
            framer.finish();
            (out, framer.damaged())
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [kind, cut, body @ ..] = data else { return };
    let pieces: Vec<&[u8]> = body.chunks(usize::from(*cut) + 1).collect();
    assert_eq!(read(*kind, &pieces), read(*kind, &[body]));
});
