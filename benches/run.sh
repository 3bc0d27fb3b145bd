#!/usr/bin/env bash
# Builds what is measured, measures, and writes docs/benchmarks.md. BENCH_SIZES=50,500 adds the large capture.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --bin heron --example generate --example events --example stored
python3 benches/replay.py --bin-dir "${CARGO_TARGET_DIR:-target}/release" --sizes "${BENCH_SIZES:-50}" --rounds "${BENCH_ROUNDS:-3}"
