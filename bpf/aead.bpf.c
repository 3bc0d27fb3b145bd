/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* rustls has no stable functions of its own; the AEAD below it has. One call is one TLS 1.3 record: the plaintext followed
 * by one byte that names its content type. Only functions that take a whole record in one call are served.
 *
 * A connection has a key for each direction. Its stream is named by a hash of the sealing key (key objects are freed, and
 * others made at their address). A key belongs to the socket that carried its ciphertext: the first eight bytes of a record
 * are compared with what the thread sent after sealing, or received before opening. What is not proven so is left out. */

#define RECORD_HEAD 5
#define RECORD_MOST (16384 + 256)
#define TLS_DATA 0x17

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

SEC("uprobe.multi.s")
int heron_aead_enter(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid(), cookie = bpf_get_attach_cookie(ctx), sp = PT_REGS_SP(ctx);
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
	if (!call->len || call->len > RECORD_MOST)
		return 0;
	if (!hash_key(pick(&args, cookie, HERON_COOKIE_STREAM), &call->key)) {
		count(HERON_C_READ_FAULT, 1);
		call->key = 0;
		return 0;
	}
	if ((cookie & 0xff) == HERON_ROLE_SEAL)
		seal_enter(th, call, id >> 32);
	else
		open_enter(th, call, id >> 32);
	return 0;
}

SEC("uretprobe.multi.s")
int heron_aead_leave(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid(), sp = PT_REGS_SP(ctx);
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
