/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Which socket a TLS stream runs over: the socket call made inside the TLS call names it. */

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
		return false;
	}
	addr->local_port = sk->__sk_common.skc_num;
	addr->remote_port = __builtin_bswap16(sk->__sk_common.skc_dport);
	return true;
}

static __always_inline void sock_moved(struct sock *sk, int ret)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct thread *th;

	if (ret <= 0 || !watched(id >> 32))
		return;
	th = thread_of(id, false);
	if (!th || !th->depth)
		return;
	if (th->sock == (__u64)sk)
		return;
	if (read_addr(sk, &th->addr))
		th->sock = (__u64)sk;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(heron_sock_send, struct sock *sk, int ret, int flags)
{
	sock_moved(sk, ret);
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(heron_sock_recv, struct sock *sk, int ret, int flags)
{
	sock_moved(sk, ret);
	return 0;
}
