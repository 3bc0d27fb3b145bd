/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Sockets of watched processes. Three uses of the same two tracepoints, which fire after a socket moved bytes:
 *
 * - inside a TLS call they name the socket of its stream for certain;
 * - outside of one, on a socket that speaks TLS, a receive is remembered: the TLS read that follows on the same thread is
 *   of that socket (memory BIOs, as in Node);
 * - on a socket that speaks HTTP in the clear the bytes are taken, through the buffer that the system call names.
 */

#define TCP_CLOSE 7
#define SOCK_STREAM 1
#define MSG_PEEK 2

#if defined(__TARGET_ARCH_x86)
#define NR_READ 0
#define NR_WRITE 1
#define NR_READV 19
#define NR_WRITEV 20
#define NR_SENDTO 44
#define NR_RECVFROM 45
#define NR_SENDMSG 46
#define NR_RECVMSG 47
#else
#define NR_READ 63
#define NR_WRITE 64
#define NR_READV 65
#define NR_WRITEV 66
#define NR_SENDTO 206
#define NR_RECVFROM 207
#define NR_SENDMSG 211
#define NR_RECVMSG 212
#endif

#define VECTORS_MAX 64

struct user_vec {
	__u64 base;
	__u64 len;
};

/* Where the bytes of a socket call are in the process. */
struct buffers {
	__u64 one;	/* the only buffer, or 0 */
	__u64 vectors;	/* struct iovec * */
	__u64 count;
};

static __always_inline bool read_addr(struct sock *sk, struct heron_addr *addr)
{
	__u16 family = sk->__sk_common.skc_family;

	__builtin_memset(addr, 0, sizeof(*addr));
	addr->confidence = HERON_CONFIDENCE_CERTAIN;
	addr->family = family;
	if (family == 2) {
		__u32 local = sk->__sk_common.skc_rcv_saddr, remote = sk->__sk_common.skc_daddr;

		__builtin_memcpy(addr->local, &local, 4);
		__builtin_memcpy(addr->remote, &remote, 4);
	} else if (family == 10) {
		bpf_probe_read_kernel(addr->local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(addr->remote, 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		return family == 1;
	}
	addr->local_port = sk->__sk_common.skc_num;
	addr->remote_port = __builtin_bswap16(sk->__sk_common.skc_dport);
	return true;
}

/* The buffers of the system call that the current task is in, when it is one that moves bytes of a socket. */
static __always_inline bool find_buffers(struct buffers *b)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	__u64 nr, second, third, message[2];

#if defined(__TARGET_ARCH_x86)
	nr = regs->orig_ax;
	second = regs->si;
	third = regs->dx;
#else
	nr = (__u32)regs->syscallno;
	second = regs->regs[1];
	third = regs->regs[2];
#endif
	b->one = 0;
	b->vectors = 0;
	b->count = 1;
	switch (nr) {
	case NR_READ:
	case NR_WRITE:
	case NR_SENDTO:
	case NR_RECVFROM:
		b->one = second;
		return true;
	case NR_READV:
	case NR_WRITEV:
		b->vectors = second;
		b->count = third;
		return true;
	case NR_SENDMSG:
	case NR_RECVMSG:
		/* struct user_msghdr: the vectors and their number are at 16. */
		if (bpf_probe_read_user(message, sizeof(message), (const void *)(second + 16)))
			return false;
		b->vectors = message[0];
		b->count = message[1];
		return true;
	}
	return false;
}

static __always_inline bool vector_at(struct buffers *b, __u32 i, struct user_vec *v)
{
	if (b->one) {
		v->base = b->one;
		v->len = ~0ull;
		return true;
	}
	return bpf_probe_read_user(v, sizeof(*v), (const void *)(b->vectors + (__u64)i * sizeof(*v))) == 0;
}

struct vec_loop {
	struct thread *th;
	struct heron_stream_key key;
	struct buffers buffers;
	__u32 direction;
	__u32 pad;
};

static long take_vector(__u32 i, struct vec_loop *loop)
{
	struct user_vec v;
	__u64 n;

	if (!vector_at(&loop->buffers, i, &v)) {
		count(HERON_C_READ_FAULT, 1);
		return 1;
	}
	n = v.len < loop->th->left ? v.len : loop->th->left;
	if (n)
		stream_bytes(false, loop->th, &loop->key, loop->direction, v.base, n, HERON_SITE_SOCKET);
	loop->th->left -= n;
	return loop->th->left == 0;
}

/* A stream for a socket whose first bytes say what it speaks; none for what is neither HTTP nor TLS. */
static __always_inline struct heron_stream *new_socket(struct thread *th, struct heron_stream_key *key, struct buffers *b,
						       int n)
{
	struct heron_stream *st;
	struct user_vec v;
	__u64 first;
	bool tls;

	if (n < 9 || !vector_at(b, 0, &v) || v.len < 9)
		return 0;
	if (bpf_probe_read_user(th->head, 16, (const void *)v.base))
		return 0;
	__builtin_memcpy(&first, th->head, 8);
	tls = th->head[0] >= 0x14 && th->head[0] <= 0x17 && th->head[1] == 3 && th->head[2] <= 4;
	if (!tls && !is_method(first) && first != PREFACE && !h2_frame(th->head))
		return 0;
	st = stream_of(key, HERON_SITE_SOCKET, true);
	if (!st)
		return 0;
	bpf_map_update_elem(&sock_owners, &key->stream, &key->tgid, BPF_ANY);
	if (tls)
		st->verdict = HERON_VERDICT_NEVER;
	return st;
}

/* Inside a Go TLS call: the goroutine's register survives into the system call. */
static __always_inline bool go_sock(struct sock *sk, __u32 tgid)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct go_key key = { .tgid = tgid };
	struct go_call *call;

#if defined(__TARGET_ARCH_x86)
	key.g = regs->r14;
#else
	key.g = regs->regs[28];
#endif
	call = bpf_map_lookup_elem(&go_calls, &key);
	if (!call)
		return false;
	if (call->sock != (__u64)sk && read_addr(sk, &call->addr))
		call->sock = (__u64)sk;
	return true;
}

/* A socket that speaks TLS: whose ciphertext moved, when an AEAD key waits for that (bpf/aead.bpf.c). */
static __always_inline void aead_moved(struct sock *sk, struct thread *th, struct buffers *b, __u32 direction, __u32 tgid)
{
	struct heron_stream_key key = { .stream = th->sealed_key, .tgid = tgid };
	__u64 sock = (__u64)sk, first;
	struct heron_stream *st;
	struct user_vec v;

	if (direction == HERON_SENT && !key.stream)
		return;
	for (__u32 i = 0; i < 4; i++) {
		__u8 head[3];

		if (i >= b->count || !vector_at(b, i, &v) || v.len < RECORD_HEAD + 8)
			break;
		if (bpf_probe_read_user(head, sizeof(head), (const void *)v.base))
			break;
		if (head[0] != TLS_DATA || head[1] != 3 || head[2] != 3)
			continue;
		if (bpf_probe_read_user(&first, 8, (const void *)(v.base + RECORD_HEAD)))
			break;
		if (direction == HERON_RECEIVED) {
			th->received = first;
			th->received_sock = sock;
			return;
		}
		if (first != th->sealed)
			continue;
		st = bpf_map_lookup_elem(&streams, &key);
		if (st && read_addr(sk, &st->addr)) {
			st->addr.confidence = HERON_CONFIDENCE_CIPHERTEXT;
			st->sock = sock;
			st->sock_dirty = 1;
			bpf_map_update_elem(&aead_seals, &sock, &key, BPF_ANY);
		}
		break;
	}
	/* Not in this send: the next record says it. */
	if (direction == HERON_SENT)
		th->sealed_key = 0;
}

static __always_inline void sock_moved(struct sock *sk, int ret, int flags, __u32 direction)
{
	__u64 id = current_id();
	struct heron_stream_key *key;
	struct vec_loop loop = {};
	struct heron_stream *st;
	struct heron_watch *w;
	struct thread *th;

	if (ret <= 0 || (flags & MSG_PEEK))
		return;
	w = watched(id >> 32);
	if (!w || sk->sk_type != SOCK_STREAM)
		return;
	th = thread_of(id, true);
	if (!th)
		return;
	if (th->depth) {
		if (th->sock != (__u64)sk && read_addr(sk, &th->addr))
			th->sock = (__u64)sk;
		return;
	}
	if ((w->flags & HERON_WATCH_GO) && go_sock(sk, id >> 32))
		return;
	key = &loop.key;
	key->stream = (__u64)sk;
	key->tgid = id >> 32;
	if (!find_buffers(&loop.buffers)) {
		count(HERON_C_SOCKET_BUFFER, 1);
		return;
	}
	st = bpf_map_lookup_elem(&streams, key);
	if (!st)
		st = new_socket(th, key, &loop.buffers, ret);
	if (!st)
		return;
	if (st->verdict == HERON_VERDICT_NEVER) {
		aead_moved(sk, th, &loop.buffers, direction, id >> 32);
		if (direction == HERON_RECEIVED && read_addr(sk, &th->recv_addr)) {
			th->recv_addr.confidence = HERON_CONFIDENCE_VOTE;
			th->recv_sock = (__u64)sk;
		}
		return;
	}
	if (read_addr(sk, &th->addr))
		th->sock = (__u64)sk;
	loop.th = th;
	th->left = ret;
	loop.direction = direction;
	bpf_loop(loop.buffers.count < VECTORS_MAX ? loop.buffers.count : VECTORS_MAX, take_vector, &loop, 0);
	if (th->left)
		lost(HERON_C_READ_FAULT, HERON_C_READ_FAULT_BYTES, th->left);
	th->sock = 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(heron_sock_send, struct sock *sk, int ret, int flags)
{
	sock_moved(sk, ret, 0, HERON_SENT);
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(heron_sock_recv, struct sock *sk, int ret, int flags)
{
	sock_moved(sk, ret, flags, HERON_RECEIVED);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(heron_sock_state, struct sock *sk, int oldstate, int newstate)
{
	struct heron_stream_key key = { .stream = (__u64)sk }, *seal, stream;
	__u32 *owner;

	if (newstate != TCP_CLOSE)
		return 0;
	owner = bpf_map_lookup_elem(&sock_owners, &key.stream);
	if (!owner)
		return 0;
	key.tgid = *owner;
	bpf_map_delete_elem(&sock_owners, &key.stream);
	seal = bpf_map_lookup_elem(&aead_seals, &key.stream);
	if (seal) {
		stream = *seal;
		bpf_map_delete_elem(&aead_seals, &key.stream);
		close_stream(&stream);
	}
	close_stream(&key);
	return 0;
}
