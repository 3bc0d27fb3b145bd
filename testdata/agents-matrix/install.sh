#!/usr/bin/env bash
# Installs the real agents that the matrix runs, pinned in agents.tsv, into $HERON_AGENTS_DIR/NAME.
#   install.sh [NAME...]      all rows, or only those named; a row that is there already costs nothing.
# Nothing of a package's own scripts runs. A row that fails is reported and the others go on (exit 1 at the end).
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${HERON_AGENTS_DIR:-/tmp/agents}
mkdir -p "$root"
failed=()

install_npm() { npm install --prefix "$1" --ignore-scripts --no-audit --no-fund --loglevel=error --no-save ${3:-} $2; }
install_npm-other() { install_npm "$1" "$2" --force; }   # a build for another libc than this host's
install_pip() { python3 -m venv "$1/venv" && "$1/venv/bin/pip" install --quiet --disable-pip-version-check $2; }
install_cargo() { cargo build --release --locked --manifest-path "$here/$2/Cargo.toml" --target-dir "$1/target"; }
install_apt() {
  local p
  for p in $2; do dpkg -s "$p" >/dev/null 2>&1 || apt-get install -y -qq --no-install-recommends "$p" || return 1; done
}

while IFS=$'\t' read -r name kind packages; do
  case $name in ''|'#'*) continue ;; esac
  if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
  dir=$root/$name
  if [ -f "$dir/.installed" ] && [ "$(cat "$dir/.installed")" = "$packages" ]; then continue; fi
  echo "installing $name ($packages)" >&2
  rm -rf "$dir" && mkdir -p "$dir"
  if "install_$kind" "$dir" "$packages" >"$dir/install.log" 2>&1 </dev/null; then
    printf '%s\n' "$packages" >"$dir/.installed"
  else
    echo "failed: $name, see $dir/install.log" >&2
    tail -n 5 "$dir/install.log" >&2
    failed+=("$name")
  fi
done <"$here/agents.tsv"

if [ ${#failed[@]} -gt 0 ]; then echo "not installed: ${failed[*]}" >&2; exit 1; fi
