/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The whole contract between the BPF programs and src/capture/ebpf. docs/abi.md explains it.
 *
 * Fixed-width integers, explicit padding, records a multiple of 8 bytes, payload last, kinds never reused. The Rust side
 * gets these types through the skeleton (BTF); sizes are asserted here and in src/capture/ebpf/abi.rs. */
#ifndef HERON_ABI_H
#define HERON_ABI_H

#define HERON_ABI_VERSION 1

#define HERON_TAIL_MAX 96	/* a path rule with its terminating zero */
#define HERON_HEAD_MAX 512	/* how much of a request is looked at for its verdict */
#define HERON_CHUNK_MAX (1u << 20) /* payload of one record, exact-size records */
#define HERON_FRAMES 4		/* nested TLS calls of one thread */
#define HERON_SITES 4096	/* attach sites with a hit counter */
#define HERON_SITE_SOCKET 0xffffffffu	/* the "site" of plaintext on sockets */
#define HERON_NAME_MAX 256
#define HERON_ARGS_MAX 1024

enum heron_kind {
	HERON_KIND_DATA = 1,	/* data ring: bytes of one direction */
	HERON_KIND_SOCK = 2,	/* data ring: the ends of a stream */
	HERON_KIND_CLOSE = 3,	/* data ring: a stream ended */
	HERON_KIND_EXEC = 16,	/* process ring */
	HERON_KIND_FORK = 17,	/* process ring */
	HERON_KIND_EXIT = 18,	/* process ring */
	HERON_KIND_MAP = 19,	/* process ring: a file was mapped executable */
};

enum heron_direction {
	HERON_SENT = 0,
	HERON_RECEIVED = 1,
};

/* What happens with the bytes of a stream. */
enum heron_verdict {
	HERON_VERDICT_NONE = 0,	/* no request head seen yet: not copied */
	HERON_VERDICT_DROP = 1,	/* this request is no LLM call: not copied, until the next request */
	HERON_VERDICT_PASS = 2,	/* this request is an LLM call: copied, until the next request */
	HERON_VERDICT_ALL = 3,	/* copied whole: HTTP/2, or user space said so */
	HERON_VERDICT_NEVER = 4,	/* user space said so: never copied */
};

/* Data flags. */
enum heron_flag {
	HERON_FLAG_HEAD = 1,	/* begins with a request head or the HTTP/2 preface */
	HERON_FLAG_MID = 2,	/* the stream was met in the middle */
	HERON_FLAG_HOLE = 4,	/* no payload: the bytes were lost, `len` says how many */
	HERON_FLAG_FAULT = 8,	/* with HOLE: the process's memory could not be read */
};

/* What a probed function does; the first byte of a site's cookie. */
enum heron_role {
	HERON_ROLE_WRITE = 1,
	HERON_ROLE_READ = 2,
	HERON_ROLE_FREE = 3,
	HERON_ROLE_HANDSHAKE = 4,
	HERON_ROLE_SET_FD = 5,
	HERON_ROLE_SEAL = 6,	/* AEAD: one record out; `out` is the ciphertext */
	HERON_ROLE_OPEN = 7,	/* AEAD: one record in; `out` is the ciphertext */
	HERON_ROLE_COUNTER = 8,	/* AEAD of ring: the rest of a record, and its tag */
	HERON_ROLE_DIGEST = 9,	/* AEAD: one step of the tag, the last of a record after all of its bytes */
};

/* How a function tells how many bytes it moved. */
enum heron_count {
	HERON_COUNT_RETURN = 0,	/* the return value, when positive */
	HERON_COUNT_OUT = 1,	/* *out, when the return value is 1 */
	HERON_COUNT_OUT_ANY = 2,	/* *out, when the return value is positive */
	HERON_COUNT_LEN = 3,	/* the length argument */
	HERON_COUNT_BEGUN = 4,	/* AEAD: the length is the record's, other functions may do a part of it */
	HERON_COUNT_BLOCKS = 5,	/* AEAD: the length is that of the record's whole blocks */
};

/* A site's cookie, from the low end: role (8 bits), argument numbers of stream, buffer, length, out (4 bits each, 1 to 6,
 * 0 for none), enum heron_count (4 bits), 1 bit for Go's stack convention, 3 bits free, then the site's number (32 bits). */
#define HERON_COOKIE_STREAM 8
#define HERON_COOKIE_BUF 12
#define HERON_COOKIE_LEN 16
#define HERON_COOKIE_OUT 20
#define HERON_COOKIE_COUNT 24
#define HERON_COOKIE_GO_STACK (1u << 28)
#define HERON_COOKIE_SITE 32

/* Named counters, one slot each in the per-CPU array `counters`. */
enum heron_counter {
	HERON_C_SEEN_BYTES = 0,	/* payload that watched processes moved through hooked functions */
	HERON_C_PASSED_BYTES,	/* payload that reached the ring */
	HERON_C_FILTERED_BYTES,	/* payload that the filter left out */
	HERON_C_LOST_BYTES,	/* payload that should have reached the ring */
	HERON_C_RING_FULL,	/* records refused by the data ring */
	HERON_C_RING_FULL_BYTES,
	HERON_C_READ_FAULT,	/* reads of the process's memory that failed */
	HERON_C_READ_FAULT_BYTES,
	HERON_C_MAP_FULL,	/* a watch, stream or thread entry had no room */
	HERON_C_EVENT_LOST,	/* records refused by the process ring */
	HERON_C_HEADS,		/* request heads judged */
	HERON_C_HEADS_PASSED,
	HERON_C_PATH_TOO_LONG,	/* request targets that did not fit in the looked-at head */
	HERON_C_MID_STREAM,	/* streams met in the middle */
	HERON_C_UNMATCHED_RETURN,	/* returns without an entry (calls under way when the hook was set) */
	HERON_C_CALL_FAILED,	/* calls that moved nothing (retried writes, would-block) */
	HERON_C_DEPTH,		/* nested deeper than HERON_FRAMES */
	HERON_C_RECORDS,	/* records submitted to the data ring */
	HERON_C_WAKEUPS,	/* forced wake-ups of the reader */
	HERON_C_FORKS,
	HERON_C_EXECS,
	HERON_C_EXITS,
	HERON_C_STREAMS,	/* streams opened */
	HERON_C_SOCKET_BUFFER,	/* socket calls whose buffer could not be told (no plain read or write) */
	HERON_C_VOTES,		/* sockets told by the receive before a TLS read */
	HERON_C_MISSED_BYTES,	/* payload of streams met in the middle, before their next request */
	HERON_C_AEAD_OTHER,	/* records below rustls that are no application data (handshake, alerts, padded, TLS 1.2) */
	HERON_C_AEAD_UNPAIRED,	/* records received below rustls whose connection is not proven: left out */
	HERON_C_H2_OUT,		/* HTTP/2 data frames left out, because user space judged their exchange */
	HERON_C_H2_UNFOLLOWED,	/* directions of HTTP/2 connections whose frames could not be followed: nothing is left out there */
	HERON_COUNTERS,
};

struct heron_hdr {
	__u32 kind;
	__u32 size;		/* of the record without its payload */
	__u64 time;		/* CLOCK_MONOTONIC nanoseconds */
	__u32 tgid;
	__u32 tid;
	__u64 start;		/* of the process, CLOCK_BOOTTIME nanoseconds */
};

struct heron_data {
	struct heron_hdr hdr;
	__u64 stream;		/* SSL *, connection pointer or struct sock * */
	__u64 born;		/* with stream and tgid: the stream's identity */
	__u64 offset;		/* of the first byte, see docs/abi.md */
	__u32 len;
	__u32 site;
	__u8 direction;
	__u8 flags;
	__u8 verdict;
	__u8 client;		/* 0 unknown, 1 the observed end sent the request, 2 it received it */
	__u32 pad;
};

struct heron_addr {
	__u16 family;		/* 0 unknown, 1 unix, 2 IPv4, 10 IPv6 */
	__u16 local_port;	/* host byte order */
	__u16 remote_port;
	__u8 confidence;	/* enum heron_confidence */
	__u8 pad;
	__u8 local[16];
	__u8 remote[16];
};

enum heron_confidence {
	HERON_CONFIDENCE_CERTAIN = 0,
	HERON_CONFIDENCE_DESCRIPTOR = 1,
	HERON_CONFIDENCE_CIPHERTEXT = 2,
	HERON_CONFIDENCE_VOTE = 3,
};

struct heron_sock {
	struct heron_hdr hdr;
	__u64 stream;
	__u64 born;
	__u32 site;
	__u32 mid;		/* the stream was met in the middle */
	struct heron_addr addr;
	__u8 path[112];		/* unix: the bound path, NUL-padded; abstract names begin with '@' */
};

struct heron_close {
	struct heron_hdr hdr;
	__u64 stream;
	__u64 born;
	__u64 offset[2];	/* how far each direction got */
};

struct heron_proc {
	struct heron_hdr hdr;	/* of the process that changed */
	__u64 parent_start;
	__u32 parent_tgid;
	__s32 status;		/* exit: the wait status; exec: 1 when the process is not watched (host mode) */
	__u32 shares_memory;	/* fork: the child runs in its parent's memory until it calls exec */
	__u32 uid;
	__u32 name_len;		/* exec: bytes of name */
	__u32 args_len;		/* exec: bytes of args */
	__u8 comm[16];
	__u8 name[HERON_NAME_MAX];
	__u8 args[HERON_ARGS_MAX];
};

/* The part of struct heron_proc that fork and exit send. */
#define HERON_PROC_SHORT (sizeof(struct heron_hdr) + 32 + 16)

struct heron_watch {
	__u64 start;
	__u32 parent;
	__u32 flags;		/* enum heron_watch_flag */
};

enum heron_watch_flag {
	HERON_WATCH_STREAMS = 1,	/* it has had streams */
	HERON_WATCH_GO = 4,	/* it is a Go program with hooks */
	HERON_WATCH_STRICT = 2,	/* stop it at exec until user space hooked the new image */
};

struct heron_stream_key {
	__u64 stream;
	__u32 tgid;
	__u32 pad;
};

struct heron_stream {
	__u64 born;
	__u64 start;
	__u64 offset[2];	/* bytes passed or lost */
	__u64 seen[2];		/* all bytes */
	__u64 sock;		/* struct sock *, an identity only */
	__u32 site;
	__u8 verdict;
	__u8 client;
	__u8 mid;
	__u8 shown;		/* user space has heard of it */
	__u8 sock_dirty;	/* the ends are known and not yet told */
	__u8 votes;		/* for `sock`, when it was told by neighbouring calls */
	__u8 pad[6];
	struct heron_addr addr;
	__u32 h2_left[2];	/* bytes of the frame under way, by direction */
	__u8 h2[2];		/* enum heron_h2 */
	__u8 h2_out[2];		/* the frame under way is left out */
	__u8 h2_have[2];	/* bytes of h2_head */
	__u8 pad2[2];
	__u8 h2_head[2][16];	/* a frame's head that came in pieces; nine bytes are used */
};

/* Whether the frames of one direction of an HTTP/2 connection are followed. */
enum heron_h2 {
	HERON_H2_UNKNOWN = 0,
	HERON_H2_FOLLOWED = 1,
	HERON_H2_LOST = 2,
};

/* An HTTP/2 exchange that is no LLM call: user space says so. */
struct heron_h2_key {
	__u64 stream;
	__u64 born;
	__u32 tgid;
	__u32 id;
};

_Static_assert(sizeof(struct heron_hdr) == 32, "hdr");
_Static_assert(sizeof(struct heron_data) == 72, "data");
_Static_assert(sizeof(struct heron_addr) == 40, "addr");
_Static_assert(sizeof(struct heron_sock) == 208, "sock");
_Static_assert(sizeof(struct heron_close) == 64, "close");
_Static_assert(sizeof(struct heron_proc) == 80 + HERON_NAME_MAX + HERON_ARGS_MAX, "proc");
_Static_assert(HERON_PROC_SHORT == 80, "proc short");
_Static_assert(sizeof(struct heron_stream_key) == 16, "stream key");
_Static_assert(sizeof(struct heron_stream) == 160, "stream");
_Static_assert(sizeof(struct heron_h2_key) == 24, "h2 key");

#endif
