/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
#ifndef HERON_EMIT_H
#define HERON_EMIT_H

/* From kernel 6.16; resolved to nothing on older ones, where `heron_exact_records` is 0. */
extern int bpf_copy_from_user_dynptr(struct bpf_dynptr *dptr, __u32 off, __u32 size, const void *unsafe_ptr__ign) __ksym __weak;
extern int bpf_probe_read_user_dynptr(struct bpf_dynptr *dptr, __u32 off, __u32 size, const void *unsafe_ptr__ign) __ksym __weak;

#define CHUNK_FULL 16384
#define CHUNK_SMALL 2048
#define CHUNK_TINY 256

static __always_inline __u64 wake_flags(bool now)
{
	if (now || bpf_ringbuf_query(&data_ring, BPF_RB_AVAIL_DATA) >= heron_wake_bytes) {
		count(HERON_C_WAKEUPS, 1);
		return BPF_RB_FORCE_WAKEUP;
	}
	return BPF_RB_NO_WAKEUP;
}

/* `sleepable` is a constant of each program kind: the helper that faults pages in exists in sleepable programs only. */
static __always_inline int read_user(const bool sleepable, void *to, __u32 size, __u64 from)
{
	if (sleepable && heron_sleepable)
		return bpf_copy_from_user(to, size, (const void *)from);
	return bpf_probe_read_user(to, size, (const void *)from);
}

static __always_inline void fill_hdr(struct heron_hdr *hdr, __u32 kind, __u32 size, __u64 start)
{
	__u64 id = current_id();

	hdr->kind = kind;
	hdr->size = size;
	hdr->time = bpf_ktime_get_ns();
	hdr->tgid = id >> 32;
	hdr->tid = (__u32)id;
	hdr->start = start;
}

static __always_inline void lost(__u32 records, __u32 bytes, __u64 n)
{
	count(records, 1);
	count(bytes, n);
	count(HERON_C_LOST_BYTES, n);
}

/* A hole of known size and cause, in place of a chunk that could not be read. */
static __always_inline void emit_hole(struct emit *e, __u32 len)
{
	struct heron_data *rec = bpf_ringbuf_reserve(&data_ring, sizeof(*rec), 0);

	if (!rec)
		return; /* the jump of the offset tells it */
	__builtin_memcpy(rec, &e->data, sizeof(*rec));
	rec->len = len;
	rec->flags |= HERON_FLAG_HOLE | HERON_FLAG_FAULT;
	count(HERON_C_RECORDS, 1);
	bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
}

static __always_inline void advance(struct emit *e, __u32 len)
{
	e->buf += len;
	e->data.offset += len;
	e->left -= len;
	e->data.flags &= ~HERON_FLAG_HEAD;
}

static __always_inline void submitted(__u32 len)
{
	count(HERON_C_PASSED_BYTES, len);
	count(HERON_C_RECORDS, 1);
}

/* One record of exactly the payload's size. */
static __always_inline int emit_exact(const bool sleepable, struct emit *e)
{
	struct bpf_dynptr rec;
	__u64 len = e->left;
	int err;

	if (len > heron_chunk_bytes)
		len = heron_chunk_bytes;
	e->data.len = len;
	if (bpf_ringbuf_reserve_dynptr(&data_ring, sizeof(e->data) + (__u32)len, 0, &rec)) {
		lost(HERON_C_RING_FULL, HERON_C_RING_FULL_BYTES, len);
		bpf_ringbuf_discard_dynptr(&rec, BPF_RB_FORCE_WAKEUP);
		advance(e, len);
		return e->left == 0;
	}
	err = bpf_dynptr_write(&rec, 0, &e->data, sizeof(e->data), 0);
	if (!err) {
		if (sleepable && heron_sleepable)
			err = bpf_copy_from_user_dynptr(&rec, sizeof(e->data), len, (const void *)e->buf);
		else
			err = bpf_probe_read_user_dynptr(&rec, sizeof(e->data), len, (const void *)e->buf);
	}
	if (err) {
		bpf_ringbuf_discard_dynptr(&rec, BPF_RB_NO_WAKEUP);
		lost(HERON_C_READ_FAULT, HERON_C_READ_FAULT_BYTES, len);
		emit_hole(e, len);
	} else {
		bpf_ringbuf_submit_dynptr(&rec, wake_flags(e->wake && e->left == len));
		submitted(len);
	}
	advance(e, len);
	return e->left == 0;
}

/* One record of a size class; the tail of a record may be unused. Kernels without a copy into ring dynptrs. */
#define EMIT_CLASS(size_)                                                                                               \
	static __always_inline void emit_##size_(const bool sleepable, struct emit *e)                                    \
	{                                                                                                                 \
		struct {                                                                                                  \
			struct heron_data data;                                                                           \
			char bytes[size_];                                                                                \
		} *rec;                                                                                                   \
		__u64 len = e->left;                                                                                      \
		int err;                                                                                                  \
                                                                                                                          \
		if (len > size_)                                                                                          \
			len = size_;                                                                                      \
		rec = bpf_ringbuf_reserve(&data_ring, sizeof(*rec), 0);                                                   \
		if (!rec) {                                                                                               \
			lost(HERON_C_RING_FULL, HERON_C_RING_FULL_BYTES, len);                                            \
			advance(e, len);                                                                                  \
			return;                                                                                           \
		}                                                                                                         \
		e->data.len = len;                                                                                        \
		__builtin_memcpy(&rec->data, &e->data, sizeof(e->data));                                                  \
		barrier_var(len);                                                                                         \
		if (len > size_)                                                                                          \
			len = size_;                                                                                      \
		err = read_user(sleepable, rec->bytes, len, e->buf);                                                      \
		if (err) {                                                                                                \
			lost(HERON_C_READ_FAULT, HERON_C_READ_FAULT_BYTES, len);                                          \
			rec->data.flags |= HERON_FLAG_HOLE | HERON_FLAG_FAULT;                                            \
		} else {                                                                                                  \
			submitted(len);                                                                                   \
		}                                                                                                         \
		bpf_ringbuf_submit(rec, wake_flags(e->wake && e->left == len));                                           \
		advance(e, len);                                                                                          \
	}

EMIT_CLASS(CHUNK_FULL)
EMIT_CLASS(CHUNK_SMALL)
EMIT_CLASS(CHUNK_TINY)

static __always_inline int emit_class(const bool sleepable, struct emit *e)
{
	if (e->left > CHUNK_SMALL)
		emit_CHUNK_FULL(sleepable, e);
	else if (e->left > CHUNK_TINY)
		emit_CHUNK_SMALL(sleepable, e);
	else
		emit_CHUNK_TINY(sleepable, e);
	return e->left == 0;
}

/* A loop's context lives on the stack; what changes from turn to turn lives in the thread's map value, where the verifier
 * does not follow it. */
struct emit_loop {
	struct emit *e;
};

static long exact_chunk_sleepable(__u32 i, struct emit_loop *loop)
{
	return emit_exact(true, loop->e);
}

static long exact_chunk(__u32 i, struct emit_loop *loop)
{
	return emit_exact(false, loop->e);
}

static long class_chunk_sleepable(__u32 i, struct emit_loop *loop)
{
	return emit_class(true, loop->e);
}

static long class_chunk(__u32 i, struct emit_loop *loop)
{
	return emit_class(false, loop->e);
}

/* Copies `e->left` bytes at `e->buf` to the data ring. */
static __always_inline void emit_bytes(const bool sleepable, struct emit *e)
{
	struct emit_loop loop = { .e = e };
	__u32 most;

	if (heron_exact_records) {
		most = e->left / heron_chunk_bytes + 1;
		if (sleepable)
			bpf_loop(most, exact_chunk_sleepable, &loop, 0);
		else
			bpf_loop(most, exact_chunk, &loop, 0);
		return;
	}
	most = e->left / CHUNK_FULL + 1;
	if (sleepable)
		bpf_loop(most, class_chunk_sleepable, &loop, 0);
	else
		bpf_loop(most, class_chunk, &loop, 0);
}

#endif
