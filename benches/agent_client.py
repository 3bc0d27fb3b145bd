"""A Python agent for benches/agent.py: streams one answer and says what it cost. Usage: agent_client.py PORT TOKENS RATE SIZE"""
import json
import resource
import socket
import ssl
import sys
import time


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return (usage.ru_utime + usage.ru_stime) * 1e6


def main():
    port, tokens, rate, size = map(int, sys.argv[1:5])
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    body = b'{"model":"claude-bench-1","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"go"}]}'

    def ask(tokens, rate):
        head = f"POST /v1/messages?tokens={tokens}&rate={rate}&size={size} HTTP/1.1\r\nhost: localhost\r\n" \
               f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        conn.sendall(head.encode() + body)
        gaps, seen, tail = [], 0, b""
        before = time.perf_counter()
        while not tail.endswith(b"0\r\n\r\n"):
            data = conn.recv(65536)
            now = time.perf_counter()
            gaps.append(now - before)
            before = now
            seen += data.count(b"content_block_delta")
            tail = (tail + data)[-16:]
        return gaps, seen

    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as conn:
        ask(200, 0)
        began, at = cpu(), time.perf_counter()
        gaps, seen = ask(tokens, rate)
        took, spent = time.perf_counter() - at, cpu() - began
    gaps = sorted(gaps[2:])
    print(json.dumps({"tokens": seen, "reads": len(gaps), "cpu_us": spent, "seconds": took,
                      "p50_us": gaps[len(gaps) // 2] * 1e6, "p99_us": gaps[len(gaps) * 99 // 100] * 1e6}), flush=True)


main()
