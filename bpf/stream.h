/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Bytes of one direction of one stream: identity, verdict, offsets. What every kind of hook ends in. */
#ifndef HERON_STREAM_H
#define HERON_STREAM_H

static __always_inline struct heron_watch *watched(__u32 tgid)
{
	return bpf_map_lookup_elem(&watch, &tgid);
}

static __always_inline struct thread *thread_of(__u64 id, bool create)
{
	struct thread *th = bpf_map_lookup_elem(&threads, &id);
	__u32 zero = 0;
	void *blank;

	if (th || !create)
		return th;
	blank = bpf_map_lookup_elem(&thread_zero, &zero);
	if (!blank)
		return 0;
	if (bpf_map_update_elem(&threads, &id, blank, BPF_NOEXIST)) {
		count(HERON_C_MAP_FULL, 1);
		return 0;
	}
	return bpf_map_lookup_elem(&threads, &id);
}

static __always_inline struct heron_stream *stream_of(struct heron_stream_key *key, __u32 site, bool mid)
{
	struct heron_stream *st = bpf_map_lookup_elem(&streams, key);
	struct heron_stream fresh = {};
	struct heron_watch *w;

	if (st)
		return st;
	w = watched(key->tgid);
	if (!w)
		return 0;
	w->flags |= HERON_WATCH_STREAMS;
	fresh.born = bpf_ktime_get_ns();
	fresh.start = w->start;
	fresh.site = site;
	fresh.mid = mid;
	if (bpf_map_update_elem(&streams, key, &fresh, BPF_NOEXIST)) {
		count(HERON_C_MAP_FULL, 1);
		return 0;
	}
	count(HERON_C_STREAMS, 1);
	return bpf_map_lookup_elem(&streams, key);
}

static __always_inline void close_stream(struct heron_stream_key *key)
{
	struct heron_stream *st = bpf_map_lookup_elem(&streams, key);
	struct heron_close *rec;

	if (!st)
		return;
	if (st->shown) {
		rec = bpf_ringbuf_reserve(&data_ring, sizeof(*rec), 0);
		if (rec) {
			fill_hdr(&rec->hdr, HERON_KIND_CLOSE, sizeof(*rec), st->start);
			rec->hdr.tgid = key->tgid; /* a socket may be closed in another context */
			rec->stream = key->stream;
			rec->born = st->born;
			rec->offset[0] = st->offset[0];
			rec->offset[1] = st->offset[1];
			bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
		} else {
			count(HERON_C_RING_FULL, 1);
		}
	}
	bpf_map_delete_elem(&streams, key);
}

/* The stream begins again under the same key (its pointer was reused, or a new preface was seen). */
static __always_inline struct heron_stream *renew_stream(struct heron_stream_key *key, __u32 site)
{
	close_stream(key);
	return stream_of(key, site, false);
}

static __always_inline void tell_sock(struct heron_stream_key *key, struct heron_stream *st)
{
	struct heron_sock *rec = bpf_ringbuf_reserve(&data_ring, sizeof(*rec), 0);

	if (!rec) {
		count(HERON_C_RING_FULL, 1);
		return; /* still dirty: told with the next bytes */
	}
	fill_hdr(&rec->hdr, HERON_KIND_SOCK, sizeof(*rec), st->start);
	rec->stream = key->stream;
	rec->born = st->born;
	rec->site = st->site;
	rec->mid = st->mid;
	__builtin_memcpy(&rec->addr, &st->addr, sizeof(rec->addr));
	__builtin_memset(rec->path, 0, sizeof(rec->path));
	bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
	st->sock_dirty = 0;
}

/* Looks at the first bytes of a chunk. Returns flags for the record. */
static __always_inline __u32 judge(const bool sleepable, struct thread *th, struct heron_stream_key *key,
				   struct heron_stream **stp, __u32 direction, __u64 buf, __u64 n)
{
	struct heron_stream *st = *stp;
	__u32 side = direction == HERON_SENT ? 1 : 2;
	__u32 len = HERON_HEAD_MAX, verdict;
	__u64 first;

	if (st->verdict == HERON_VERDICT_NEVER)
		return 0;
	/* Requests come from one side only: the other side's bytes are never taken for a request head. */
	if (st->client && st->client != side)
		return 0;
	if (n < 9)
		return 0;
	if (read_user(sleepable, th->head, 16, buf))
		return 0; /* counted when the bytes themselves are read */
	__builtin_memcpy(&first, th->head, 8);
	if (first == PREFACE) {
		if (st->seen[direction] != n) {
			st = renew_stream(key, st->site);
			*stp = st;
			if (!st)
				return 0;
			st->seen[direction] = n;
		}
		st->verdict = HERON_VERDICT_ALL;
		st->client = side;
		st->h2[direction] = HERON_H2_FOLLOWED;
		st->h2_left[direction] = 24; /* the preface */
		count(HERON_C_HEADS, 1);
		count(HERON_C_HEADS_PASSED, 1);
		return HERON_FLAG_HEAD;
	}
	if (st->verdict == HERON_VERDICT_ALL)
		return 0;
	if (!is_method(first)) {
		if (st->verdict == HERON_VERDICT_NONE && n >= 9 && st->mid && h2_frame(th->head)) {
			st->verdict = HERON_VERDICT_ALL;
			count(HERON_C_MID_STREAM, 1);
		}
		return 0;
	}
	if (n < HERON_HEAD_MAX) {
		len = n;
		/* Stale bytes of an earlier head must not be read as part of this one. */
		__u64 l = n;
		barrier_var(l);
		if (l > HERON_HEAD_MAX)
			l = HERON_HEAD_MAX;
		if (read_user(sleepable, th->head, l, buf))
			return 0;
	} else if (read_user(sleepable, th->head, HERON_HEAD_MAX, buf)) {
		return 0;
	}
	th->target.len = len;
	verdict = judge_target(th);
	if (verdict == HERON_VERDICT_NONE)
		return 0;
	st->verdict = verdict;
	st->client = side;
	st->mid = 0;
	return HERON_FLAG_HEAD;
}

/* What every record of `n` bytes says, when the filter lets them pass. */
static __always_inline bool begin_data(struct thread *th, struct heron_stream_key *key, struct heron_stream *st,
				       __u32 direction, __u32 flags, __u64 n)
{
	struct emit *e = &th->emit;

	if (heron_filter && st->verdict != HERON_VERDICT_PASS && st->verdict != HERON_VERDICT_ALL) {
		count(st->mid && st->verdict == HERON_VERDICT_NONE ? HERON_C_MISSED_BYTES : HERON_C_FILTERED_BYTES, n);
		return false;
	}
	if (st->sock_dirty)
		tell_sock(key, st);
	fill_hdr(&e->data.hdr, HERON_KIND_DATA, sizeof(e->data), st->start);
	e->data.stream = key->stream;
	e->data.born = st->born;
	e->data.offset = st->offset[direction];
	e->data.site = st->site;
	e->data.direction = direction;
	e->data.flags = flags | (st->mid ? HERON_FLAG_MID : 0);
	e->data.verdict = st->verdict;
	e->data.client = st->client;
	e->data.len = 0;
	e->data.pad = 0;
	return true;
}

/* `n` bytes at `buf` went in `direction`. */
static __always_inline void stream_bytes(const bool sleepable, struct thread *th, struct heron_stream_key *key,
					 __u32 direction, __u64 buf, __u64 n, __u32 site)
{
	struct heron_stream *st = stream_of(key, site, true); /* nobody saw it begin, or its hook did */
	struct emit *e = &th->emit;
	__u32 flags;

	count(HERON_C_SEEN_BYTES, n);
	if (!st) {
		count(HERON_C_LOST_BYTES, n);
		return;
	}
	direction &= 1;
	st->seen[direction] += n;
	if (th->sock && th->sock != st->sock) {
		st->sock = th->sock;
		__builtin_memcpy(&st->addr, &th->addr, sizeof(st->addr));
		st->sock_dirty = 1;
	}
	flags = judge(sleepable, th, key, &st, direction, buf, n);
	if (!st) {
		count(HERON_C_LOST_BYTES, n);
		return;
	}
	if (!begin_data(th, key, st, direction, flags, n))
		return;
	e->buf = buf;
	e->left = n;
	/* The first bytes of a request are wanted at once; what follows waits for the reader's timer. */
	e->wake = (flags & HERON_FLAG_HEAD) || !st->shown;
	if (heron_filter && st->verdict == HERON_VERDICT_ALL && h2_follows(sleepable, st, direction, buf, n)) {
		h2_bytes(sleepable, th, st, key, direction);
		return;
	}
	/* Before the copy, so that a loss is a hole and not a shift. */
	st->offset[direction] += n;
	st->shown = 1;
	emit_bytes(sleepable, e);
}

/* The first `n` bytes that were kept of the record under way went in `direction`. They continue what came before: no request
 * begins with them. */
static __always_inline void stream_kept(struct thread *th, struct heron_stream_key *key, __u32 direction, __u32 n, __u32 site)
{
	struct heron_stream *st = bpf_map_lookup_elem(&streams, key);
	struct {
		struct heron_data data;
		char bytes[KEPT_MAX];
	} *rec;

	if (!st || !n || n > KEPT_MAX)
		return;
	count(HERON_C_SEEN_BYTES, n);
	direction &= 1;
	st->seen[direction] += n;
	st->h2[direction] = HERON_H2_LOST; /* frames are followed in the memory of the process only */
	if (!begin_data(th, key, st, direction, 0, n))
		return;
	th->emit.data.len = n;
	st->offset[direction] += n;
	st->shown = 1;
	rec = bpf_ringbuf_reserve(&data_ring, sizeof(*rec), 0);
	if (!rec) {
		lost(HERON_C_RING_FULL, HERON_C_RING_FULL_BYTES, n);
		return;
	}
	__builtin_memcpy(&rec->data, &th->emit.data, sizeof(rec->data));
	__builtin_memcpy(rec->bytes, th->record.kept, KEPT_MAX);
	submitted(n);
	bpf_ringbuf_submit(rec, wake_flags(false));
}

#endif
