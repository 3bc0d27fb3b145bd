/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* rustls has no stable functions of its own; the AEAD below it has. One TLS 1.3 record is the plaintext followed by one
 * byte that names its content type, and is the work of one call, or of several:
 *
 * - AVX-512 (aws-lc) and ChaCha20-Poly1305 take a whole record;
 * - `aesni_gcm_*` are told the whole record and leave the rest of it to others: what was sealed is read at entry, what was
 *   opened when the tag is computed, which comes last (HERON_ROLE_COUNTER in ring, HERON_ROLE_DIGEST in aws-lc and older ring);
 * - `aes_gcm_*_update_vaes_avx2` (ring) are told the whole blocks only; the rest goes through the counter function in a block
 *   of its own, padded with zeros.
 *
 * A connection has a key for each direction. Its stream is named by a hash of the sealing key (key objects are freed, and
 * others made at their address). A key belongs to the socket that carried its ciphertext: the first eight bytes of a record
 * are compared with what the thread sent after sealing, or received before opening. What is not proven so is left out. */

#define RECORD_HEAD 5
#define RECORD_MOST (16384 + 256)
#define TLS_ALERT 0x15
#define TLS_HANDSHAKE 0x16
#define TLS_DATA 0x17
#define TLS_FINISHED 20

static __always_inline bool hash_key(__u64 at, __u64 *hash)
{
	__u64 words[4], h = 0xcbf29ce484222325ull;

	if (bpf_copy_from_user(words, sizeof(words), (const void *)at))
		return false;
	for (int i = 0; i < 4; i++) {
		h = (h ^ words[i]) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 29;
	}
	__builtin_memset(words, 0, sizeof(words));
	barrier_var(h);
	*hash = h;
	return true;
}

/* The length of the application data in a record's plaintext; 0 when it is something else. */
static __always_inline __u64 data_len(__u64 buf, __u64 len)
{
	__u8 type = 0;

	if (bpf_copy_from_user(&type, 1, (const void *)(buf + len - 1))) {
		count(HERON_C_READ_FAULT, 1);
		return 0;
	}
	if (type != TLS_DATA) {
		count(HERON_C_AEAD_OTHER, 1); /* handshake, alert, a padded record, or TLS 1.2 */
		return 0;
	}
	return len - 1;
}

/* Sealing works in place: what goes out is read here, before it is gone. */
static __always_inline void seal_enter(struct thread *th, struct aead_call *call, __u32 tgid)
{
	struct heron_stream_key key = { .stream = call->key, .tgid = tgid };
	__u64 n = data_len(call->buf, call->len);

	if (!n) {
		call->key = 0;
		return;
	}
	th->sock = 0;
	stream_bytes(true, th, &key, HERON_SENT, call->buf, n, call->cookie >> HERON_COOKIE_SITE);
}

/* The ciphertext is there: the send that follows shows which socket it is for. */
static __always_inline void seal_leave(struct thread *th, struct aead_call *call, __u32 tgid)
{
	struct heron_stream_key key = { .stream = call->key, .tgid = tgid };
	struct heron_stream *st = bpf_map_lookup_elem(&streams, &key);

	if (!st || st->sock || call->len < 8 || th->sealed_key == call->key)
		return;
	if (bpf_copy_from_user(&th->sealed, 8, (const void *)call->other))
		return;
	th->sealed_key = call->key;
}

static __always_inline void open_enter(struct thread *th, struct aead_call *call, __u32 tgid)
{
	struct heron_stream_key key = { .stream = call->key, .tgid = tgid };
	__u64 first;

	if (!th->received_sock || call->len < 8 || bpf_map_lookup_elem(&aead_opens, &key))
		return;
	if (bpf_copy_from_user(&first, 8, (const void *)call->other) || first != th->received)
		return;
	bpf_map_update_elem(&aead_opens, &key, &th->received_sock, BPF_ANY);
	th->received_sock = 0;
}

static __always_inline void open_leave(struct thread *th, struct aead_call *call, __u32 tgid)
{
	struct heron_stream_key key = { .stream = call->key, .tgid = tgid }, *seal = 0, stream;
	__u64 n = data_len(call->buf, call->len), *sock;

	if (!n)
		return;
	sock = bpf_map_lookup_elem(&aead_opens, &key);
	if (sock)
		seal = bpf_map_lookup_elem(&aead_seals, sock);
	if (!seal || seal->tgid != tgid) {
		count(HERON_C_SEEN_BYTES, n);
		count(HERON_C_MISSED_BYTES, n);
		count(HERON_C_AEAD_UNPAIRED, 1);
		return;
	}
	stream = *seal;
	if (!bpf_map_lookup_elem(&streams, &stream))
		return;
	th->sock = 0;
	stream_bytes(true, th, &stream, HERON_RECEIVED, call->buf, n, call->cookie >> HERON_COOKIE_SITE);
}

static __always_inline __u32 counting(__u64 cookie)
{
	return (cookie >> HERON_COOKIE_COUNT) & 0xf;
}

/* Loops over what was kept keep their state in the thread's map value: the verifier looks at one turn, and not at all. */
struct kept_loop {
	struct thread *th;
};

static long last_of_kept(__u32 i, struct kept_loop *loop)
{
	if (i >= KEPT_MAX)
		return 1;
	if (loop->th->record.kept[i])
		loop->th->record.end = i + 1;
	return 0;
}

/* How much was kept, without the zeros at its end. */
static __always_inline __u32 kept_end(struct thread *th)
{
	struct kept_loop loop = { .th = th };

	th->record.end = 0;
	bpf_loop(KEPT_MAX, last_of_kept, &loop, 0);
	return th->record.end;
}

static long first_type(__u32 i, struct kept_loop *loop)
{
	struct aead_record *r = &loop->th->record;

	if (i >= 16)
		return 1;
	if (i + 1 < r->end || r->kept[i] != TLS_DATA)
		return 0;
	r->end = i + 1;
	return 1;
}

/* Where the plaintext of a last block ends, whose ciphertext was followed by zeros from `end` on. A ciphertext may end with
 * zeros of its own: then the type comes later. */
static __always_inline __u32 typed_end(struct thread *th, __u32 end)
{
	struct kept_loop loop = { .th = th };
	__u32 last = end - 1;

	if (last > 15)
		return 0;
	barrier_var(last);
	if (last > 15 || th->record.kept[last] == TLS_ALERT || th->record.kept[last] == TLS_HANDSHAKE)
		return end;
	th->record.end = end;
	bpf_loop(16, first_type, &loop, 0);
	return th->record.end;
}

static long clear_kept(__u32 i, struct kept_loop *loop)
{
	if (i >= KEPT_MAX)
		return 1;
	if (i >= loop->th->record.end)
		loop->th->record.kept[i] = 0;
	return 0;
}

/* What a record ended with, when it is application data: all that was kept but for the type. */
static __always_inline void tell_kept(struct thread *th, struct heron_stream_key *key, __u32 direction, __u64 cookie)
{
	__u32 last = kept_end(th) - 1;

	barrier_var(last);
	if (last >= KEPT_MAX)
		return;
	if (th->record.kept[last] != TLS_DATA) {
		count(HERON_C_AEAD_OTHER, 1);
		return;
	}
	th->sock = 0;
	stream_kept(th, key, direction, last, cookie >> HERON_COOKIE_SITE);
}

/* The whole blocks of a record that is about to be sealed. Their last byte may be the type: it is kept until the rest is
 * known. The handshake's only message of more than a block is left out by its form. */
static __always_inline void seal_blocks(struct thread *th, struct aead_record *r, __u32 tgid)
{
	struct heron_stream_key key = { .stream = r->key, .tgid = tgid };
	__u8 head[4];

	if (r->len < 16 || bpf_copy_from_user(head, sizeof(head), (const void *)r->buf) ||
	    bpf_copy_from_user(r->kept, 1, (const void *)(r->buf + r->len - 1))) {
		r->key = 0;
		return;
	}
	r->kept_len = 1;
	if (head[0] == TLS_FINISHED && !head[1] && !head[2] && (head[3] == 32 || head[3] == 48) &&
	    r->len == head[3]) {
		count(HERON_C_AEAD_OTHER, 1);
		r->key = 0;
		return;
	}
	th->sock = 0;
	stream_bytes(true, th, &key, HERON_SENT, r->buf, r->len - 1, r->cookie >> HERON_COOKIE_SITE);
}

/* The length of an opened record of which the whole blocks are known: as its header says, which stands before it in the
 * buffer of the connection; else as the last block's ciphertext has it, that is followed by zeros. */
static __always_inline __u64 opened_len(struct thread *th, struct aead_record *r)
{
	__u64 len = r->len, told;
	__u8 head[RECORD_HEAD];

	if (!bpf_copy_from_user(head, sizeof(head), (const void *)(r->other - RECORD_HEAD)) && head[0] == TLS_DATA &&
	    head[1] == 3 && head[2] == 3) {
		told = ((__u64)head[3] << 8 | head[4]) - 16;
		if (told >= len && told < len + 16)
			return told;
	}
	if (!r->kept_len)
		return len;
	told = kept_end(th);
	if (bpf_copy_from_user(r->kept, 16, (const void *)(r->buf + len)))
		return len;
	return len + typed_end(th, told);
}

/* The record under way is done. */
static __always_inline void end_record(struct thread *th, __u32 tgid)
{
	struct aead_record *r = &th->record;
	struct heron_stream_key key = { .stream = r->key, .tgid = tgid };
	struct aead_call call = {
		.key = r->key, .buf = r->buf, .len = r->len, .other = r->other, .cookie = r->cookie
	};

	r->key = 0;
	if ((call.cookie & 0xff) == HERON_ROLE_SEAL) {
		if (counting(call.cookie) == HERON_COUNT_BLOCKS)
			tell_kept(th, &key, HERON_SENT, call.cookie);
		seal_leave(th, &call, tgid);
		return;
	}
	if (counting(call.cookie) == HERON_COUNT_BLOCKS)
		call.len = opened_len(th, r);
	open_leave(th, &call, tgid);
}

/* A function begins a record that others end. */
static __always_inline void begin_record(struct thread *th, struct aead_call *call, struct arguments *args, __u32 tgid)
{
	struct aead_record *r = &th->record;
	__u64 lengths[2];

	r->key = call->key;
	r->schedule = args->a[4];
	r->buf = call->buf;
	r->len = call->len;
	r->other = call->other;
	r->cookie = call->cookie;
	r->kept_len = 0;
	__builtin_memset(r->kept, 0, KEPT_MAX);
	/* ring computes one more step of the tag before it opens what is left of a block. aws-lc does not; its counter is
	 * part of a structure that holds the lengths. */
	r->digests = call->len & 15 ? 2 : 1;
	if (!bpf_copy_from_user(lengths, sizeof(lengths), (const void *)(args->a[5] + 48)) && lengths[0] <= 13 &&
	    lengths[1] == call->len)
		r->digests = 1;
	if ((call->cookie & 0xff) == HERON_ROLE_OPEN) {
		open_enter(th, call, tgid);
	} else if (counting(call->cookie) == HERON_COUNT_BLOCKS) {
		seal_blocks(th, r, tgid);
	} else {
		seal_enter(th, call, tgid);
		r->key = call->key;
	}
	call->key = 0;
}

SEC("uprobe.multi.s")
int heron_aead_enter(struct pt_regs *ctx)
{
	__u64 id = current_id(), cookie = bpf_get_attach_cookie(ctx), sp = PT_REGS_SP(ctx);
	struct arguments args;
	struct aead_call *call;
	struct thread *th;

	/* Once: the verifier takes no computed offset into the context. */
	barrier_var(sp);
	if (!watched(id >> 32))
		return 0;
	hit(cookie);
	th = thread_of(id, true);
	if (!th || th->depth) /* inside another library's call: that one is hooked */
		return 0;
	call = &th->aead;
	read_arguments(ctx, &args);
	/* One variant that jumps into another is one call. */
	if (call->key && call->sp == sp && call->buf == pick(&args, cookie, HERON_COOKIE_BUF))
		return 0;
	call->sp = sp;
	call->buf = pick(&args, cookie, HERON_COOKIE_BUF);
	call->len = pick(&args, cookie, HERON_COOKIE_LEN);
	call->other = pick(&args, cookie, HERON_COOKIE_OUT);
	call->cookie = cookie;
	call->key = 0;
	th->record.key = 0;
	if (!call->len || call->len > RECORD_MOST)
		return 0;
	if (!hash_key(pick(&args, cookie, HERON_COOKIE_STREAM), &call->key)) {
		count(HERON_C_READ_FAULT, 1);
		call->key = 0;
		return 0;
	}
	if (counting(cookie) >= HERON_COUNT_BEGUN)
		begin_record(th, call, &args, id >> 32);
	else if ((cookie & 0xff) == HERON_ROLE_SEAL)
		seal_enter(th, call, id >> 32);
	else
		open_enter(th, call, id >> 32);
	return 0;
}

SEC("uretprobe.multi.s")
int heron_aead_leave(struct pt_regs *ctx)
{
	__u64 id = current_id(), sp = PT_REGS_SP(ctx);
	struct aead_call *call;
	struct thread *th;

	barrier_var(sp);
	if (!watched(id >> 32))
		return 0;
	th = thread_of(id, false);
	if (!th || !th->aead.key)
		return 0;
	call = &th->aead;
	if (call->sp >= sp) {
		count(HERON_C_UNMATCHED_RETURN, 1);
	} else if ((call->cookie & 0xff) == HERON_ROLE_SEAL) {
		seal_leave(th, call, id >> 32);
	} else {
		open_leave(th, call, id >> 32);
	}
	call->key = 0;
	return 0;
}

/* ring's counter function, `f(in, out, blocks, key, counter)`: a block that is part of the record under way, the tag at its
 * end (block 1), or a record of less than a block (block 2, and nothing before it). */
static __always_inline void counter_block(struct thread *th, struct arguments *args, __u64 cookie, __u64 sp, __u32 tgid)
{
	struct aead_record *r = &th->record;
	struct heron_stream_key key = { .tgid = tgid };
	__u32 nonce[4], block, at = r->kept_len;

	if (r->key && r->schedule != args->a[4])
		r->key = 0; /* it never came to its end */
	if (bpf_copy_from_user(nonce, sizeof(nonce), (const void *)args->a[5]))
		return;
	block = __builtin_bswap32(nonce[3]);
	if (r->key) {
		if (block == 1) {
			end_record(th, tgid);
		} else if (args->a[3] == 1 && at <= 1) {
			if (bpf_copy_from_user(r->kept + at, 16, (const void *)args->a[1]))
				r->key = 0;
			r->kept_len = at + 16;
		}
		return;
	}
	if (block != 2 || args->a[3] != 1 || !hash_key(args->a[4], &key.stream))
		return;
	__builtin_memset(r->kept, 0, KEPT_MAX);
	if (bpf_copy_from_user(r->kept, 16, (const void *)args->a[1]))
		return;
	if (bpf_map_lookup_elem(&streams, &key)) {
		tell_kept(th, &key, HERON_SENT, cookie);
	} else if (bpf_map_lookup_elem(&aead_opens, &key)) {
		th->aead.key = key.stream;
		th->aead.sp = sp;
		th->aead.buf = args->a[2];
		th->aead.cookie = cookie;
	}
}

SEC("uprobe.multi.s")
int heron_aead_step(struct pt_regs *ctx)
{
	__u64 id = current_id(), cookie = bpf_get_attach_cookie(ctx), sp = PT_REGS_SP(ctx);
	struct arguments args;
	struct thread *th;

	barrier_var(sp);
	if (!watched(id >> 32))
		return 0;
	hit(cookie);
	th = thread_of(id, true);
	if (!th || th->depth)
		return 0;
	th->aead.key = 0;
	read_arguments(ctx, &args);
	if ((cookie & 0xff) == HERON_ROLE_COUNTER) {
		counter_block(th, &args, cookie, sp, id >> 32);
	} else if (th->record.key && counting(th->record.cookie) == HERON_COUNT_BEGUN && th->record.digests) {
		th->record.digests--;
		if (!th->record.digests)
			end_record(th, id >> 32);
	}
	return 0;
}

/* A record of less than a block was opened. What came in ended where its zeros begin. */
SEC("uretprobe.multi.s")
int heron_aead_step_leave(struct pt_regs *ctx)
{
	__u64 id = current_id(), sp = PT_REGS_SP(ctx);
	struct heron_stream_key key = { .tgid = id >> 32 }, *stream, found;
	struct thread *th = thread_of(id, false);
	struct kept_loop loop = { .th = th };
	char *kept;
	__u64 *sock;
	__u32 end;

	barrier_var(sp);
	if (!th || !th->aead.key || (th->aead.cookie & 0xff) != HERON_ROLE_COUNTER || th->aead.sp >= sp)
		return 0;
	key.stream = th->aead.key;
	th->aead.key = 0;
	end = kept_end(th);
	kept = th->record.kept;
	if (!end || end > 16 || bpf_copy_from_user(kept, 16, (const void *)th->aead.buf))
		return 0;
	/* What follows is no plaintext. */
	th->record.end = typed_end(th, end);
	bpf_loop(KEPT_MAX, clear_kept, &loop, 0);
	sock = bpf_map_lookup_elem(&aead_opens, &key);
	if (!sock)
		return 0;
	stream = bpf_map_lookup_elem(&aead_seals, sock);
	if (!stream || stream->tgid != key.tgid)
		return 0;
	found = *stream;
	tell_kept(th, &found, HERON_RECEIVED, th->aead.cookie);
	return 0;
}
