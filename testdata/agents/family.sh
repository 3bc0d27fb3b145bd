#!/usr/bin/env bash
# Starts several agents the way people do: through a shell, in the background, and in a sub-shell that leaves its child
# behind. family.sh BASE_URL PYTHON
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
url=$1 python=${2:-python3}
"$python" "$here/anthropic_agent.py" --base-url "$url" --calls 2 &
(sh -c "exec \"$python\" \"$here/openai_agent.py\" --base-url \"$url\" --calls 2 --no-stream")
if command -v node >/dev/null; then node "$here/anthropic_agent.mjs" --base-url "$url" --calls 2; fi
"$here/curl_calls.sh" "$url"
wait
