//! The key log: which secrets belong to which client random (the NSS key log format, RFC 9850).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// More connections than this are not remembered.
const MAX_ENTRIES: usize = 1 << 20;
/// No line of a key log is longer.
const MAX_LINE: usize = 4096;

/// A secret: 32 or 48 bytes.
pub(super) type Secret = Box<[u8]>;

/// What is known of one connection.
#[derive(Default, Clone, Debug)]
pub(super) struct Secrets {
    /// TLS 1.2's master secret.
    pub master: Option<Secret>,
    /// TLS 1.3's traffic secrets.
    pub early: Option<Secret>,
    pub client_handshake: Option<Secret>,
    pub server_handshake: Option<Secret>,
    pub client_traffic: Option<Secret>,
    pub server_traffic: Option<Secret>,
}

/// Every secret that was logged.
#[derive(Default, Debug)]
pub(crate) struct KeyLog {
    entries: HashMap<[u8; 32], Secrets>,
    file: Option<Tail>,
    growing: bool,
    /// Master secrets by session id and by ticket: a resumed TLS 1.2 connection may not be logged again.
    sessions: HashMap<Box<[u8]>, Secret>,
}

/// A file that grows while it is read.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    read: u64,
    rest: Vec<u8>,
}

impl KeyLog {
    /// Reads a key log file; later lines are read when a connection asks for a key that is not there.
    pub(crate) fn open(path: &Path) -> io::Result<KeyLog> {
        File::open(path)?;
        let tail = Tail { path: path.to_owned(), read: 0, rest: Vec::new() };
        let mut log = KeyLog { file: Some(tail), ..KeyLog::default() };
        log.reload()?;
        Ok(log)
    }

    /// Whether keys may be logged a moment later than the packets they are for are seen.
    pub(super) fn is_growing(&self) -> bool {
        self.growing
    }

    /// Says that the connections of the capture are going on now.
    pub(crate) fn expect_more(&mut self) {
        self.growing = self.file.is_some();
    }

    /// Takes the lines of a key log; others are stepped over.
    pub(crate) fn learn(&mut self, text: &[u8]) {
        text.split(|&byte| byte == b'\n' || byte == b'\r').for_each(|line| self.line(line));
    }

    /// The secrets of the connection with this client random.
    pub(super) fn secrets(&mut self, random: &[u8; 32]) -> Option<&Secrets> {
        if !self.entries.contains_key(random) {
            // A file that went away leaves what was read of it.
            let _ = self.reload();
        }
        self.entries.get(random)
    }

    /// Like [`KeyLog::secrets`], for a connection whose later secrets may not have been logged when it was first asked.
    pub(super) fn refresh(&mut self, random: &[u8; 32]) -> Option<&Secrets> {
        let _ = self.reload();
        self.entries.get(random)
    }

    /// Remembers the master secret under a session id or ticket.
    pub(super) fn remember(&mut self, id: &[u8], master: &Secret) {
        if !id.is_empty() && self.sessions.len() < MAX_ENTRIES / 16 {
            self.sessions.insert(id.into(), master.clone());
        }
    }

    /// The master secret of a session id or ticket.
    pub(super) fn resumed(&self, id: &[u8]) -> Option<Secret> {
        self.sessions.get(id).cloned()
    }

    fn reload(&mut self) -> io::Result<()> {
        let Some(mut tail) = self.file.take() else { return Ok(()) };
        let lines = tail.more();
        self.file = Some(tail);
        self.learn(&lines?);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) {
        let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        let (Some(label), Some(random), Some(secret)) = (words.next(), words.next(), words.next()) else { return };
        let Some(random) = hex(random).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) else { return };
        let Some(secret) = hex(secret).filter(|secret| matches!(secret.len(), 32 | 48)) else { return };
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&random) {
            return;
        }
        let entry = self.entries.entry(random).or_default();
        let place = match label {
            b"CLIENT_RANDOM" => &mut entry.master,
            b"CLIENT_EARLY_TRAFFIC_SECRET" => &mut entry.early,
            b"CLIENT_HANDSHAKE_TRAFFIC_SECRET" => &mut entry.client_handshake,
            b"SERVER_HANDSHAKE_TRAFFIC_SECRET" => &mut entry.server_handshake,
            b"CLIENT_TRAFFIC_SECRET_0" => &mut entry.client_traffic,
            b"SERVER_TRAFFIC_SECRET_0" => &mut entry.server_traffic,
            _ => return,
        };
        *place = Some(secret.into());
    }
}

impl Tail {
    /// The whole lines that were written since the last look.
    fn more(&mut self) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let len = file.metadata()?.len();
        if len < self.read {
            // Begun anew.
            (self.read, self.rest) = (0, Vec::new());
        }
        if file.metadata()?.is_file() && len == self.read {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut lines = std::mem::take(&mut self.rest);
        self.read += file.read_to_end(&mut lines)? as u64;
        let end = lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.rest = lines.split_off(end);
        if self.rest.len() > MAX_LINE {
            self.rest.clear();
        }
        Ok(lines)
    }
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() > 256 || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.chunks_exact(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.last()?)?)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written_and_nonsense_is_stepped_over() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let random = "ab".repeat(32);
        writeln!(file, "# a comment\nRSA 00 11\nCLIENT_RANDOM {random} zz\nCLIENT_RANDOM").unwrap();
        let mut log = KeyLog::open(file.path()).unwrap();
        assert!(log.secrets(&[0xab; 32]).is_none());
        write!(file, "CLIENT_TRAFFIC_SECRET_0 {random} {}\nSERVER_TRAFFIC_SECRET_0 {random} ", "01".repeat(48))
            .unwrap();
        assert_eq!(log.secrets(&[0xab; 32]).unwrap().client_traffic.as_deref(), Some(&[1u8; 48][..]));
        assert!(log.refresh(&[0xab; 32]).unwrap().server_traffic.is_none());
        writeln!(file, "{}", "02".repeat(32)).unwrap();
        assert_eq!(log.refresh(&[0xab; 32]).unwrap().server_traffic.as_deref(), Some(&[2u8; 32][..]));
    }
}
