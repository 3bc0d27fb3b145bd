/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Who is watched: inherited at fork, kept over exec, dropped at exit. */

static __always_inline void fill_task(struct heron_proc *rec, __u32 kind, struct task_struct *task, __u64 start)
{
	rec->hdr.kind = kind;
	rec->hdr.size = HERON_PROC_SHORT;
	rec->hdr.time = bpf_ktime_get_ns();
	rec->hdr.tgid = tgid_of(task);
	rec->hdr.tid = tid_of(task);
	rec->hdr.start = start;
	rec->parent_start = 0;
	rec->parent_tgid = 0;
	rec->status = 0;
	rec->shares_memory = 0;
	rec->uid = (__u32)bpf_get_current_uid_gid();
	rec->name_len = 0;
	rec->args_len = 0;
	bpf_probe_read_kernel(rec->comm, sizeof(rec->comm), task->comm);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(heron_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 tgid = tgid_of(child), parent_tgid = tgid_of(parent);
	struct heron_watch fresh = {}, *w;
	struct heron_proc *rec;

	if (child->pid != child->tgid)
		return 0; /* a thread */
	w = watched(parent_tgid);
	if (!w)
		return 0;
	fresh.start = child->start_boottime;
	fresh.parent = parent_tgid;
	fresh.flags = w->flags & HERON_WATCH_STRICT;
	count(HERON_C_FORKS, 1);
	if (bpf_map_update_elem(&watch, &tgid, &fresh, BPF_ANY)) {
		count(HERON_C_MAP_FULL, 1);
		return 0;
	}
	rec = bpf_ringbuf_reserve(&proc_ring, HERON_PROC_SHORT, 0);
	if (!rec) {
		count(HERON_C_EVENT_LOST, 1);
		return 0;
	}
	fill_task(rec, HERON_KIND_FORK, child, fresh.start);
	rec->parent_tgid = parent_tgid;
	rec->parent_start = w->start;
	rec->shares_memory = child->mm == parent->mm;
	bpf_ringbuf_submit(rec, BPF_RB_FORCE_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(heron_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	__u32 tgid = tgid_of(task);
	struct heron_watch *w = watched(tgid);
	struct heron_proc *rec;
	struct mm_struct *mm;
	__u64 from, len, start;
	long n;

	if (!w && (!heron_host || !tgid))
		return 0;
	if (w)
		count(HERON_C_EXECS, 1);
	rec = bpf_ringbuf_reserve(&proc_ring, sizeof(*rec), 0);
	if (!rec) {
		count(HERON_C_EVENT_LOST, 1);
		return 0;
	}
	start = BPF_CORE_READ(task, group_leader, start_boottime); /* by helper: not to be merged with the load below */
	if (w)
		start = w->start;
	fill_task(rec, HERON_KIND_EXEC, task, start);
	rec->hdr.size = sizeof(*rec);
	rec->parent_tgid = w ? w->parent : 0;
	rec->status = w ? 0 : 1;
	n = bpf_probe_read_kernel_str(rec->name, sizeof(rec->name), bprm->filename);
	rec->name_len = n > 0 ? n - 1 : 0;
	mm = task->mm;
	from = mm->arg_start;
	len = mm->arg_end - from;
	if (len > HERON_ARGS_MAX)
		len = HERON_ARGS_MAX;
	barrier_var(len);
	if (len <= HERON_ARGS_MAX && bpf_probe_read_user(rec->args, len, (const void *)from) == 0)
		rec->args_len = len;
	if (heron_strict && w && (w->flags & HERON_WATCH_STRICT))
		bpf_send_signal(19 /* SIGSTOP */);
	bpf_ringbuf_submit(rec, BPF_RB_FORCE_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(heron_exit, struct task_struct *task)
{
	__u32 tgid = tgid_of(task);
	struct heron_watch *w = watched(tgid);
	struct heron_proc *rec;
	__u64 id;

	if (!w)
		return 0;
	id = (__u64)tgid << 32 | tid_of(task);
	bpf_map_delete_elem(&threads, &id);
	if (task->signal->live.counter != 0)
		return 0; /* other threads live on */
	count(HERON_C_EXITS, 1);
	rec = bpf_ringbuf_reserve(&proc_ring, HERON_PROC_SHORT, 0);
	if (rec) {
		int code = task->signal->group_exit_code;

		fill_task(rec, HERON_KIND_EXIT, task, w->start);
		rec->status = code ? code : task->exit_code;
		rec->parent_tgid = w->parent;
		rec->shares_memory = w->flags;
		bpf_ringbuf_submit(rec, BPF_RB_FORCE_WAKEUP);
	} else {
		count(HERON_C_EVENT_LOST, 1);
	}
	bpf_map_delete_elem(&watch, &tgid);
	return 0;
}
