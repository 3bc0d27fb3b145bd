//! What is too old or too much leaves the database by itself, and what is kept stays whole.
#![allow(clippy::unwrap_used)]

mod made;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heron::event::Nanos;
use heron::pipeline::{self, Fact, Outlet, Retention};
use heron::store::{CallFilter, Item, Keep, Location, Options, Page, Reader, Store, Writer};
use heron::wire::{Call, Role};

const ALL: Page = Page { limit: 1_000, before: None };
const SECOND: u64 = 1_000_000_000;
const ANSWER_BYTES: usize = 200_000;

fn open(path: &Path) -> (Arc<Reader>, Writer) {
    let store = Store::open_with(&Options::new(Location::File(path.to_owned()))).unwrap();
    (store.reader(), store.into_writer().unwrap())
}

/// A call of a conversation of its own, whose answer does not compress, begun at `at`.
fn call(number: u64, at: Nanos) -> Arc<Call> {
    let mut call = made::call(0);
    call.id = made::call_id(number);
    call.conn = heron::event::ConnId(number);
    call.messages = [Role::System, Role::User].map(|role| made::message(role, &format!("{number}"))).to_vec();
    call.request.body = format!("{number} {}", made::words(number, 100)).into();
    call.request.body_len = call.request.body.len() as u64;
    call.times = heron::wire::Times { request_first: at, ..Default::default() };
    call.response.body = noise(number).into();
    call.response.body_len = ANSWER_BYTES as u64;
    Arc::new(call)
}

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as u8
    };
    std::iter::repeat_with(&mut byte).take(ANSWER_BYTES).collect()
}

/// Stores calls whose starts are a second apart, the first at `from`.
fn store(writer: &mut Writer, numbers: std::ops::Range<u64>, from: Nanos) {
    for number in numbers {
        writer.push(Item::Call(call(number, Nanos(from.0 + number * SECOND)))).unwrap();
        writer.push(Item::Placement(made::placement(number, 1))).unwrap();
    }
    writer.flush().unwrap();
}

fn numbers(reader: &Reader) -> Vec<u64> {
    let calls = reader.calls(&CallFilter::default(), &ALL).unwrap();
    let number = |id: &str| (0..200).find(|number| made::call_id(*number).to_string() == id).unwrap();
    let mut numbers: Vec<u64> = calls.iter().map(|call| number(&call.id.to_string())).collect();
    numbers.sort_unstable();
    numbers
}

fn is_whole(reader: &Reader, number: u64) {
    let id = made::call_id(number).to_string();
    assert_eq!(reader.body(&id, true).unwrap().unwrap(), call(number, Nanos(0)).request.body);
    assert_eq!(reader.body(&id, false).unwrap().unwrap(), noise(number));
    let detail = reader.call(&id).unwrap().unwrap().to_json();
    assert_eq!(detail["messages"][1]["content"][0]["text"], number.to_string());
}

#[test]
fn a_database_that_grew_too_large_loses_its_oldest_calls_once_and_reuses_their_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heron.duckdb");
    let (reader, mut writer) = open(&path);
    store(&mut writer, 0..60, Nanos(SECOND));
    writer.close().unwrap();
    drop(reader);
    let length = || std::fs::metadata(&path).unwrap().len();
    let full = length();
    let (reader, mut writer) = open(&path);
    let keep = Keep { max_age: None, max_bytes: Some(full * 6 / 10) };
    let pruned = writer.prune(&keep, Nanos(0)).unwrap();
    let kept = numbers(&reader);
    assert_eq!(kept, (pruned.calls..60).collect::<Vec<_>>(), "the newest are kept");
    assert!((20..40).contains(&pruned.calls), "{pruned:?} of 60, the file had {full} bytes");
    [kept[0], 45, 59].iter().for_each(|number| is_whole(&reader, *number));
    // The file may be as long as before, with room in it: that is no reason to remove more.
    assert_eq!(writer.prune(&keep, Nanos(0)).unwrap().calls, 0);
    for round in 0..4 {
        // 60 calls more
        store(&mut writer, 60 + round * 15..75 + round * 15, Nanos(SECOND));
        writer.prune(&keep, Nanos(0)).unwrap();
    }
    // What is written anew stands beside the old for a moment; that room is used again.
    assert!(length() <= full * 2, "{} bytes after 120 calls, {full} after 60", length());
    let kept = numbers(&reader);
    assert!((20..40).contains(&kept.len()) && kept.ends_with(&[118, 119]), "{kept:?}");
    is_whole(&reader, 119);
}

#[test]
fn the_keeper_removes_what_is_old_by_the_machines_clock_and_stores_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heron.duckdb");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let (day, hour) = (86_400 * SECOND, 3_600 * SECOND);
    let (reader, mut writer) = open(&path);
    store(&mut writer, 0..10, Nanos(now - day - hour));
    store(&mut writer, 10..15, Nanos(now - hour));
    writer.close().unwrap();
    drop(reader);
    let (reader, writer) = open(&path);
    let keep = Keep { max_age: Some(Nanos(day)), max_bytes: None };
    let retention = Retention { keep, every: Duration::from_secs(3_600) };
    let (thread, mut keeper) = pipeline::keep(writer, Some(retention)).unwrap();
    let place = Some(made::placement(20, 1));
    keeper.take(&Fact::Call { call: call(20, Nanos(now)), place, process: None, done: true });
    keeper.finish();
    let status = thread.status();
    thread.finish().unwrap();
    assert_eq!(status.counters()["pruned_calls"], 10);
    let left = numbers(&reader);
    assert_eq!(left, [10, 11, 12, 13, 14, 20]);
    left.iter().for_each(|number| is_whole(&reader, *number));
}
