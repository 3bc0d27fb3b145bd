#!/usr/bin/env bash
# Every test. The kernel tests need root; without it they are skipped, loudly and with their count.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" = 0 ]; then
    mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing || true
    [ -e /sys/kernel/btf/vmlinux ] || echo "test: this kernel has no BTF; the kernel tests will say so" >&2
else
    count=$(grep -hc '^#\[test\]' tests/bpf_*.rs | awk '{n += $1} END {print n + 0}')
    printf '\n*** SKIPPED: %s kernel tests need root (run: sudo make test) ***\n\n' "$count" >&2
fi
cargo build --workspace --locked
cargo test --workspace --locked --no-fail-fast
cargo build --locked --example stages
benches/instructions.py "${CARGO_TARGET_DIR:-target}/debug/examples/stages"
if command -v npm >/dev/null && [ -e console/package.json ]; then
    (cd console && { [ -d node_modules ] || npm ci --ignore-scripts --no-audit --no-fund --silent; } && npm test --silent)
fi
