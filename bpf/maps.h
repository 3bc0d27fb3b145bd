/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
#ifndef HERON_MAPS_H
#define HERON_MAPS_H

/* Configuration, written once before the load (read-only afterwards, so that the verifier drops what is switched off). */
const volatile __u32 heron_exact_records;	/* kernel has ring dynptrs and a copy into them */
const volatile __u32 heron_sleepable;		/* the uprobes may fault pages in */
const volatile __u32 heron_wake_bytes = 1 << 20;	/* wake the reader when this much waits */
const volatile __u32 heron_chunk_bytes = HERON_CHUNK_MAX; /* payload of one exact-size record */
const volatile __u32 heron_filter = 1;		/* 0: everything of a watched process passes (tests, `--no-filter`) */
const volatile __u32 heron_strict;
const volatile __u32 heron_pidns;	/* inode of heron's pid namespace; 0 for the initial one */
const volatile __u32 heron_host;	/* tell of every program that is started, watched or not */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} data_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} proc_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HERON_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HERON_SITES);
	__type(key, __u32);
	__type(value, __u64);
} site_hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, struct heron_watch);
} watch SEC(".maps");

/* Who uses a socket that has a stream: it may be closed in another context. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u32);
} sock_owners SEC(".maps");

struct heron_tail {
	char text[HERON_TAIL_MAX];
};

/* Path rules; filled from the wire registry. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct heron_tail);
	__type(value, __u8);
} path_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct heron_stream_key);
	__type(value, struct heron_stream);
} streams SEC(".maps");

/* HTTP/2 exchanges judged to be no LLM calls; written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct heron_h2_key);
	__type(value, __u8);
} h2_out SEC(".maps");

/* A TLS call under way. */
struct frame {
	__u64 sp;	/* at entry: frames at or below a later stack pointer are over */
	__u64 stream;
	__u64 buf;
	__u64 len;
	__u64 out;
	__u64 cookie;
};

/* An AEAD call under way. */
struct aead_call {
	__u64 sp;
	__u64 key;	/* hash, 0 for none */
	__u64 buf;
	__u64 len;
	__u64 other;
	__u64 cookie;
};

#define KEPT_MAX 48

/* A record that one AEAD function began and others end. */
struct aead_record {
	__u64 key;	/* hash, 0 for none */
	__u64 schedule;	/* the expanded key */
	__u64 buf;
	__u64 len;
	__u64 other;
	__u64 cookie;
	__u32 digests;	/* steps of the tag until the record is done */
	__u32 kept_len;
	__u32 end;	/* of what was kept: scratch of the loops over it */
	__u32 pad;
	char kept[KEPT_MAX];	/* the last bytes, which are in no buffer in one piece: zeros follow them */
};

/* A request target, split; offsets into the head. */
struct target {
	__u32 two;	/* start of the last two segments */
	__u32 one;	/* start of the last segment */
	__u32 colon;	/* the last colon of the last segment, 0 for none */
	__u32 end;	/* after the path */
	__u32 space;	/* the space after the whole target, 0 when the head ends before it */
	__u32 len;	/* bytes of the head */
};

/* Bytes on their way to the data ring. */
struct emit {
	struct heron_data data;
	__u64 buf;
	__u64 left;
	__u64 wake;
};

/* Bytes of an HTTP/2 connection, frame by frame. */
struct h2_walk {
	__u64 at;
	__u64 left;
	__u64 run;	/* what passes and is not yet told */
	__u64 run_len;
	struct heron_h2_key key;
};

/* What a thread is doing. `head` is scratch of the thread, not of the CPU: a sleepable program may be followed on its CPU
 * by the same program for another thread. */
struct thread {
	__u32 depth;
	__u32 pad;
	struct frame frames[HERON_FRAMES];
	__u64 sock;		/* the socket of the socket call made inside the TLS call under way */
	struct heron_addr addr;
	__u64 recv_sock;	/* the TLS socket that this thread received from last, until a TLS read took note */
	struct heron_addr recv_addr;
	__u64 left;		/* of a socket call's bytes */
	struct aead_call aead;
	struct aead_record record;
	__u64 sealed_key;	/* a sealing key whose socket is not known yet, 0 for none */
	__u64 sealed;		/* the first ciphertext under it */
	__u64 received_sock;	/* the socket of `received`, 0 for none */
	__u64 received;		/* the first ciphertext of the data record that was received last */
	struct emit emit;
	struct h2_walk walk;
	struct target target;
	struct heron_tail tail;
	char head[HERON_HEAD_MAX + HERON_TAIL_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct thread);
} threads SEC(".maps");

/* A Go call under way, by goroutine: it may begin on one thread and end on another. */
struct go_key {
	__u64 g;
	__u32 tgid;
	__u32 pad;
};

struct go_call {
	__u64 stream;
	__u64 buf;
	__u64 len;
	__u64 cookie;
	__u64 sock;
	struct heron_addr addr;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct go_key);
	__type(value, struct go_call);
} go_calls SEC(".maps");

/* Proven sockets of AEAD keys: of an opening key, and the sealing key of a socket (the stream). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct heron_stream_key);
	__type(value, __u64);
} aead_opens SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct heron_stream_key);
} aead_seals SEC(".maps");

/* One zeroed value: too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct thread);
} thread_zero SEC(".maps");

static __always_inline void count(__u32 counter, __u64 by)
{
	__u64 *slot = bpf_map_lookup_elem(&counters, &counter);

	/* Atomic although per CPU: a sleepable program can be preempted in the middle. */
	if (slot)
		__sync_fetch_and_add(slot, by);
}

#endif
