#!/usr/bin/env bash
# Everything that must be clean: formatting, clippy, rustdoc, the console's types and rules. Clang's warnings are errors in build.rs.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
# With private items: the docs are for the next owner, and links to private modules are links.
RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items --locked --quiet
if command -v npm >/dev/null && [ -e console/package.json ]; then
    (cd console && { [ -d node_modules ] || npm ci --ignore-scripts --no-audit --no-fund --silent; } && npm run --silent lint)
fi
