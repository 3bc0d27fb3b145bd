//! From a call to its rows: what was stored before is referred to, what is new is packed.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use super::block::{BlockRow, Gatherer};
use super::body::{Codec, pack_delta};
use super::references::{Reference, References};
use super::rows::{CallRow, MessageRow, detail_bytes};
use super::summary::{CallSummary, ProcessBrief, StoredDetail, role_name};
use crate::turn::Placement;
use crate::wire::{Call, Message, MessageHash, ToolOffered};

/// Bodies that later ones may refer to are kept up to this size in all.
const REFERENCE_BYTES: usize = 48 << 20;
/// Addresses of messages that are known to be stored; two generations of so many.
const KNOWN_KEYS: usize = 200_000;
/// Sets of offered tools that are known to be stored.
const KNOWN_TOOLS: usize = 16;

/// What grows from call to call; part of each reference's key.
#[derive(Clone, Copy, Hash)]
enum Kind {
    Request,
    Chain,
}

/// The rows that one call adds; its bytes are in the block that is still open.
pub(super) struct Prepared {
    pub call: CallRow,
    pub messages: Vec<MessageRow>,
}

impl Prepared {
    /// About how much memory the rows take.
    pub(super) fn weight(&self) -> usize {
        self.call.weight() + self.messages.iter().map(|message| message.content.len() + 128).sum::<usize>()
    }
}

/// The messages of a call as content addresses, remembered for the conversation's next call.
struct Chain {
    hashes: Vec<MessageHash>,
    keys: Vec<u128>,
}

/// Packs calls, one after the other.
pub(super) struct Packer {
    gatherer: Gatherer,
    next_message: i64,
    references: References,
    chains: Vec<(u64, Chain)>,
    known: KnownKeys,
    tools: Vec<(Arc<[ToolOffered]>, i64)>,
}

impl Packer {
    /// `next_block` and `next_message` are the first free rows; `known` are addresses of stored messages, all of them when `all_known`.
    pub(super) fn new(next_block: i64, next_message: i64, known: HashSet<u128>, all_known: bool) -> Packer {
        Packer {
            gatherer: Gatherer::new(next_block),
            next_message,
            references: References::new(REFERENCE_BYTES),
            chains: Vec::new(),
            known: KnownKeys { young: HashSet::new(), old: known, complete: all_known },
            tools: Vec::new(),
        }
    }

    /// True while every stored message's address is known here, so that what is new here is new in the table.
    pub(super) fn knows_all_messages(&self) -> bool {
        self.known.complete
    }

    /// Forgets what earlier rows it could refer to: used when rows were given up.
    pub(super) fn forget(&mut self) {
        self.references.clear();
        self.chains.clear();
        self.tools.clear();
        self.known = KnownKeys { young: HashSet::new(), old: HashSet::new(), complete: false };
    }

    /// How many bytes wait in the open block.
    pub(super) fn open_bytes(&self) -> usize {
        self.gatherer.open_bytes()
    }

    /// The open block, once it is full.
    pub(super) fn close_full(&mut self) -> Option<BlockRow> {
        self.gatherer.close_full()
    }

    /// The open block, unless it is empty.
    pub(super) fn close(&mut self) -> Option<BlockRow> {
        self.gatherer.close()
    }

    /// The rows of a call.
    pub(super) fn prepare(
        &mut self,
        call: &Call,
        place: Option<&Placement>,
        process: Option<ProcessBrief>,
        image: Option<i64>,
    ) -> Prepared {
        let mut messages = Vec::new();
        let keys = conversation_keys(call);
        let request = self.add_grown(&call.request.body, Kind::Request, &keys);
        let response = self.add(&call.response.body);
        let mut chain_bytes = Vec::with_capacity(call.messages.len() * 16);
        for key in self.chain(call, &keys, &mut messages) {
            chain_bytes.extend_from_slice(&key.to_le_bytes());
        }
        let chain = self.add_grown(&Bytes::from(chain_bytes), Kind::Chain, &keys);
        let detail = self.add(&detail_bytes(&StoredDetail::of(call)));
        let tools = self.add_tools(&call.tools_offered);
        let call = CallRow {
            summary: CallSummary::of(call, place, process),
            cost: place.and_then(|place| place.cost),
            started: call.times.request_first,
            ttft: call.time_to_first_token(),
            duration: call.duration(),
            process: call.process,
            image,
            request,
            response,
            chain,
            tools,
            detail,
        };
        Prepared { call, messages }
    }

    /// Adds bytes that are like nothing before; their number, unless there are none.
    pub(super) fn add(&mut self, data: &[u8]) -> Option<i64> {
        (!data.is_empty()).then(|| self.gatherer.add(Codec::Raw, data, data.len(), None))
    }

    /// Adds bytes that are likely to begin as earlier ones of their conversation do.
    fn add_grown(&mut self, bytes: &Bytes, kind: Kind, keys: &[u64]) -> Option<i64> {
        if bytes.is_empty() {
            return None;
        }
        let keys: Vec<u64> = keys.iter().map(|key| hash_of(&(*key, kind))).collect();
        let base = self.references.find(&keys);
        let difference = base.as_ref().and_then(|base| pack_delta(bytes, &base.bytes));
        let (id, depth) = match (&difference, &base) {
            (Some(data), Some(base)) => {
                (self.gatherer.add(Codec::Delta, data, bytes.len(), Some(base.piece)), base.depth + 1)
            }
            _ => (self.gatherer.add(Codec::Raw, bytes, bytes.len(), None), 0),
        };
        self.references.remember(&keys, Reference { piece: id, depth, bytes: bytes.clone() });
        Some(id)
    }

    /// The addresses of the call's messages; those not stored yet become rows.
    fn chain(&mut self, call: &Call, keys: &[u64], rows: &mut Vec<MessageRow>) -> Vec<u128> {
        let conversation = keys.first().copied().unwrap_or_default();
        let known_at = self.chains.iter().position(|(key, _)| *key == conversation);
        let mut addresses: Vec<u128> = Vec::with_capacity(call.messages.len());
        if let Some((_, chain)) = known_at.and_then(|at| self.chains.get(at)) {
            let same = call.messages.iter().zip(&chain.hashes).take_while(|(message, hash)| message.hash == **hash);
            addresses.extend(chain.keys.iter().take(same.count()));
        }
        for message in call.messages.iter().skip(addresses.len()) {
            let (key, content) = address(message);
            addresses.push(key);
            if self.known.insert(key) {
                let (hash, role, first_call) = (message.hash.to_string(), role_name(message.role), call.id.to_string());
                let id = self.next_message;
                self.next_message += 1;
                rows.push(MessageRow { id, key, hash, role, content, first_call });
            }
        }
        let hashes = call.messages.iter().map(|message: &Arc<Message>| message.hash).collect();
        if let Some(at) = known_at {
            self.chains.remove(at);
        } else if self.chains.len() >= 64 {
            self.chains.remove(0);
        }
        self.chains.push((conversation, Chain { hashes, keys: addresses.clone() }));
        addresses
    }

    fn add_tools(&mut self, tools: &Arc<[ToolOffered]>) -> Option<i64> {
        if tools.is_empty() {
            return None;
        }
        if let Some((_, piece)) = self.tools.iter().find(|(known, _)| Arc::ptr_eq(known, tools) || known == tools) {
            return Some(*piece);
        }
        let id = self.add(&serde_json::to_vec(&**tools).unwrap_or_default())?;
        if self.tools.len() >= KNOWN_TOOLS {
            self.tools.remove(0);
        }
        self.tools.push((Arc::clone(tools), id));
        Some(id)
    }
}

/// The exact content address of a message, and its content as stored. The message's own hash leaves out what clients move about;
/// this one does not, so that a call's messages come back as they were decoded.
fn address(message: &Message) -> (u128, String) {
    let content = serde_json::to_string(&message.content).unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    hasher.update(role_name(message.role).as_bytes());
    hasher.update(&[0]);
    hasher.update(content.as_bytes());
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    (u128::from_le_bytes(key), content)
}

/// From the most telling key down: the conversation's first messages, its system prompt, its id, the connection.
fn conversation_keys(call: &Call) -> Vec<u64> {
    let first: Vec<&MessageHash> = call.messages.iter().take(2).map(|message| &message.hash).collect();
    let mut keys = Vec::with_capacity(4);
    if first.len() == 2 {
        keys.push(hash_of(&("first two", &first, call.wire_api)));
    }
    if let Some(system) = first.first() {
        keys.push(hash_of(&("first", system, call.wire_api)));
    }
    if let Some(hint) = &call.conversation_hint {
        keys.push(hash_of(&("hint", hint, call.wire_api)));
    }
    keys.push(hash_of(&("connection", call.conn, call.wire_api)));
    keys
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A bounded memory of addresses, in two generations.
struct KnownKeys {
    young: HashSet<u128>,
    old: HashSet<u128>,
    complete: bool,
}

impl KnownKeys {
    /// True when the address was not known.
    fn insert(&mut self, key: u128) -> bool {
        if self.young.contains(&key) || self.old.contains(&key) {
            return false;
        }
        if self.young.len() >= KNOWN_KEYS {
            self.complete &= self.old.is_empty();
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key);
        true
    }
}
