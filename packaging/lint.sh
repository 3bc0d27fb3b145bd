#!/usr/bin/env bash
# Everything that must be clean: formatting, clippy, rustdoc, the console's types and rules. Clang's warnings are errors in build.rs.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
if command -v npm >/dev/null && [ -e console/package.json ]; then
    (cd console && { [ -d node_modules ] || npm ci --ignore-scripts --no-audit --no-fund --silent; } && npm run --silent lint)
fi
