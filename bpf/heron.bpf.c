/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The one translation unit. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "abi.h"
#include "maps.h"
#include "pidns.h"
#include "emit.h"
#include "filter.h"
#include "h2.h"
#include "stream.h"

#include "tls.bpf.c"
#include "go.bpf.c"
#include "aead.bpf.c"
#include "proc.bpf.c"
#include "sock.bpf.c"

/* Types reach the skeleton only when BTF does: one global of each. */
const volatile struct heron_data heron_anchor_data;
const volatile struct heron_sock heron_anchor_sock;
const volatile struct heron_close heron_anchor_close;
const volatile struct heron_proc heron_anchor_proc;
const volatile struct heron_watch heron_anchor_watch;
const volatile struct heron_stream_key heron_anchor_stream_key;
const volatile struct heron_stream heron_anchor_stream;
const volatile struct heron_h2_key heron_anchor_h2_key;
const volatile enum heron_kind heron_anchor_kind;
const volatile enum heron_verdict heron_anchor_verdict;
const volatile enum heron_flag heron_anchor_flag;
const volatile enum heron_role heron_anchor_role;
const volatile enum heron_count heron_anchor_count;
const volatile enum heron_counter heron_anchor_counter;
const volatile enum heron_watch_flag heron_anchor_watch_flag;

/* The helpers want a GPL-compatible licence of the object; the sources are under either, as their headers say. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";
