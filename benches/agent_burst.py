"""Many agents streaming at once, for benches/agent.py. Usage: agent_burst.py AGENTS SECONDS RATE SIZE

Each agent is a process with both ends of a TLS connection in its memory, so that nothing but TLS limits it: a request, then events
of SIZE bytes, RATE a second (0: as fast as they go). Prints `go` when all are connected, begins with a line on standard input, and
says what passed: plaintext bytes through SSL_write and SSL_read, events, the agents' CPU time.
"""
import json
import multiprocessing
import pathlib
import resource
import ssl
import sys
import time

CERT = pathlib.Path(__file__).resolve().parent.parent / "testdata" / "bpf" / "localhost.pem"
REQUEST = b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n" \
          b'{"model":"claude-bench-1","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"go"}]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def pair():
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(CERT)
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.check_hostname, client_side.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(down, up)
    server = server_side.wrap_bio(up, down, server_side=True)
    open_ends = [client, server]
    while open_ends:
        for end in list(open_ends):
            try:
                end.do_handshake()
                open_ends.remove(end)
            except ssl.SSLWantReadError:
                pass
    return client, server


def agent(number, seconds, rate, size, ready, go, results):
    client, server = pair()
    ready.release()
    go.wait()
    frame = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}\n\n'
    event = frame % (b"w" * max(1, size - len(frame) + 2))
    client.write(REQUEST)
    moved = 2 * len(server.read(65536))
    server.write(HEAD)
    moved += 2 * len(client.read(65536))
    before = resource.getrusage(resource.RUSAGE_SELF)
    begun, events = time.perf_counter(), 0
    end = begun + seconds
    while (now := time.perf_counter()) < end:
        due = int((now - begun) * rate) + 1 if rate else events + 50
        while events < due:
            server.write(event)
            moved += 2 * len(client.read(65536))
            events += 1
        if rate:
            time.sleep(0.002)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
    results.put({"bytes": moved, "events": 2 * events, "cpu_us": spent * 1e6})


def main():
    agents, seconds, rate, size = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    ready, go, results = multiprocessing.Semaphore(0), multiprocessing.Event(), multiprocessing.Queue()
    children = [multiprocessing.Process(target=agent, args=(n, seconds, rate / agents, size, ready, go, results)) for n in range(agents)]
    for child in children:
        child.start()
    for _ in children:
        ready.acquire()
    print("go", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    go.set()
    total = {"bytes": 0, "events": 0, "cpu_us": 0.0}
    for _ in children:
        for name, value in results.get().items():
            total[name] += value
    for child in children:
        child.join()
    print(json.dumps({**total, "seconds": time.perf_counter() - begun}), flush=True)


main()
