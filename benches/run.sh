#!/usr/bin/env bash
# Builds what is measured, measures, and writes docs/benchmarks.md. BENCH_SIZES=50,500 adds the large capture.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --bin heron --example generate --example events --example stored
python3 benches/replay.py --bin-dir "${CARGO_TARGET_DIR:-target}/release" --sizes "${BENCH_SIZES:-50}" --rounds "${BENCH_ROUNDS:-3}"
python3 benches/store.py --calls "${BENCH_CALLS:-10000,1000000}"
# The kernel side: root only, says so otherwise. BENCH_NODE, BENCH_BUN and BENCH_BIG name what is measured where it is not on the PATH.
python3 benches/agent.py --bin-dir "${CARGO_TARGET_DIR:-target}/release" --rounds "${BENCH_ROUNDS:-3}" \
	--node "${BENCH_NODE:-node}" --bun "${BENCH_BUN:-bun}" --big "${BENCH_BIG:-}"
