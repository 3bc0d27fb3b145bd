//! The bytes of a capture: a mapped file, or a stream (standard input, gzip, zstd), read through one window.
//!
//! A plain file is mapped, so that every packet is a slice of the page cache; pages behind the reader are given back, which
//! keeps the resident size flat whatever the file's. A stream is read in chunks that packets share. The one copy is that
//! of a packet that straddles two chunks.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use memmap2::{Advice, Mmap, UncheckedAdvice};

/// How much of a stream is read at once.
const CHUNK: usize = 256 * 1024;
/// Mapped pages are given back in pieces of this size.
const GIVE_BACK: usize = 16 << 20;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Read position in a capture's (decompressed) bytes.
pub(super) struct Input {
    backing: Bytes,
    at: usize,
    /// Where `backing` begins in the decompressed bytes.
    base: u64,
    stream: Option<Box<dyn Read + Send>>,
    mapped: Option<Mapping>,
    given_back: usize,
    progress: Arc<Progress>,
}

/// How far a reader is, for whoever shows it.
#[derive(Default, Debug)]
pub struct Progress {
    /// Bytes of the file (as stored, compressed or not) that were read.
    pub read_bytes: AtomicU64,
    /// Size of the file; 0 when it has none (a pipe).
    pub total_bytes: AtomicU64,
}

#[derive(Clone)]
struct Mapping(Arc<Mmap>);

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

struct Counted<R> {
    inner: R,
    progress: Arc<Progress>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.progress.read_bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Input {
    /// Opens a file; `-` is standard input. Compression is recognised by its magic bytes, not by the name.
    pub(super) fn open(path: &Path, progress: Arc<Progress>) -> io::Result<Input> {
        if path.as_os_str() == "-" {
            return Input::stream(Box::new(io::stdin()), progress);
        }
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
        }
        if !meta.is_file() {
            return Input::stream(Box::new(file), progress);
        }
        progress.total_bytes.fetch_add(meta.len(), Ordering::Relaxed);
        if meta.len() == 0 {
            return Ok(Input::of(Bytes::new(), progress));
        }
        // SAFETY: the mapping is read-only and shared. A file that is cut while it is mapped would raise SIGBUS; captures
        // only grow, and the same holds for every tool that maps files.
        let map = unsafe { Mmap::map(&file) }?;
        if map.starts_with(&GZIP) || map.starts_with(&ZSTD) {
            drop(map);
            return Input::stream(Box::new(file), progress);
        }
        // Advice only: a kernel without it reads as well.
        let _ = map.advise(Advice::Sequential);
        let mapping = Mapping(Arc::new(map));
        let mut input = Input::of(Bytes::from_owner(mapping.clone()), progress);
        input.mapped = Some(mapping);
        Ok(input)
    }

    /// Reads a stream, decompressing it when it is compressed.
    pub(super) fn stream(raw: Box<dyn Read + Send>, progress: Arc<Progress>) -> io::Result<Input> {
        let mut counted = Counted { inner: raw, progress: progress.clone() };
        let mut head = Vec::with_capacity(4);
        (&mut counted).take(4).read_to_end(&mut head)?;
        let (gzip, zstd) = (head.starts_with(&GZIP), head.starts_with(&ZSTD));
        let whole = io::Cursor::new(head).chain(counted);
        let stream: Box<dyn Read + Send> = if gzip {
            Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::with_capacity(CHUNK, whole)))
        } else if zstd {
            Box::new(zstd::stream::read::Decoder::new(whole)?)
        } else {
            Box::new(whole)
        };
        let mut input = Input::of(Bytes::new(), progress);
        input.stream = Some(stream);
        Ok(input)
    }

    /// Reads from memory.
    pub(super) fn of(bytes: Bytes, progress: Arc<Progress>) -> Input {
        Input { backing: bytes, at: 0, base: 0, stream: None, mapped: None, given_back: 0, progress }
    }

    /// Whether slices of this input live in a file's pages and cost no memory of their own.
    pub(super) fn is_mapped(&self) -> bool {
        self.mapped.is_some()
    }

    /// Position in the decompressed bytes.
    pub(super) fn position(&self) -> u64 {
        self.base + self.at as u64
    }

    /// The next `n` bytes without moving on; `None` when the input ends before.
    pub(super) fn peek(&mut self, n: usize) -> io::Result<Option<&[u8]>> {
        if self.available() < n {
            self.fill(n)?;
        }
        Ok(self.backing.get(self.at..self.at.saturating_add(n)))
    }

    /// Takes the next `n` bytes; fewer when the input ends before.
    pub(super) fn take(&mut self, n: usize) -> io::Result<Bytes> {
        let failed = if self.available() < n { self.fill(n).err() } else { None };
        let n = n.min(self.available());
        let taken = self.backing.slice(self.at..self.at + n);
        self.advance(n);
        match failed {
            Some(error) if taken.is_empty() => Err(error),
            _ => Ok(taken),
        }
    }

    /// Moves on by `n` bytes that were peeked.
    pub(super) fn advance(&mut self, n: usize) {
        self.at = self.at.saturating_add(n).min(self.backing.len());
        if self.mapped.is_some() && self.at - self.given_back >= GIVE_BACK {
            self.give_back();
        }
    }

    /// Bytes that are at hand without reading.
    fn available(&self) -> usize {
        self.backing.len() - self.at
    }

    /// Reads until `n` bytes are at hand, or the stream ends.
    fn fill(&mut self, n: usize) -> io::Result<()> {
        let Some(stream) = self.stream.as_mut() else { return Ok(()) };
        let rest = self.backing.get(self.at..).unwrap_or_default();
        let mut chunk = Vec::with_capacity(n.max(CHUNK));
        chunk.extend_from_slice(rest);
        let mut filled = chunk.len();
        chunk.resize(chunk.capacity(), 0);
        let mut failed = None;
        while filled < n {
            match stream.read(&mut chunk[filled..]) {
                Ok(0) => {
                    self.stream = None;
                    break;
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.stream = None;
                    failed = Some(error);
                    break;
                }
            }
        }
        chunk.truncate(filled);
        if filled < CHUNK / 2 {
            chunk.shrink_to_fit();
        }
        self.base += self.at as u64;
        self.at = 0;
        self.backing = Bytes::from(chunk);
        failed.map_or(Ok(()), Err)
    }

    fn give_back(&mut self) {
        let Some(mapping) = &self.mapped else { return };
        let len = (self.at - self.given_back) & !0xffff;
        // The part before goes once more: whoever decodes is behind, and has touched its pages again since.
        let from = self.given_back.saturating_sub(GIVE_BACK);
        // SAFETY: the mapping is read-only and backed by a file: pages that somebody still refers to are read again.
        let _ =
            unsafe { mapping.0.unchecked_advise_range(UncheckedAdvice::DontNeed, from, self.given_back - from + len) };
        self.given_back += len;
        self.progress.read_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Trickle(Vec<u8>, usize);

    impl Read for Trickle {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = 3.min(buf.len()).min(self.0.len() - self.1);
            buf[..n].copy_from_slice(&self.0[self.1..self.1 + n]);
            self.1 += n;
            Ok(n)
        }
    }

    #[test]
    fn a_stream_in_small_reads_gives_the_same_bytes_as_memory() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&bytes).unwrap();
        let packed = [gz.finish().unwrap(), zstd::encode_all(&bytes[..], 1).unwrap(), bytes.clone()];
        for stored in packed {
            let mut input = Input::stream(Box::new(Trickle(stored, 0)), Arc::default()).unwrap();
            let mut read = Vec::new();
            for len in (1..).step_by(13) {
                let piece = input.take(len).unwrap();
                if piece.is_empty() {
                    break;
                }
                read.extend_from_slice(&piece);
                assert_eq!(input.position(), read.len() as u64);
            }
            assert!(read == bytes);
        }
    }

    #[test]
    fn a_damaged_gzip_gives_what_came_before_the_damage() {
        let bytes = vec![7u8; 1000];
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        gz.write_all(&bytes).unwrap();
        let mut stored = gz.finish().unwrap();
        stored.truncate(500);
        let mut input = Input::stream(Box::new(Trickle(stored, 0)), Arc::default()).unwrap();
        let got = input.take(1000).unwrap();
        assert!(got.len() > 400 && got.len() < 500, "{}", got.len());
        assert!(input.take(1).unwrap().is_empty());
    }
}
