#!/usr/bin/env bash
# Runs one real agent against the scripted server: run.py says how.
exec python3 "$(dirname "${BASH_SOURCE[0]}")/run.py" "$@"
