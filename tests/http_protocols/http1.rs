//! HTTP/1 in its corners.

use std::io::Write;

use heron::event::CloseHow;
use heron::flaw::Flaw;
use heron::http::Side;

use crate::support::*;

const POST: &str = "POST /v1/messages HTTP/1.1\r\nHost: api.example\r\nContent-Length: 9\r\n\r\n{\"q\": 17}";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{\"a\": 1}";

fn get(target: &str) -> Step {
    sent(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

fn answer(body: &str) -> Step {
    received(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

#[test]
fn keep_alive_exchanges_are_read_whole() {
    let seen = assert_split_invariant(false, &[sent(POST), received(ANSWER), sent(POST), received(ANSWER), finished()]);
    assert_eq!(seen.len(), 2);
    for exchange in &seen {
        assert!(exchange.is_clean(), "{exchange:?}");
        assert_eq!((exchange.method.as_str(), exchange.target.as_str()), ("POST", "/v1/messages"));
        assert_eq!(exchange.request_wire, b"{\"q\": 17}");
        assert_eq!(exchange.response_content, b"{\"a\": 1}");
    }
}

#[test]
fn pipelined_answers_go_to_their_requests_in_order() {
    let requests = [get("/1"), get("/2"), get("/3")].map(|step| match step {
        Step::Bytes(_, bytes) => bytes,
        _ => Vec::new(),
    });
    let answers = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo\
                   HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
    let seen = assert_split_invariant(false, &[sent(requests.concat()), received(answers), finished()]);
    assert_eq!(lines(&seen), ["GET /1 -> 200 one", "GET /2 -> 200 two", "GET /3 -> 404 "]);
    assert!(seen.iter().all(Seen::is_clean));
}

#[test]
fn interim_responses_never_swap_answers() {
    let expect = "POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let steps = [
        sent(expect),
        received("HTTP/1.1 100 Continue\r\n\r\n"),
        sent("hi"),
        received("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nA"),
        get("/b"),
        received("HTTP/1.1 102 Processing\r\n\r\n"),
        received("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nB"),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["POST /a -> 200 A", "GET /b -> 200 B"]);
    assert_eq!((seen[0].interim.as_slice(), seen[1].interim.as_slice()), (&[100, 103][..], &[102][..]));
    assert!(seen.iter().all(Seen::is_clean));
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let steps = [
        sent("HEAD /h HTTP/1.1\r\n\r\n"),
        received("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nContent-Encoding: gzip\r\n\r\n"),
        get("/204"),
        received("HTTP/1.1 204 No Content\r\n\r\n"),
        get("/304"),
        received("HTTP/1.1 304 Not Modified\r\nContent-Length: 55\r\n\r\n"),
        get("/last"),
        answer("x"),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["HEAD /h -> 200 ", "GET /204 -> 204 ", "GET /304 -> 304 ", "GET /last -> 200 x"]);
    assert!(seen.iter().all(Seen::is_clean));
}

#[test]
fn chunks_with_extensions_and_trailers_are_taken_apart() {
    let body = "5;name=\"v;\"\r\nhello\r\n6 \r\n world\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n";
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n";
    let seen = assert_split_invariant(
        false,
        &[get("/c"), received(format!("{head}{body}")), get("/d"), answer("d"), finished()],
    );
    assert_eq!(lines(&seen), ["GET /c -> 200 hello world", "GET /d -> 200 d"]);
    assert!(seen.iter().all(Seen::is_clean));
}

#[test]
fn bare_line_feeds_are_line_ends_too() {
    let steps = [
        sent("POST /lf HTTP/1.1\nhost: x\ntransfer-encoding: chunked\n\n3\nabc\n0\n\n"),
        received("HTTP/1.1 200 OK\ncontent-length: 2\n\nok"),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["POST /lf -> 200 ok"]);
    assert_eq!(seen[0].request_wire, b"abc");
    assert!(seen[0].is_clean());
}

#[test]
fn a_body_until_close_ends_with_the_connection() {
    let head = "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let steps =
        |how| [get("/s"), received(format!("{head}data: 1\n\n")), received("data: 2\n\n"), Step::Close(None, how)];
    let seen = assert_split_invariant(false, &steps(CloseHow::Finished));
    assert_eq!(lines(&seen), ["GET /s -> 200 data: 1\n\ndata: 2\n\n"]);
    assert!(seen[0].is_clean());
    let seen = exchanges(&steps(CloseHow::Reset));
    assert_eq!((seen[0].flaws.as_slice(), seen[0].end), (&[Flaw::Cut][..], Some(Some(CloseHow::Reset))));
}

#[test]
fn a_reset_in_the_middle_is_told() {
    let steps = [sent(POST), received(&ANSWER[..ANSWER.len() - 3]), Step::Close(None, CloseHow::Reset)];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(seen[0].flaws, [Flaw::Cut]);
    assert_eq!(seen[0].response_wire, b"{\"a\":");
    assert_eq!(seen[0].end, Some(Some(CloseHow::Reset)));
    let seen = exchanges(&[sent(&POST[..POST.len() - 4]), Step::Close(None, CloseHow::Reset)]);
    assert_eq!((seen[0].flaws.as_slice(), seen[0].request_done), (&[Flaw::Cut][..], false));
}

#[test]
fn an_answer_before_the_end_of_the_request_is_its_answer() {
    let head = "POST /big HTTP/1.1\r\nContent-Length: 20\r\n\r\n";
    let refusal = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno";
    let steps = [
        sent(format!("{head}0123456789")),
        received(refusal),
        sent("0123456789"),
        get("/next"),
        answer("y"),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["POST /big -> 413 no", "GET /next -> 200 y"]);
    assert_eq!(seen[0].request_wire, b"01234567890123456789");
    assert!(seen.iter().all(Seen::is_clean));
    let seen = exchanges(&[sent(format!("{head}01234")), received(refusal), Step::Close(None, CloseHow::Reset)]);
    assert!(seen[0].flaws.is_empty(), "the response is whole");
    assert_eq!(seen[0].end, Some(Some(CloseHow::Reset)));
}

#[test]
fn a_refused_expectation_frees_the_connection_for_the_next_request() {
    let steps = [
        sent("POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 500\r\n\r\n"),
        received("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"),
        get("/b"),
        answer("b"),
        finished(),
    ];
    let seen = exchanges(&steps);
    assert_eq!(lines(&seen), ["POST /a -> 417 ", "GET /b -> 200 b"]);
}

#[test]
fn a_response_delivered_before_its_request_is_still_its_answer() {
    let steps = [answer("early"), get("/first"), sent(POST), received(ANSWER), finished()];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["GET /first -> 200 early", "POST /v1/messages -> 200 {\"a\": 1}"]);
    assert!(seen.iter().all(Seen::is_clean));
    let steps = [get("/1"), answer("one"), answer("two"), get("/2"), finished()];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["GET /1 -> 200 one", "GET /2 -> 200 two"]);
}

#[test]
fn a_held_response_answers_what_was_in_the_hole_and_not_the_next_request() {
    let steps = [get("/1"), answer("one"), answer("two"), lost_sent(30), get("/3"), answer("three"), finished()];
    let seen = exchanges(&steps);
    assert_eq!(lines(&seen), ["GET /1 -> 200 one", "  -> 200 two", "GET /3 -> 200 three"]);
    assert!(seen[0].is_clean() && seen[2].is_clean());
    assert_eq!(seen[1].flaws, [Flaw::Gap, Flaw::NoRequest]);
}

#[test]
fn a_response_that_nobody_asked_for_answers_nobody() {
    let timeout = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let seen = exchanges(&[get("/1"), answer("one"), received(timeout), get("/2"), finished()]);
    assert_eq!(lines(&seen), ["GET /1 -> 200 one", "  -> 408 ", "GET /2 -> - "]);
    assert_eq!(seen[1].flaws, [Flaw::NoRequest]);
    assert_eq!(seen[2].flaws, [Flaw::Cut]);
    let seen = exchanges(&[
        get("/1"),
        answer("one"),
        answer("what"),
        Step::Wait(300_000_000),
        get("/2"),
        answer("two"),
        finished(),
    ]);
    assert_eq!(lines(&seen), ["GET /1 -> 200 one", "  -> 200 what", "GET /2 -> 200 two"]);
}

#[test]
fn connections_met_in_the_middle_begin_with_the_next_message() {
    let steps = [
        sent("rest of a body, \"quoted\": \"POST /x HTTP/1.1\\r\\n\"}"),
        received("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlost"),
        sent(POST),
        received(ANSWER),
        finished(),
    ];
    let seen = assert_split_invariant(true, &steps);
    assert_eq!(lines(&seen), ["  -> 200 lost", "POST /v1/messages -> 200 {\"a\": 1}"]);
    assert_eq!(seen[0].flaws, [Flaw::MidStream, Flaw::NoRequest]);
    assert!(seen[1].is_clean());
    let steps = [received("tail of an answer\r\n0\r\n\r\n"), sent(POST), received(ANSWER), finished()];
    let seen = assert_split_invariant(true, &steps);
    assert_eq!(lines(&seen), ["POST /v1/messages -> 200 {\"a\": 1}"]);
    assert!(seen[0].is_clean());
}

#[test]
fn the_client_may_be_on_either_end() {
    let seen = exchanges(&[received(POST), sent(ANSWER), finished()]);
    assert_eq!(lines(&seen), ["POST /v1/messages -> 200 {\"a\": 1}"]);
}

#[test]
fn a_hole_in_a_body_of_known_length_costs_only_its_bytes() {
    let (head, body) = ANSWER.split_at(ANSWER.len() - 8);
    let steps = [
        sent(POST),
        received(head),
        received(&body[..2]),
        lost_received(3),
        received(&body[5..]),
        sent(POST),
        received(ANSWER),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(seen[0].flaws, [Flaw::Gap]);
    assert_eq!(seen[0].gaps, [(Side::Response, 3)]);
    assert_eq!(seen[0].response_wire, b"{\" 1}");
    assert!(seen[0].response_done);
    assert!(seen[1].is_clean());
}

#[test]
fn a_hole_in_a_chunked_body_ends_at_a_later_chunk() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for cut in 1..40 {
        let body = "7\r\ndata: 1\r\n7\r\ndata: 2\r\n7\r\ndata: 3\r\n7\r\ndata: 4\r\n7\r\ndata: 5\r\n0\r\n\r\n";
        let steps = [
            get("/s"),
            received(head),
            received(&body[..5]),
            lost_received(cut),
            received(&body[5 + cut as usize..]),
            get("/t"),
            answer("t"),
            finished(),
        ];
        let seen = exchanges(&steps);
        assert_eq!(seen.len(), 2, "hole of {cut}");
        assert_eq!(seen[0].flaws, [Flaw::Gap], "hole of {cut}");
        assert!(seen[0].response_done && seen[0].response_wire.ends_with(b"data: 5"), "hole of {cut}: {:?}", seen[0]);
        assert!(seen[1].is_clean(), "hole of {cut}");
    }
}

#[test]
fn a_lost_request_does_not_shift_the_answers() {
    let request = "GET /lost HTTP/1.1\r\nHost: x\r\n\r\n".len() as u64;
    let steps = [
        get("/1"),
        answer("1"),
        lost_sent(request),
        answer("lost"),
        get("/3"),
        answer("3"),
        get("/4"),
        answer("4"),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["GET /1 -> 200 1", "  -> 200 lost", "GET /3 -> 200 3", "GET /4 -> 200 4"]);
    assert_eq!(seen[1].flaws, [Flaw::Gap, Flaw::NoRequest]);
    assert!(seen[0].is_clean() && seen[2].is_clean() && seen[3].is_clean());
    // Part of the request's head is there.
    let steps = [
        get("/1"),
        answer("1"),
        sent("GET /lo"),
        lost_sent(request - 7),
        answer("lost"),
        get("/3"),
        answer("3"),
        finished(),
    ];
    assert_eq!(lines(&exchanges(&steps)), ["GET /1 -> 200 1", "  -> 200 lost", "GET /3 -> 200 3"]);
    // Request and answer are both lost.
    let steps = [
        get("/1"),
        answer("1"),
        lost_sent(request),
        lost_received(42),
        get("/3"),
        answer("3"),
        get("/4"),
        answer("4"),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["GET /1 -> 200 1", "GET /3 -> 200 3", "GET /4 -> 200 4"]);
    assert!(seen.iter().all(Seen::is_clean));
}

#[test]
fn a_lost_answer_does_not_shift_the_answers() {
    let size = ANSWER.len() as u64;
    for whole in [true, false] {
        let (left, hole) = if whole { (0, size) } else { (20, size - 30) };
        let tail = if whole { "" } else { &ANSWER[ANSWER.len() - 10..] };
        let steps = [
            get("/1"),
            received(&ANSWER[..left]),
            lost_received(hole),
            received(tail),
            get("/2"),
            answer("2"),
            get("/3"),
            answer("3"),
            finished(),
        ];
        let seen = assert_split_invariant(false, &steps);
        assert_eq!(lines(&seen), ["GET /1 -> - ", "GET /2 -> 200 2", "GET /3 -> 200 3"]);
        assert_eq!(seen[0].flaws, [Flaw::Gap, Flaw::Cut]);
        assert!(seen[1].is_clean() && seen[2].is_clean());
    }
}

#[test]
fn a_hole_over_the_end_of_a_body_into_the_next_message_damages_both_only() {
    let steps = [
        sent(&POST[..POST.len() - 2]),
        lost_sent(2 + 20),
        received(ANSWER),
        received("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlost"),
        get("/3"),
        answer("3"),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["POST /v1/messages -> 200 {\"a\": 1}", "  -> 200 lost", "GET /3 -> 200 3"]);
    assert_eq!(seen[0].flaws, [Flaw::Gap]);
    assert_eq!(seen[0].gaps, [(Side::Request, 2)]);
    assert!(seen[2].is_clean());
}

#[test]
fn a_tunnel_ends_the_exchange_and_what_is_in_it_is_read_where_it_can_be() {
    let steps = [
        sent("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"),
        received("HTTP/1.1 200 Connection established\r\n\r\n"),
        sent(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        received(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03"),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["CONNECT h:443 -> 200 "]);
    assert!(seen[0].is_clean());
    let steps = [steps[0].clone(), steps[1].clone(), sent(POST), received(ANSWER), finished()];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen)[1], "POST /v1/messages -> 200 {\"a\": 1}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn codings_are_undone_and_the_wire_bytes_kept() {
    let text = "{\"text\": \"a long answer, a long answer, a long answer\"}".repeat(20);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(text.as_bytes()).unwrap();
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    raw.write_all(text.as_bytes()).unwrap();
    let (first, second) = text.split_at(100);
    let zstd = zstd::encode_all(text.as_bytes(), 3).unwrap();
    for (name, coded) in [
        ("gzip", gzip(text.as_bytes())),
        ("X-GZIP", [gzip(first.as_bytes()), gzip(second.as_bytes())].concat()),
        ("deflate", zlib.finish().unwrap()),
        ("deflate", raw.finish().unwrap()),
        ("zstd", zstd.clone()),
        ("gzip, zstd", zstd::encode_all(&gzip(text.as_bytes())[..], 3).unwrap()),
        ("zstd, identity, gzip", gzip(&zstd)),
        ("identity", text.clone().into_bytes()),
    ] {
        let request =
            format!("POST /z HTTP/1.1\r\nContent-Encoding: {name}\r\nContent-Length: {}\r\n\r\n", coded.len());
        let response =
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: {name}\r\nContent-Length: {}\r\n\r\n", coded.len());
        let steps =
            [sent([request.as_bytes(), &coded].concat()), received([response.as_bytes(), &coded].concat()), finished()];
        let seen = assert_split_invariant(false, &steps);
        assert_eq!(seen[0].request_content, text.as_bytes(), "{name}");
        assert_eq!(seen[0].response_content, text.as_bytes(), "{name}");
        assert_eq!((&seen[0].request_wire, &seen[0].response_wire), (&coded, &coded), "{name}");
        assert!(seen[0].is_clean(), "{name}: {:?}", seen[0].flaws);
    }
}

#[test]
fn a_damaged_or_unknown_coding_is_told_and_the_wire_bytes_kept() {
    let mut damaged = gzip(&b"some text that is long enough to be coded ".repeat(30));
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let cut = gzip(b"some text")[..15].to_vec();
    for (name, coded) in [("gzip", damaged), ("gzip", cut), ("compress", b"anything".to_vec()), ("br", vec![0xff; 40])]
    {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {name}\r\nContent-Length: {}\r\n\r\n", coded.len());
        let seen =
            exchanges(&[get("/z"), received([head.as_bytes(), &coded].concat()), get("/y"), answer("y"), finished()]);
        assert_eq!(seen[0].flaws, [Flaw::Encoding], "{name}");
        assert_eq!(seen[0].response_wire, coded, "{name}");
        assert!(seen[1].is_clean());
    }
    // A coding that was undone on the way but is still named.
    let seen = exchanges(&[
        get("/z"),
        received("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\n{\"a\": 1}"),
        finished(),
    ]);
    assert_eq!(
        (seen[0].line().as_str(), seen[0].flaws.as_slice()),
        ("GET /z -> 200 {\"a\": 1}", &[Flaw::Encoding][..])
    );
}

#[test]
fn something_that_is_no_http_gives_nothing() {
    let seen = exchanges(&[
        sent(b"\x16\x03\x01\x02\x00\x01\x00"),
        received("220 smtp ready\r\n"),
        sent("EHLO x\r\n"),
        finished(),
    ]);
    assert!(seen.is_empty());
}
