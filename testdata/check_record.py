#!/usr/bin/env python3
"""Compares heron's calls with what the scripted server really received and sent, field by field.

    check_record.py --record R.jsonl --calls OUT.jsonl [--api http://localhost:3000] [--turns] [--require-process]
                    [--require-client] [--allow-missing N [--attached]] [--json SUMMARY.json]

--calls is the output of `heron exec --json` or `heron replay --json` (docs/output.md). With --api each call's bodies and
headers are fetched and compared byte for byte. Prints every difference and a fidelity figure (equal fields of all fields
compared; a call that is missing, or one that the server never saw, counts with all its fields). Exit 1 on any difference.
"""

import argparse
import base64
import collections
import hashlib
import json
import sys
import urllib.request

FIELDS = ["wire_api", "operation", "request_model", "response_model", "stream", "status", "finish_reason", "tools_offered", "messages", "tool_calls"]
BUCKETS = ["input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output_text", "output_reasoning", "input_total", "output_total"]
SECRET = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "set-cookie", "proxy-authorization")
# Whole-call weight of a call that has no counterpart.
ALL = len(FIELDS) + len(BUCKETS) + 4


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def same_json(a, b):
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def bucket(usage, name):
    return (usage or {}).get(name)


def fingerprint_expected(row):
    return (row["wire_api"], row["request_body"]["len"], row["response_body"]["len"], bucket(row["usage"], "output_total"), bucket(row["usage"], "input_total"))


def fingerprint_seen(call):
    return (call.get("wire_api"), call.get("request_bytes"), call.get("response_bytes"), bucket(call.get("usage"), "output_total"), bucket(call.get("usage"), "input_total"))


def pair(expected, seen):
    """Pairs the two lists: first those that agree on size and tokens, then on the connection, then in order of time."""
    pairs, left = [], []
    pools = collections.defaultdict(collections.deque)
    for call in seen:
        pools[fingerprint_seen(call)].append(call)
    for row in expected:
        pool = pools[fingerprint_expected(row)]
        same_client = next((c for c in pool if c.get("client") == row["client"]), None)
        if same_client is not None:
            pool.remove(same_client)
            pairs.append((row, same_client))
        elif pool:
            pairs.append((row, pool.popleft()))
        else:
            left.append(row)
    rest = sorted((c for pool in pools.values() for c in pool), key=lambda c: c.get("started_at") or "")
    for keys in (("wire_api", "client"), ("wire_api", "request_model"), ("wire_api",), ()):
        still = []
        for row in left:
            match = next((c for c in rest if all(c.get(k) == row.get(k) for k in keys)), None)
            if match is None or (not keys and row["wire_api"] in {c.get("wire_api") for c in rest}):
                still.append(row)
            else:
                rest.remove(match)
                pairs.append((row, match))
        left = still
    return pairs, left, rest


class Result:
    def __init__(self):
        self.equal = self.compared = 0
        self.differences = []

    def check(self, where, name, wanted, got, ok=None):
        self.compared += 1
        if ok if ok is not None else same_json(wanted, got):
            self.equal += 1
        else:
            self.differences.append(f"{where}: {name}: server {show(wanted)}, heron {show(got)}")

    def lost(self, where, sentence, weight=ALL):
        self.compared += weight
        self.differences.append(f"{where}: {sentence}")

    @property
    def fidelity(self):
        return 100.0 * self.equal / self.compared if self.compared else 100.0


def show(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else text[:157] + "..."


def compare(result, row, call, args):
    where = f"exchange {row['n']} ({row['wire_api']}, {row['protocol']}, call {str(call.get('id'))[:8]})"
    for name in FIELDS:
        wanted, got = row.get(name), call.get(name)
        if name == "messages" and wanted is None:
            continue
        ok = None
        if name == "status" and row["protocol"] == "ws":
            ok = got in (101, 200, None, (row.get("error") or {}).get("status"))
        if name == "tool_calls":
            ok = same_calls(wanted, got or [])
        if name == "finish_reason" and not row["usage_final"]:
            continue
        result.check(where, name, wanted, got, ok)
    for name in BUCKETS if row["usage_final"] else []:
        wanted, got = bucket(row["usage"], name), bucket(call.get("usage"), name)
        # Where the server said nothing of a bucket, "not known" is the only right answer, but 0 reasoning tokens is also true.
        result.check(where, f"usage.{name}", wanted, got, True if wanted is None and name == "output_reasoning" and got == 0 else None)
    result.check(where, "request_bytes", row["request_body"]["len"], call.get("request_bytes"))
    if row["complete"]:
        length, got = row["response_body"]["len"], call.get("response_bytes")
        # Some clients never read what comes after the finish reason: then nobody but the server had it.
        stopped = args.client_may_stop and call.get("flaws") == ["cut"] and isinstance(got, int) and 0.9 * length < got < length
        result.check(where, "response_bytes", length, got, stopped or None)
        # Met in the middle of an HTTP/2 connection, heron cannot know the headers that were said before.
        late = args.attached and call.get("flaws") == ["unknown_headers"]
        result.check(where, "flaws", [], call.get("flaws"), stopped or late or None)
    check_error(result, where, row, call)
    if call.get("client") is not None or args.require_client:
        result.check(where, "client", row["client"], call.get("client"))
    if call.get("server") is not None:
        result.check(where, "server", row["server"], call.get("server"))
    if args.require_process:
        process = call.get("process") or {}
        known = all(process.get(k) for k in ("pid", "exe", "comm", "cmdline"))
        result.check(where, "process", "pid, exe, comm, cmdline", process, known)


def same_calls(wanted, got):
    strip = lambda calls, ids: [{k: c.get(k) for k in (("id", "name", "arguments") if ids else ("name", "arguments"))} for c in calls]
    ids = all(c.get("id") for c in wanted)
    return same_json(strip(wanted, ids), strip(got, ids))


def check_error(result, where, row, call):
    wanted, got = row.get("error"), call.get("error")
    if wanted is None:
        result.check(where, "error", None, got)
    elif got is None:
        result.check(where, "error", wanted, None)
    else:
        kinds = wanted.get("kinds") or [wanted["kind"]]
        free = wanted["kind"] in (None, "cut")  # a broken connection is named by how it broke
        result.check(where, "error.kind", wanted["kind"], got.get("kind"), free or got.get("kind") in kinds)


def fetch(url):
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": url.split("/")[2]}), timeout=30) as answer:
        return answer.read()


def compare_bodies(result, row, call, api):
    where = f"exchange {row['n']} ({row['wire_api']}, {row['protocol']}, call {str(call.get('id'))[:8]})"
    base = f"{api.rstrip('/')}/api/calls/{call['id']}"
    for half in ("request", "response"):
        if half == "response" and not row["complete"]:
            continue
        for key, query in ((f"{half}_body", ""), (f"{half}_decoded", "?decoded=1")):
            wanted = row[key]
            try:
                got = fetch(f"{base}/{half}/body{query}")
            except OSError as err:
                result.lost(where, f"{half}/body{query}: {err}", 1)
                continue
            if row["protocol"] == "ws":
                got = got.rstrip(b"\n")
            ok = len(got) == wanted["len"] and hashlib.sha256(got).hexdigest() == wanted["sha256"]
            result.check(where, f"{half}/body{query}", wanted["len"], describe(got, wanted), ok)
    detail = json.loads(fetch(base))
    if row["protocol"] != "ws":
        result.check(where, "method", row["method"], detail.get("method"))
        for half in ("request", "response"):
            headers = ((detail.get(half) or {}).get("headers")) or []
            got = [[h["name"].lower(), h["value"]] for h in headers if not h["name"].startswith(":")]
            wanted = [[name.lower(), value] for name, value in row[f"{half}_headers"] if not name.startswith(":")]
            if row["protocol"] == "h2" and half == "response":
                wanted = [h for h in wanted if h[0] not in ("transfer-encoding", "connection", "content-length")]
            blank = lambda pairs: [[n, "" if n in SECRET else v] for n, v in pairs]
            result.check(where, f"{half}.headers", blank(wanted), blank(got))
            for name, value in got:
                sent = next((v for n, v in wanted if n == name), None)
                if name in SECRET and value == sent:
                    result.lost(where, f"{half}.headers: the credential in {name} is stored as sent", 1)


def describe(got, wanted):
    if "b64" not in wanted:
        return len(got)
    sent = base64.b64decode(wanted["b64"])
    at = next((i for i, (a, b) in enumerate(zip(sent, got)) if a != b), min(len(sent), len(got)))
    return f"{len(got)} bytes, first difference at {at}"


def compare_turns(result, pairs, turns, one_turn):
    by_id = {call["id"]: row for row, call in pairs}
    for turn in turns:
        where = f"turn {str(turn.get('id'))[:8]}"
        rows = [by_id[i] for i in turn.get("call_ids") or [] if i in by_id]
        result.check(where, "call_ids", len(turn.get("call_ids") or []), len(rows))
        if rows and turn.get("status") == "complete":
            last = max(rows, key=lambda row: row["t_request_first"])
            result.check(where, "answer", last["answer"], turn.get("answer"))
            result.check(where, "tool_calls", sum(len(row["tool_calls"]) for row in rows), turn.get("tool_calls"))
    if one_turn:
        whole = [turn for turn in turns if set(turn.get("call_ids") or []) >= {c["id"] for _, c in pairs if not c.get("auxiliary")}]
        result.check("turns", "one turn holds all calls", True, [len(turn.get("call_ids") or []) for turn in turns], bool(whole))
        for turn in whole:
            result.check("turns", "status", "complete", turn.get("status"))
            result.check("turns", "prompt", one_turn, turn.get("prompt"), one_turn in (turn.get("prompt") or ""))
    in_turns = {i for turn in turns for i in turn.get("call_ids") or []}
    for row, call in pairs:
        if row.get("answer") and "HERON-DONE" in row["answer"] and not call.get("auxiliary"):
            result.check(f"exchange {row['n']}", "is in a turn", True, call["id"] in in_turns)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", required=True)
    parser.add_argument("--calls", required=True)
    parser.add_argument("--api")
    parser.add_argument("--turns", action="store_true", help="compare the turns too")
    parser.add_argument("--one-turn", metavar="PROMPT", help="with --turns: all calls but the auxiliary ones belong to one complete turn with this prompt")
    parser.add_argument("--client-may-stop", action="store_true", help="an answer's last bytes after the finish reason may be missing, with the flaw `cut`")
    parser.add_argument("--require-process", action="store_true")
    parser.add_argument("--require-client", action="store_true")
    parser.add_argument("--allow-missing", type=int, default=0, help="this many of the first calls may be missing (attach)")
    parser.add_argument("--attached", action="store_true", help="the --allow-missing first calls may also be there in part: they are not compared")
    parser.add_argument("--json", help="write a summary here")
    args = parser.parse_args()

    record = lines(args.record)
    expected = [row for row in record if row.get("kind") == "call"]
    knocks = sum(1 for row in record if row.get("jsonrpc"))
    output = lines(args.calls)
    seen = [row for row in output if row.get("type") == "call"]
    pairs, missing, extra = pair([r for r in expected if not r.get("warm_up")], seen)
    warm, _, extra = pair([r for r in expected if r.get("warm_up")], extra)

    if args.attached:
        began = sorted(expected, key=lambda row: row["t_request_first"])[:args.allow_missing]
        early = {row["n"] for row in began}
        dropped = [pair for pair in pairs if pair[0]["n"] in early]
        pairs = [pair for pair in pairs if pair[0]["n"] not in early]
        missing = began + [row for row in missing if row["n"] not in early]
        # Half a call looks like no row of the record: as many may be left over as had begun.
        extra = sorted(extra, key=lambda call: not call.get("flaws"))[max(0, args.allow_missing - len(dropped)):]
    # MCP clients that knocked are calls as well.
    mcp = [call for call in extra if call.get("wire_api") == "mcp"][:knocks]
    extra = [call for call in extra if call not in mcp]
    # A refused upgrade to WebSocket may count as a call or not.
    extra = [call for call in extra if call.get("status") != 426]
    result = Result()
    for row, call in pairs:
        compare(result, row, call, args)
        if args.api:
            compare_bodies(result, row, call, args.api)
    missing.sort(key=lambda row: row["t_request_first"])
    allowed = missing[:args.allow_missing]
    for row in missing[args.allow_missing:]:
        result.lost(f"exchange {row['n']} ({row['wire_api']}, {row['protocol']})", "not seen by heron")
    for call in extra:
        result.lost(f"call {call.get('id')}", f"heron reports a {call.get('wire_api')} call that the server has no record of")
    if args.turns:
        compare_turns(result, pairs + warm, [row for row in output if row.get("type") == "turn"], args.one_turn)

    for difference in result.differences:
        print(difference)
    summary = {
        "expected": len(expected) - len(warm), "seen": len(seen), "paired": len(pairs), "missing": len(missing), "allowed": len(allowed), "extra": len(extra),
        "warm_up": len(warm), "fields": result.compared, "equal": result.equal, "fidelity": round(result.fidelity, 3), "differences": len(result.differences),
        "with_client": sum(1 for _, c in pairs if c.get("client")), "with_process": sum(1 for _, c in pairs if c.get("process")),
    }
    if args.json:
        with open(args.json, "w") as file:
            json.dump(summary, file)
    print(f"{summary['paired']} of {summary['expected']} calls, {result.equal} of {result.compared} fields equal: fidelity {result.fidelity:.3f}%")
    sys.exit(1 if result.differences or not expected else 0)


if __name__ == "__main__":
    main()
