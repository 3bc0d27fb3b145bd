#!/usr/bin/env bash
# Installs what the scripted server and the test agents need, pinned in server/requirements.txt, agents/requirements.txt
# and agents/package.json, into $HERON_TEST_CACHE (default target/test-cache):
#   venv/           Python with the server's and the SDKs' packages
#   node/           node_modules with the SDKs (only where `node` and `npm` are there)
# Idempotent, and quick when everything is there. No package's own scripts are run.
#   install-sdks.sh [--server-only]     --server-only leaves the SDKs out
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${HERON_TEST_CACHE:-$here/../target/test-cache}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
sdks=yes
[ "${1:-}" = --server-only ] && sdks=no

# Two callers at once (two test binaries) must not install into one folder.
exec 9>"$cache/.lock"
flock 9

venv() {
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      echo "install-sdks: python3-venv is missing, installing it" >&2
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >&2 9>&-
    else
      echo "install-sdks: python3-venv is missing: install it (apt-get install python3-venv) and try again" >&2
      exit 1
    fi
  fi
  [ -x "$cache/venv/bin/python" ] || python3 -m venv "$cache/venv"
}

# pip_once STAMP FILE...: installs the requirement files unless STAMP says that these very pins are there.
pip_once() {
  local stamp=$cache/$1; shift
  local want; want=$(cat "$@" | sha256sum)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return 0
  venv
  echo "install-sdks: installing Python packages into $cache/venv" >&2
  "$cache/venv/bin/pip" install --quiet --disable-pip-version-check "${@/#/-r}" >&2 9>&-
  printf '%s\n' "$want" >"$stamp"
}

pip_once .server "$here/server/requirements.txt"
[ $sdks = yes ] || exit 0
pip_once .sdks "$here/server/requirements.txt" "$here/agents/requirements.txt"

if command -v node >/dev/null && command -v npm >/dev/null; then
  want=$(sha256sum <"$here/agents/package.json")
  if [ ! -f "$cache/.node" ] || [ "$(cat "$cache/.node")" != "$want" ]; then
    echo "install-sdks: installing npm packages into $cache/node" >&2
    mkdir -p "$cache/node"
    cp "$here/agents/package.json" "$cache/node/package.json"
    npm install --prefix "$cache/node" --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel=error >&2 9>&-
    printf '%s\n' "$want" >"$cache/.node"
  fi
else
  echo "install-sdks: no node here: the JavaScript agents are left out" >&2
fi
