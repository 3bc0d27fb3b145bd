/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* TLS libraries, where a process holds its plaintext. One pair of programs serves every library: a site's cookie says
 * what the function does and where its arguments are. Bytes are taken at return, with the count that really moved. */

struct arguments {
	__u64 a[8];
};

static __always_inline void read_arguments(struct pt_regs *ctx, struct arguments *args)
{
	args->a[0] = 0;
	args->a[1] = PT_REGS_PARM1(ctx);
	args->a[2] = PT_REGS_PARM2(ctx);
	args->a[3] = PT_REGS_PARM3(ctx);
	args->a[4] = PT_REGS_PARM4(ctx);
	args->a[5] = PT_REGS_PARM5(ctx);
	args->a[6] = PT_REGS_PARM6(ctx);
	args->a[7] = 0;
}

static __always_inline __u64 pick(struct arguments *args, __u64 cookie, __u32 shift)
{
	return args->a[(cookie >> shift) & 7];
}

static __always_inline void hit(__u64 cookie)
{
	__u32 site = cookie >> HERON_COOKIE_SITE;
	__u64 *slot = bpf_map_lookup_elem(&site_hits, &site);

	if (slot)
		__sync_fetch_and_add(slot, 1);
}

/* Pushes a frame. Frames at or below the stack pointer belong to calls that are over (a return that was not seen). */
static __always_inline void push_frame(struct thread *th, struct frame *f)
{
	__u32 depth = th->depth;

	for (int i = 0; i < HERON_FRAMES; i++) {
		if (depth == 0 || depth > HERON_FRAMES)
			break;
		if (th->frames[(depth - 1) & (HERON_FRAMES - 1)].sp > f->sp)
			break;
		depth--;
	}
	if (depth >= HERON_FRAMES) {
		count(HERON_C_DEPTH, 1);
		depth = 0;
	}
	/* A form of a function built on another form of it: the outer one counts. */
	if (depth > 0) {
		struct frame *outer = &th->frames[(depth - 1) & (HERON_FRAMES - 1)];

		if (outer->stream == f->stream && (outer->cookie & 0xff) == (f->cookie & 0xff)) {
			th->depth = depth;
			return;
		}
	}
	th->frames[depth & (HERON_FRAMES - 1)] = *f;
	th->depth = depth + 1;
	if (depth == 0)
		th->sock = 0;
}

/* Takes the frame of the function that returned with the stack pointer at `sp`: the outermost one below it. */
static __always_inline bool pop_frame(struct thread *th, __u64 sp, struct frame *f)
{
	__u32 depth = th->depth;

	for (__u32 i = 0; i < HERON_FRAMES; i++) {
		if (i >= depth)
			break;
		if (th->frames[i].sp < sp) {
			*f = th->frames[i];
			th->depth = i;
			return true;
		}
	}
	return false;
}

/* The TLS call that follows a receive on the same thread works on what was received. The first vote is believed, and given
 * up when the majority says otherwise. What was read inside a TLS call stands above any vote. */
static __always_inline void vote(struct thread *th, struct heron_stream_key *key, __u32 site)
{
	__u64 sock = th->recv_sock;
	struct heron_stream *st;

	if (!sock)
		return;
	th->recv_sock = 0;
	st = stream_of(key, site, true);
	if (!st || (st->sock && st->addr.confidence == HERON_CONFIDENCE_CERTAIN))
		return;
	count(HERON_C_VOTES, 1);
	if (st->sock == sock) {
		if (st->votes < 8)
			st->votes++;
		return;
	}
	if (st->votes) {
		st->votes--;
		return;
	}
	st->sock = sock;
	st->votes = 1;
	__builtin_memcpy(&st->addr, &th->recv_addr, sizeof(st->addr));
	st->sock_dirty = 1;
}

static __always_inline int tls_enter(struct pt_regs *ctx)
{
	__u64 id = current_id(), cookie = bpf_get_attach_cookie(ctx);
	struct heron_stream_key key = {};
	struct arguments args;
	struct thread *th;
	struct frame f;

	if (!watched(id >> 32))
		return 0;
	hit(cookie);
	read_arguments(ctx, &args);
	f.sp = PT_REGS_SP(ctx);
	f.stream = pick(&args, cookie, HERON_COOKIE_STREAM);
	f.buf = pick(&args, cookie, HERON_COOKIE_BUF);
	f.len = pick(&args, cookie, HERON_COOKIE_LEN);
	f.out = pick(&args, cookie, HERON_COOKIE_OUT);
	f.cookie = cookie;
	key.stream = f.stream;
	key.tgid = id >> 32;
	if ((cookie & 0xff) == HERON_ROLE_FREE) {
		close_stream(&key);
		return 0;
	}
	th = thread_of(id, true);
	if ((cookie & 0xff) == HERON_ROLE_HANDSHAKE) {
		stream_of(&key, cookie >> HERON_COOKIE_SITE, false); /* met at its beginning */
		if (th)
			vote(th, &key, cookie >> HERON_COOKIE_SITE);
		return 0;
	}
	if (!th)
		return 0;
	if ((cookie & 0xff) == HERON_ROLE_READ)
		vote(th, &key, cookie >> HERON_COOKIE_SITE);
	push_frame(th, &f);
	return 0;
}

/* How many bytes the call moved; 0 for none. */
static __always_inline __u64 moved(const bool sleepable, struct frame *f, __u64 ret)
{
	__u32 how = (f->cookie >> HERON_COOKIE_COUNT) & 0xf;
	__u64 n = 0;

	switch (how) {
	case HERON_COUNT_RETURN:
		return (__s32)ret > 0 ? (__u32)ret : 0;
	case HERON_COUNT_OUT:
	case HERON_COUNT_OUT_ANY:
		if ((__s32)ret <= 0 || (how == HERON_COUNT_OUT && (__s32)ret != 1))
			return 0;
		if (read_user(sleepable, &n, sizeof(n), f->out)) {
			count(HERON_C_READ_FAULT, 1);
			return 0;
		}
		return n <= f->len ? n : 0;
	case HERON_COUNT_LEN:
		return f->len;
	}
	return 0;
}

static __always_inline int tls_leave(const bool sleepable, struct pt_regs *ctx)
{
	__u64 id = current_id(), n;
	struct heron_stream_key key = {};
	struct thread *th;
	struct frame f;
	__u32 role;

	if (!watched(id >> 32))
		return 0;
	th = thread_of(id, false);
	if (!th)
		return 0;
	if (!pop_frame(th, PT_REGS_SP(ctx), &f))
		return 0;
	role = f.cookie & 0xff;
	key.stream = f.stream;
	key.tgid = id >> 32;
	n = moved(sleepable, &f, PT_REGS_RC(ctx));
	if (!n) {
		count(HERON_C_CALL_FAILED, 1);
		return 0;
	}
	stream_bytes(sleepable, th, &key, role == HERON_ROLE_WRITE ? HERON_SENT : HERON_RECEIVED, f.buf, n,
		     f.cookie >> HERON_COOKIE_SITE);
	return 0;
}

SEC("uprobe.multi.s")
int heron_enter(struct pt_regs *ctx)
{
	return tls_enter(ctx);
}

SEC("uretprobe.multi.s")
int heron_leave(struct pt_regs *ctx)
{
	return tls_leave(true, ctx);
}
