//! Which process owns a TCP connection of this host: the socket tables of every network namespace, and who holds the inodes.
//!
//! Reading another user's descriptors needs CAP_SYS_PTRACE: without it, only one's own connections have an owner. The scan
//! costs milliseconds, so it is made at most a few times a second, and only when there is a connection to ask about.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{identity, info};
use crate::event::{Endpoint, Event, ProcId, ProcessChange, ProcessEvent};

/// No two scans are closer.
const EVERY: Duration = Duration::from_millis(200);

/// Finds owners, and remembers which processes the pipeline has been told of.
#[derive(Default)]
pub struct SocketOwners {
    owners: HashMap<(SocketAddr, SocketAddr), u32>,
    scanned: Option<Instant>,
    told: BTreeSet<ProcId>,
}

impl SocketOwners {
    /// Fills the owners of connections in that begin in a batch, where their observed end is on this host; a process is
    /// introduced before its first connection.
    pub fn fill(&mut self, batch: &mut Vec<Event>) {
        if !batch.iter().any(|event| matches!(event, Event::Open(open) if open.owner.is_none())) {
            return;
        }
        let mut out = Vec::with_capacity(batch.len() + 1);
        for mut event in batch.drain(..) {
            if let Event::Open(open) = &mut event
                && let Some(ends) = &open.endpoints
                && let (Some(Endpoint::Inet(local)), Some(Endpoint::Inet(remote))) = (&ends.local, &ends.remote)
                && let Some(process) = self.owner(*local, *remote).and_then(identity)
            {
                open.owner = Some(process);
                if self.told.insert(process)
                    && let Some(info) = info(process.pid)
                {
                    let change = ProcessChange::Exec { parent: None, info: Arc::new(info) };
                    out.push(Event::Process(ProcessEvent { process, at: open.at, change }));
                }
            }
            out.push(event);
        }
        *batch = out;
    }

    /// The process whose socket is bound to `local` and connected to `remote`.
    pub fn owner(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
        if let Some(&pid) = self.owners.get(&(local, remote)) {
            return Some(pid);
        }
        if self.scanned.is_none_or(|at| at.elapsed() >= EVERY) {
            self.owners = scan();
            self.scanned = Some(Instant::now());
        }
        self.owners.get(&(local, remote)).copied()
    }
}

fn scan() -> HashMap<(SocketAddr, SocketAddr), u32> {
    let mut holders: HashMap<u64, u32> = HashMap::new();
    let mut namespaces: HashMap<u64, u32> = HashMap::new();
    for pid in super::all().into_keys() {
        if let Some(namespace) = link_inode(&format!("/proc/{pid}/ns/net")) {
            namespaces.entry(namespace).or_insert(pid);
        }
        let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for fd in fds.flatten() {
            if let Some(inode) = fd.path().to_str().and_then(link_inode_of_socket) {
                // A socket that was inherited belongs to the youngest that holds it: servers fork, agents do not.
                holders.insert(inode, pid);
            }
        }
    }
    let mut owners = HashMap::new();
    for pid in namespaces.into_values() {
        for table in ["tcp", "tcp6"] {
            let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            for (local, remote, inode) in text.lines().skip(1).filter_map(row) {
                if let Some(&holder) = holders.get(&inode) {
                    owners.insert((local, remote), holder);
                }
            }
        }
    }
    owners
}

/// The inode in a link like `net:[4026531840]`.
fn link_inode(path: &str) -> Option<u64> {
    let target = fs::read_link(path).ok()?;
    let text = target.to_str()?;
    text.strip_suffix(']')?.rsplit('[').next()?.parse().ok()
}

fn link_inode_of_socket(path: &str) -> Option<u64> {
    let target = fs::read_link(path).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// A row of `/proc/net/tcp` or `tcp6` with a peer.
fn row(line: &str) -> Option<(SocketAddr, SocketAddr, u64)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    let inode = words.nth(6)?.parse().ok()?;
    (remote.port() != 0 && inode != 0).then_some((local, remote, inode))
}

/// `0100007F:1F90`: 32-bit words in the host's order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..ip.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match <[u8; 16]>::try_from(bytes.as_slice()) {
        // The packets of a dual-stack socket are IPv4.
        Ok(six) => IpAddr::V6(Ipv6Addr::from(six)).to_canonical(),
        Err(_) => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_owner_of_a_connection_of_ours_is_this_process() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(listen) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            assert_eq!(SocketOwners::default().owner(local, remote), Some(std::process::id()));
        }
    }

    #[test]
    fn rows_of_the_socket_tables_are_read() {
        let four = "   1: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 20 4 30 10 -1";
        let six =
            "   2: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000200007F:C350 01 0:0 00:0 0 0 0 77 1";
        let (local, remote) = ("127.0.0.1:8080".parse().unwrap(), "127.0.0.2:50000".parse().unwrap());
        if cfg!(target_endian = "little") {
            assert_eq!(row(four), Some((local, remote, 4242)));
            assert_eq!(row(six), Some((local, remote, 77)));
        }
        assert_eq!(row("  sl  local_address rem_address   st tx_queue"), None);
        assert_eq!(row("   1: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 0 0 4242 1"), None);
    }
}
