//! What a database holds, to be compared with a generated capture's truth: counts, tokens, and the hash of every body.
//!
//! `stored DATABASE` prints one JSON object.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::PathBuf;

use heron::store::{CallFilter, Location, Page, Store, TurnFilter};

fn main() {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: stored DATABASE");
        std::process::exit(2);
    };
    let store = Store::open(Location::File(PathBuf::from(path))).unwrap();
    let reader = store.reader();
    let (mut page, mut calls) = (Page { limit: 1000, before: None }, Vec::new());
    loop {
        let more = reader.calls(&CallFilter::default(), &page).unwrap();
        let Some(last) = more.last() else { break };
        page.before = Some((reader.call_start(&last.id).unwrap().unwrap(), last.id.clone()));
        calls.extend(more);
    }
    let (mut page, mut turns) = (Page { limit: 1000, before: None }, 0);
    loop {
        let more = reader.turns(&TurnFilter::default(), &page).unwrap();
        let Some(last) = more.last() else { break };
        page.before = Some((reader.turn_start(&last.id).unwrap().unwrap(), last.id.clone()));
        turns += more.len();
    }
    let mut bodies = 0u64;
    for call in &calls {
        for of_request in [true, false] {
            let body = reader.body(&call.id, of_request).unwrap().unwrap_or_default();
            let hash = blake3::hash(&body);
            bodies = bodies.wrapping_add(u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()));
        }
    }
    let total =
        |of: fn(&heron::wire::Usage) -> Option<u64>| calls.iter().filter_map(|call| of(&call.usage)).sum::<u64>();
    println!(
        "{}",
        serde_json::json!({
            "calls": calls.len(), "turns": turns, "bodies": format!("{bodies:016x}"),
            "input_tokens": total(|usage| usage.input_total), "output_tokens": total(|usage| usage.output_total),
            "request_bytes": calls.iter().map(|call| call.request_bytes).sum::<u64>(),
            "response_bytes": calls.iter().map(|call| call.response_bytes).sum::<u64>(),
            "flawed": calls.iter().filter(|call| !call.flaws.is_empty()).count(),
        })
    );
}
