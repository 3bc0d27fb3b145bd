#!/usr/bin/env bash
# Installs what heron is built and tested with. Usage: deps.sh build|test|deny
# As root on a Debian-like system it installs missing packages; otherwise it says which are missing, and why they are wanted.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
duckdb_version=1.5.6-r.1

say() { printf 'deps: %s\n' "$*" >&2; }

# Debian package, the file that shows it is there, what it is for.
build_packages='clang|/usr/bin/clang|compiles the BPF programs
llvm|/usr/bin/llvm-strip|strips the BPF object
libelf-dev|/usr/include/gelf.h|libbpf reads ELF with it
zlib1g-dev|/usr/include/zlib.h|libelf needs it
libbpf-dev|/usr/include/bpf/bpf_helpers.h|headers of the BPF helpers
linux-libc-dev|/usr/include/linux/bpf.h|kernel headers
libpcap-dev|/usr/include/pcap/pcap.h|live packet capture and filters
pkg-config|/usr/bin/pkg-config|finds the libraries
make|/usr/bin/make|builds libbpf
gcc|/usr/bin/gcc|builds libbpf'
test_packages='chromium|/usr/bin/chromium|browser tests of the console
openssl|/usr/bin/openssl|the test CA
curl|/usr/bin/curl|a traced client
iproute2|/usr/sbin/ip|network namespaces of the tests
python3-venv|/usr/lib/python3.11/ensurepip/__init__.py|the SDK environment
procps|/usr/bin/ps|process checks
tcpdump|/usr/bin/tcpdump|captures made by the tests'

install_packages() {
    local missing=() line package file purpose
    while IFS='|' read -r package file purpose; do
        [ -e "$file" ] || missing+=("$package|$purpose")
    done <<<"$1"
    [ ${#missing[@]} -gt 0 ] || return 0
    local names=("${missing[@]%%|*}")
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "these packages are missing, and installing them needs root and apt-get:"
        printf '  %s\n' "${missing[@]/|/  - }" >&2
        say "run: sudo apt-get install -y --no-install-recommends ${names[*]}"
        [ "${2:-}" = optional ] || exit 1
        return 0
    fi
    say "installing ${names[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${names[@]}" >/dev/null
}

node_is_new_enough() {
    command -v node >/dev/null && node -e 'const [a,b]=process.versions.node.split(".").map(Number);process.exit(a>20||(a==20&&b>=19)?0:1)'
}

check_node() {
    node_is_new_enough && return 0
    say "Node 20.19 or newer was not found ($(node --version 2>/dev/null || echo none)): heron builds, but its console will only say what is missing."
    say "Node comes from your distribution (Debian 13, Ubuntu 25.04), from nodejs.org, or as the npm package 'node'."
}

# DuckDB's library from the npm package of its own Node bindings (docs/decisions.md, 3).
fetch_duckdb() {
    local dir="$target/duckdb" arch
    [ -e "$dir/libduckdb.so" ] && [ "$(cat "$dir/version" 2>/dev/null)" = "$duckdb_version" ] && return 0
    case "$(uname -m)" in
        x86_64) arch=x64 ;;
        aarch64) arch=arm64 ;;
        *) say "DuckDB has no library for $(uname -m); build with --features duckdb-bundled"; exit 1 ;;
    esac
    command -v npm >/dev/null || { say "npm is needed once, to fetch DuckDB's library (or build with --features duckdb-bundled)"; exit 1; }
    say "fetching DuckDB $duckdb_version"
    local scratch; scratch=$(mktemp -d)
    npm install --prefix "$scratch" --ignore-scripts --no-audit --no-fund --silent "@duckdb/node-bindings-linux-$arch@$duckdb_version"
    mkdir -p "$dir"
    cp "$scratch/node_modules/@duckdb/node-bindings-linux-$arch/libduckdb.so" "$dir/libduckdb.so.new"
    mv "$dir/libduckdb.so.new" "$dir/libduckdb.so"
    echo "$duckdb_version" >"$dir/version"
    rm -rf "$scratch"
}

install_cargo_deny() {
    PATH="$target/tools/bin:$PATH" cargo deny --version >/dev/null 2>&1 && return 0
    say "building cargo-deny (once)"
    CARGO_TARGET_DIR="$target/tools/build" cargo install cargo-deny --version 0.20.2 --locked --no-default-features --root "$target/tools" --quiet
    rm -rf "$target/tools/build"
}

case "${1:-build}" in
    build) install_packages "$build_packages"; check_node; fetch_duckdb ;;
    test) install_packages "$test_packages" optional ;;
    deny) install_cargo_deny ;;
    *) say "usage: deps.sh build|test|deny"; exit 2 ;;
esac
