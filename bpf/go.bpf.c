/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Go's crypto/tls. A return probe would kill a Go program, whose stacks move: the return instructions are probed instead.
 * Calls are kept by goroutine. The entry may be hit twice for one call, when the stack had to grow first. */

struct go_regs {
	__u64 g;
	__u64 sp;
	__u64 a;
	__u64 b;
	__u64 c;
};

/* All at once and at fixed offsets: the verifier takes no computed ones into the context. */
static __always_inline void go_regs_of(struct pt_regs *ctx, struct go_regs *r)
{
	r->sp = PT_REGS_SP(ctx);
#if defined(__TARGET_ARCH_x86)
	r->g = ctx->r14;
	r->a = ctx->ax;
	r->b = ctx->bx;
	r->c = ctx->cx;
#else
	r->g = ctx->regs[28];
	r->a = ctx->regs[0];
	r->b = ctx->regs[1];
	r->c = ctx->regs[2];
#endif
	barrier_var(r->g);
	barrier_var(r->sp);
	barrier_var(r->a);
	barrier_var(r->b);
	barrier_var(r->c);
}

static __always_inline void go_key_of(struct go_regs *r, __u64 cookie, struct go_key *key)
{
	key->tgid = current_id() >> 32;
	key->pad = 0;
	/* The old convention has no register for it; there the stack pointer tells, which is the same at entry and return. */
	key->g = cookie & HERON_COOKIE_GO_STACK ? r->sp : r->g;
}

SEC("uprobe.multi.s")
int heron_go_enter(struct pt_regs *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx), stack[3];
	struct heron_stream_key stream = {};
	struct go_call call = {};
	struct heron_watch *w;
	struct go_regs regs;
	struct go_key key;

	w = watched(current_id() >> 32);
	if (!w)
		return 0;
	w->flags |= HERON_WATCH_GO;
	hit(cookie);
	go_regs_of(ctx, &regs);
	go_key_of(&regs, cookie, &key);
	if (cookie & HERON_COOKIE_GO_STACK) {
		if (bpf_probe_read_user(stack, sizeof(stack), (const void *)(regs.sp + 8))) {
			count(HERON_C_READ_FAULT, 1);
			return 0;
		}
		call.stream = stack[0];
		call.buf = stack[1];
		call.len = stack[2];
	} else {
		call.stream = regs.a;
		call.buf = regs.b;
		call.len = regs.c;
	}
	call.cookie = cookie;
	if ((cookie & 0xff) == HERON_ROLE_FREE) {
		stream.stream = call.stream;
		stream.tgid = key.tgid;
		close_stream(&stream);
		return 0;
	}
	if (bpf_map_update_elem(&go_calls, &key, &call, BPF_ANY))
		count(HERON_C_MAP_FULL, 1);
	return 0;
}

SEC("uprobe.multi.s")
int heron_go_leave(struct pt_regs *ctx)
{
	__u64 id = current_id(), cookie = bpf_get_attach_cookie(ctx), n = 0;
	struct heron_stream_key stream = {};
	struct go_call *found, call;
	struct go_regs regs;
	struct thread *th;
	struct go_key key;

	if (!watched(id >> 32))
		return 0;
	go_regs_of(ctx, &regs);
	go_key_of(&regs, cookie, &key);
	found = bpf_map_lookup_elem(&go_calls, &key);
	if (!found)
		return 0;
	call = *found;
	bpf_map_delete_elem(&go_calls, &key);
	if (cookie & HERON_COOKIE_GO_STACK) {
		if (bpf_probe_read_user(&n, sizeof(n), (const void *)(regs.sp + 40)))
			n = 0;
	} else {
		n = regs.a;
	}
	if ((__s64)n <= 0 || n > call.len) {
		count(HERON_C_CALL_FAILED, 1);
		return 0;
	}
	th = thread_of(id, true);
	if (!th)
		return 0;
	th->sock = call.sock;
	th->addr = call.addr;
	stream.stream = call.stream;
	stream.tgid = id >> 32;
	stream_bytes(true, th, &stream, (call.cookie & 0xff) == HERON_ROLE_WRITE ? HERON_SENT : HERON_RECEIVED, call.buf, n,
		     call.cookie >> HERON_COOKIE_SITE);
	th->sock = 0;
	return 0;
}
