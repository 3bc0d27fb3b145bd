"""Mixed traffic for benches/agent.py: LLM calls among what else an agent sends. Usage: agent_mixed.py PORT ROUNDS

Says how many bytes of plaintext belong to LLM requests and their answers, and how many to anything else.
"""
import json
import random
import socket
import ssl
import sys

PORT, ROUNDS = int(sys.argv[1]), int(sys.argv[2])
OTHER = ["/repo.git/info/refs", "/repo.git/git-upload-pack", "/some-package/-/some-package-1.2.3.tgz", "/api/event_logging/batch",
         "/v1/traces", "/v1/messages-archive", "/simple/requests/", "/graphql"]
LLM = ["/v1/messages", "/v1/chat/completions", "/v1/responses", "/v1beta/models/gemini-x:generateContent"]


def connect():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection(("127.0.0.1", PORT)), server_hostname="localhost")


def exchange(conn, path, sent, wanted):
    """Bytes of plaintext both ways."""
    head = f"POST {path}?size={wanted} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {sent}\r\n\r\n"
    frame = b'{"model":"m","messages":[{"role":"user","content":""}]}'
    body = frame[:-4] + b"B" * (sent - len(frame)) + frame[-4:] if sent >= len(frame) else b" " * sent
    conn.sendall(head.encode() + body)
    data = conn.recv(65536)
    while b"\r\n\r\n" not in data:
        data += conn.recv(65536)
    total = data.index(b"\r\n\r\n") + 4 + wanted
    have = len(data)
    while have < total:
        have += len(conn.recv(1 << 20))
    return len(head) + sent + total


def main():
    dice = random.Random(6)
    conns = [connect() for _ in range(4)]
    llm = other = 0
    for _ in range(ROUNDS):
        conn = dice.choice(conns)
        if dice.random() < 0.2:
            llm += exchange(conn, dice.choice(LLM), dice.randrange(60, 90_000), dice.randrange(2, 40_000))
        else:
            other += exchange(conn, dice.choice(OTHER), dice.randrange(0, 300_000), dice.randrange(2, 200_000))
    # One write each, from a kilobyte to eight megabytes.
    sizes = [1 << shift for shift in range(10, 24)]
    for size in sizes:
        llm += exchange(conns[0], "/v1/messages", size, 2)
    print(json.dumps({"llm": llm, "other": other, "sizes": sizes}), flush=True)


main()
