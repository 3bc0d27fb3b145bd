/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The verdict on a stream, from the first bytes of each request. No vendor is named here: the path rules are data. */
#ifndef HERON_FILTER_H
#define HERON_FILTER_H

/* The first eight bytes of a head as one little-endian number, masked to the method and its space. */
#define M8(a, b, c, d, e, f, g, h)                                                                                     \
	((__u64)(__u8)(a) | (__u64)(__u8)(b) << 8 | (__u64)(__u8)(c) << 16 | (__u64)(__u8)(d) << 24 |                   \
	 (__u64)(__u8)(e) << 32 | (__u64)(__u8)(f) << 40 | (__u64)(__u8)(g) << 48 | (__u64)(__u8)(h) << 56)

#define PREFACE M8('P', 'R', 'I', ' ', '*', ' ', 'H', 'T')

/* Whether a head begins with a method and its space. */
static __always_inline bool is_method(__u64 first)
{
	__u64 m4 = first & 0xffffffffull, m5 = first & 0xffffffffffull, m6 = first & 0xffffffffffffull,
	      m7 = first & 0xffffffffffffffull;

	return m4 == M8('G', 'E', 'T', ' ', 0, 0, 0, 0) || m4 == M8('P', 'U', 'T', ' ', 0, 0, 0, 0) ||
	       m5 == M8('P', 'O', 'S', 'T', ' ', 0, 0, 0) || m5 == M8('H', 'E', 'A', 'D', ' ', 0, 0, 0) ||
	       m6 == M8('P', 'A', 'T', 'C', 'H', ' ', 0, 0) || m6 == M8('T', 'R', 'A', 'C', 'E', ' ', 0, 0) ||
	       m7 == M8('D', 'E', 'L', 'E', 'T', 'E', ' ', 0) || first == M8('O', 'P', 'T', 'I', 'O', 'N', 'S', ' ') ||
	       first == M8('C', 'O', 'N', 'N', 'E', 'C', 'T', ' ');
}

/* Whether nine bytes can be the head of an HTTP/2 frame. Strict: text and TLS-like data must not look like one. */
static __always_inline bool h2_frame(const char *head)
{
	const __u8 *b = (const __u8 *)head;
	__u32 len = (__u32)b[0] << 16 | (__u32)b[1] << 8 | b[2];
	__u8 type = b[3], flags = b[4];
	__u32 id = (__u32)b[5] << 24 | (__u32)b[6] << 16 | (__u32)b[7] << 8 | b[8];

	if (len > 1 << 18 || id >> 31)
		return false;
	switch (type) {
	case 0: /* DATA */
		return id && !(flags & ~0x09);
	case 1: /* HEADERS */
		return id && len && !(flags & ~0x2d);
	case 3: /* RST_STREAM */
		return id && len == 4 && !flags;
	case 4: /* SETTINGS */
		return !id && !(flags & ~1) && len % 6 == 0 && len < 200;
	case 6: /* PING */
		return !id && len == 8 && !(flags & ~1);
	case 7: /* GOAWAY */
		return !id && len >= 8 && !flags;
	case 8: /* WINDOW_UPDATE */
		return len == 4 && !flags;
	}
	return false;
}

struct split_loop {
	struct thread *th;
};

/* One byte of the head. The state lives in the thread's map value: the verifier looks at one turn, and not at all of them. */
static long split_byte(__u32 i, struct split_loop *loop)
{
	struct thread *th = loop->th;
	struct target *t = &th->target;
	char c;

	if (i >= HERON_HEAD_MAX || i >= t->len)
		return 1;
	c = th->head[i];
	if (c == ' ' || c == '\r' || c == '\n') {
		if (t->one) {
			t->space = i;
			return 1;
		}
		/* After the method. */
		t->one = i + 1;
		t->two = i + 1;
	} else if (t->end || !t->one) {
		return 0;
	} else if (c == '?' || c == '#') {
		t->end = i;
	} else if (c == '/') {
		t->two = t->one;
		t->one = i + 1;
		t->colon = 0;
	} else if (c == ':') {
		t->colon = i;
	}
	return 0;
}

static __noinline bool rule_hit(struct thread *th, __u32 from)
{
	__u32 end;
	__u64 len;

	if (!th)
		return false;
	end = th->target.end;
	len = end - from;

	if (from >= end || len >= HERON_TAIL_MAX)
		return false;
	__builtin_memset(&th->tail, 0, sizeof(th->tail));
	barrier_var(len);
	if (len >= HERON_TAIL_MAX)
		return false;
	barrier_var(from);
	if (from >= HERON_HEAD_MAX)
		return false;
	if (bpf_probe_read_kernel(&th->tail, len, th->head + from))
		return false;
	return bpf_map_lookup_elem(&path_rules, &th->tail) != 0;
}

/* Judges the request head of `target.len` bytes in `th->head`. Returns a verdict, or NONE when it is no request head after
 * all. */
static __noinline int judge_target(struct thread *th)
{
	struct split_loop loop = { .th = th };
	struct target *t;
	__u32 at, len;

	if (!th)
		return HERON_VERDICT_NONE;
	t = &th->target;
	t->one = 0;
	t->two = 0;
	t->colon = 0;
	t->end = 0;
	t->space = 0;
	bpf_loop(HERON_HEAD_MAX, split_byte, &loop, 0);
	at = t->space;
	len = t->len;
	if (!t->end)
		t->end = at ? at : len;
	if (at) {
		at++;
		/* A body that happens to begin with a method's name has no protocol version there. */
		if (at + 5 <= len && at < HERON_HEAD_MAX &&
		    !(th->head[at] == 'H' && th->head[at + 1] == 'T' && th->head[at + 2] == 'T' && th->head[at + 3] == 'P' &&
		      th->head[at + 4] == '/'))
			return HERON_VERDICT_NONE;
	} else if (len == HERON_HEAD_MAX) {
		count(HERON_C_PATH_TOO_LONG, 1);
	}
	count(HERON_C_HEADS, 1);
	if (rule_hit(th, t->two) || rule_hit(th, t->one) || (t->colon && rule_hit(th, t->colon))) {
		count(HERON_C_HEADS_PASSED, 1);
		return HERON_VERDICT_PASS;
	}
	return HERON_VERDICT_DROP;
}

#endif
