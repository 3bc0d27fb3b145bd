/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Process ids as heron's own pid namespace counts them: the numbers that its /proc has. In the initial namespace they are
 * the kernel's own, and nothing here costs anything; in a container they are not. A task of no such number is 0, which
 * nobody watches. */
#ifndef HERON_PIDNS_H
#define HERON_PIDNS_H

#define PIDNS_DEPTH 4	/* namespaces inside one another down to heron's own, the initial one not counted */

static __always_inline __u32 number_of(struct pid *pid)
{
	__u32 level = BPF_CORE_READ(pid, level), inum;
	struct upid upid;
	__u32 i;

	for (i = 1; i <= PIDNS_DEPTH; i++) {
		if (i > level)
			break;
		if (bpf_probe_read_kernel(&upid, sizeof(upid),
					  (void *)pid + bpf_core_field_offset(struct pid, numbers) + i * sizeof(upid)))
			break;
		inum = BPF_CORE_READ(upid.ns, ns.inum);
		if (inum == heron_pidns)
			return upid.nr;
	}
	return 0;
}

static __always_inline __u32 tid_of(struct task_struct *task)
{
	return heron_pidns ? number_of(BPF_CORE_READ(task, thread_pid)) : BPF_CORE_READ(task, pid);
}

static __always_inline __u32 tgid_of(struct task_struct *task)
{
	return heron_pidns ? number_of(BPF_CORE_READ(task, group_leader, thread_pid)) : BPF_CORE_READ(task, tgid);
}

/* As bpf_get_current_pid_tgid(). */
static __always_inline __u64 current_id(void)
{
	struct task_struct *task;

	if (!heron_pidns)
		return bpf_get_current_pid_tgid();
	task = (struct task_struct *)bpf_get_current_task();
	return (__u64)tgid_of(task) << 32 | tid_of(task);
}

#endif
