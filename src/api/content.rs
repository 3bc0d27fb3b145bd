//! Undoes a body's content coding for people who look at it. Bounded: a small body can hold a very large one.

use std::io::{self, Read};

/// The largest decoded body that is answered.
const DECODED_MAX: u64 = 256 << 20;

/// The content of `body` under the codings of a `content-encoding` header, the last applied undone first.
pub(super) fn decode(body: Vec<u8>, codings: &str) -> io::Result<Vec<u8>> {
    let mut body = body;
    for coding in codings.rsplit(',').map(|coding| coding.trim().to_ascii_lowercase()) {
        body = match coding.as_str() {
            "" | "identity" => body,
            "gzip" | "x-gzip" => read(flate2::read::MultiGzDecoder::new(body.as_slice()))?,
            "deflate" => inflate(&body)?,
            "br" => read(brotli_decompressor::Decompressor::new(body.as_slice(), 4096))?,
            "zstd" => read(zstd::stream::read::Decoder::new(body.as_slice())?)?,
            other => return Err(io::Error::other(format!("heron cannot undo the content coding {other:?}"))),
        };
    }
    Ok(body)
}

/// `deflate` is zlib by the standard and bare in practice.
fn inflate(body: &[u8]) -> io::Result<Vec<u8>> {
    read(flate2::read::ZlibDecoder::new(body)).or_else(|_| read(flate2::read::DeflateDecoder::new(body)))
}

/// Reads what can be read: a stream that is cut gives what came before the cut.
fn read(decoder: impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    match decoder.take(DECODED_MAX).read_to_end(&mut content) {
        Ok(_) => Ok(content),
        Err(_) if !content.is_empty() => Ok(content),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn stacked_codings_are_undone_last_first() {
        let text = b"data: {\"a\":1}\n\n".repeat(50);
        let stacked = zstd::bulk::compress(&gzip(&text), 1).unwrap();
        assert_eq!(decode(stacked, "gzip, zstd").unwrap(), text);
        assert_eq!(decode(gzip(&text), "gzip").unwrap(), text);
        assert_eq!(decode(text.clone(), "").unwrap(), text);
        assert!(decode(text, "rot13").is_err());
    }

    #[test]
    fn a_cut_stream_gives_what_came_before_the_cut() {
        let text: Vec<u8> = (0..20_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let whole = gzip(&text);
        let part = decode(whole[..whole.len() / 2].to_vec(), "gzip").unwrap();
        assert!(!part.is_empty() && text.starts_with(&part));
    }
}
