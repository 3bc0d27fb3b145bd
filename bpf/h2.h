/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The frames of an HTTP/2 connection. What its requests are, only user space can tell (HPACK); it writes down which
 * exchanges are no LLM calls, and their data frames are left out from then on, whole, so that what passes is a sequence of
 * whole frames. The frame that ends a direction of an exchange passes always, and so does every other kind of frame: a
 * later request of the same connection is seen from its first byte. */
#ifndef HERON_H2_H
#define HERON_H2_H

#define H2_HEAD 9
#define H2_END_STREAM 1
#define H2_LARGEST_TYPE 0x10

struct h2_loop {
	struct thread *th;
	struct heron_stream *st;
	__u32 direction;
	__u32 pad;
};

/* Whether the `n` bytes at `buf` are to be looked at frame by frame. */
static __always_inline bool h2_follows(const bool sleepable, struct heron_stream *st, __u32 direction, __u64 buf, __u64 n)
{
	char head[H2_HEAD];

	direction &= 1;
	if (st->h2[direction] == HERON_H2_UNKNOWN) {
		/* The first bytes of this direction that are looked at: a frame begins here, or nothing is known. */
		if (n >= H2_HEAD && !read_user(sleepable, head, sizeof(head), buf) && h2_frame(head)) {
			st->h2[direction] = HERON_H2_FOLLOWED;
		} else {
			st->h2[direction] = HERON_H2_LOST;
			count(HERON_C_H2_UNFOLLOWED, 1);
		}
	}
	return st->h2[direction] == HERON_H2_FOLLOWED;
}

/* What passed so far becomes what is told next. */
static __always_inline void h2_tell_run(struct thread *th, struct heron_stream *st, __u32 direction)
{
	struct h2_walk *w = &th->walk;
	struct emit *e = &th->emit;

	e->buf = w->run;
	e->left = w->run_len;
	e->data.offset = st->offset[direction];
	/* Before the copy, so that a loss is a hole and not a shift. */
	st->offset[direction] += w->run_len;
	st->shown = 1;
	w->run_len = 0;
}

static __always_inline void h2_pass(struct h2_walk *w, __u64 n)
{
	if (!w->run_len)
		w->run = w->at;
	w->run_len += n;
	w->at += n;
	w->left -= n;
}

/* A direction that cannot be followed any more passes whole. */
static __always_inline void h2_lose(struct h2_walk *w, struct heron_stream *st, __u32 direction)
{
	st->h2[direction] = HERON_H2_LOST;
	count(HERON_C_H2_UNFOLLOWED, 1);
	h2_pass(w, w->left);
}

/* Bytes of the frame under way. */
static __always_inline void h2_body(struct thread *th, struct heron_stream *st, __u32 direction)
{
	struct h2_walk *w = &th->walk;
	__u64 n = st->h2_left[direction];

	if (n > w->left)
		n = w->left;
	if (st->h2_out[direction]) {
		if (w->run_len) {
			h2_tell_run(th, st, direction);
			return;
		}
		count(HERON_C_FILTERED_BYTES, n);
		w->at += n;
		w->left -= n;
	} else {
		h2_pass(w, n);
	}
	st->h2_left[direction] -= n;
}

/* What a frame's head in `head` says; the length of what follows it. */
static __always_inline bool h2_head_of(struct h2_walk *w, const __u8 *head, __u32 *len, bool *out)
{
	__u8 type = head[3];

	*len = (__u32)head[0] << 16 | (__u32)head[1] << 8 | head[2];
	w->key.id = (__u32)head[5] << 24 | (__u32)head[6] << 16 | (__u32)head[7] << 8 | head[8];
	if (type > H2_LARGEST_TYPE || w->key.id >> 31 || *len > 1 << 20)
		return false;
	*out = type == 0 && !(head[4] & H2_END_STREAM) && bpf_map_lookup_elem(&h2_out, &w->key);
	return true;
}

/* A head that comes in pieces: it passed in part, so its frame passes too. */
static __always_inline void h2_piece(const bool sleepable, struct h2_walk *w, struct heron_stream *st, __u32 direction)
{
	__u64 have = st->h2_have[direction], want, len32;
	__u32 len;
	bool out;

	if (have >= H2_HEAD) {
		h2_lose(w, st, direction);
		return;
	}
	want = H2_HEAD - have;
	if (want > w->left)
		want = w->left;
	barrier_var(want);
	barrier_var(have);
	len32 = want;
	if (have > 8 || len32 > 8 || read_user(sleepable, &st->h2_head[direction][have], len32, w->at)) {
		h2_lose(w, st, direction);
		return;
	}
	h2_pass(w, want);
	have += want;
	st->h2_have[direction] = have;
	if (have < H2_HEAD)
		return;
	st->h2_have[direction] = 0;
	if (!h2_head_of(w, st->h2_head[direction], &len, &out)) {
		h2_lose(w, st, direction);
		return;
	}
	st->h2_left[direction] = len;
	st->h2_out[direction] = 0;
}

/* One step; true when everything is told. */
static __always_inline bool h2_step(const bool sleepable, struct thread *th, struct heron_stream *st, __u32 direction)
{
	struct h2_walk *w = &th->walk;
	__u8 head[H2_HEAD];
	__u32 len;
	bool out;

	direction &= 1;
	if (th->emit.left) {
		if (heron_exact_records)
			emit_exact(sleepable, &th->emit);
		else
			emit_class(sleepable, &th->emit);
		return false;
	}
	if (!w->left) {
		if (!w->run_len)
			return true;
		h2_tell_run(th, st, direction);
		return false;
	}
	if (st->h2_left[direction]) {
		h2_body(th, st, direction);
		return false;
	}
	if (st->h2_have[direction] || w->left < H2_HEAD) {
		h2_piece(sleepable, w, st, direction);
		return false;
	}
	if (read_user(sleepable, head, sizeof(head), w->at) || !h2_head_of(w, head, &len, &out)) {
		h2_lose(w, st, direction);
		return false;
	}
	if (out)
		count(HERON_C_H2_OUT, 1);
	st->h2_left[direction] = len + H2_HEAD;
	st->h2_out[direction] = out;
	return false;
}

static long h2_turn_sleepable(__u32 i, struct h2_loop *loop)
{
	return h2_step(true, loop->th, loop->st, loop->direction);
}

static long h2_turn(__u32 i, struct h2_loop *loop)
{
	return h2_step(false, loop->th, loop->st, loop->direction);
}

/* The bytes that `th->emit` is about, but for what is left out. */
static __always_inline void h2_bytes(const bool sleepable, struct thread *th, struct heron_stream *st,
				     struct heron_stream_key *key, __u32 direction)
{
	struct h2_loop loop = { .th = th, .st = st, .direction = direction };
	struct h2_walk *w = &th->walk;
	__u64 most;

	w->at = th->emit.buf;
	w->left = th->emit.left;
	w->run_len = 0;
	w->key.stream = key->stream;
	w->key.born = st->born;
	w->key.tgid = key->tgid;
	th->emit.left = 0;
	/* A frame takes its head and two steps, what is told one for each chunk. */
	most = w->left / 2 + 16;
	if (most > 1 << 23)
		most = 1 << 23;
	if (sleepable)
		bpf_loop(most, h2_turn_sleepable, &loop, 0);
	else
		bpf_loop(most, h2_turn, &loop, 0);
}

#endif
