#!/usr/bin/env python3
"""Makes testdata/pcap/tls: real TLS connections of openssl, curl and Python, captured with their key logs.

Runs in a network namespace of its own (needs root, openssl, curl, tcpdump). Each NAME.pcap has a NAME.keys, and what
client and server said in NAME.sent and NAME.received (the concatenated plaintext of all connections, in order).
With names as arguments only those are made anew.
"""
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

OUT = pathlib.Path(__file__).resolve().parent.parent / "pcap" / "tls"
PORT = 4433
ONLY = {name for name in sys.argv[1:] if name != "--inside"}
NO_ENCRYPT_THEN_MAC = 1 << 19  # SSL_OP_NO_ENCRYPT_THEN_MAC; the module has no name for it


def text(n, seed):
    state, out = seed, []
    for _ in range(n):
        state = (state * 1103515245 + 12345) % 2**31
        out.append("abcdefghijklmnopqrstuvwxyz \n"[state >> 16 & 31 if (state >> 16 & 31) < 28 else 0])
    return "".join(out).encode()


class Capture:
    """tcpdump on lo while the block runs."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        command = ["tcpdump", "-i", "lo", "-U", "--immediate-mode", "-B", "65536", "-w", str(OUT / f"{self.name}.pcap"), "tcp"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while "listening" not in self.process.stderr.readline():
            pass
        return self

    def __exit__(self, *_):
        time.sleep(0.5)
        self.process.terminate()
        self.process.wait()


def certificate(directory, names=1):
    key, cert = f"{directory}/key-{names}.pem", f"{directory}/cert-{names}.pem"
    others = "".join(f",DNS:alternative-{n}.models.test" for n in range(1, names))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=models.test",
                    "-addext", f"subjectAltName=DNS:models.test{others}"], check=True, stderr=subprocess.DEVNULL)
    return key, cert


class Server(threading.Thread):
    """A TLS server that answers each request with a fixed response and closes."""

    def __init__(self, context, answers, received):
        super().__init__(daemon=True)
        self.context, self.answers, self.received = context, answers, received
        self.listener = socket.create_server(("127.0.0.1", PORT))
        self.error = None

    def run(self):
        try:
            for answer in self.answers:
                raw, _ = self.listener.accept()
                with self.context.wrap_socket(raw, server_side=True) as tls:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += tls.recv(65536)
                    head, _, body = request.partition(b"\r\n\r\n")
                    length = 0
                    for line in head.split(b"\r\n"):
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    while len(body) < length:
                        more = tls.recv(65536)
                        request, body = request + more, body + more
                    self.received.append(request)
                    tls.sendall(answer)
        except Exception as error:  # told by the caller
            self.error = error
        finally:
            self.listener.close()


def curl_case(name, directory, key, cert, arguments, prepare=lambda context: None, count=1):
    if ONLY and name not in ONLY:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    prepare(context)
    body = text(24_000, 7)
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
    received = []
    server = Server(context, [answer] * count, received)
    keys = OUT / f"{name}.keys"
    keys.unlink(missing_ok=True)
    post = pathlib.Path(directory) / "post"
    post.write_bytes(text(20_000, 9))
    with Capture(name):
        server.start()
        urls = [f"https://models.test:{PORT}/v1/messages"] * count
        subprocess.run(["curl", "-s", "--http1.1", "--cacert", cert, "--resolve", f"models.test:{PORT}:127.0.0.1",
                        "-H", "Expect:", "--data-binary", f"@{post}", *arguments, *urls],
                       check=True, stdout=subprocess.DEVNULL, env={"SSLKEYLOGFILE": str(keys), "PATH": os.environ["PATH"]})
        server.join()
    if server.error:
        raise server.error
    (OUT / f"{name}.sent").write_bytes(b"".join(received))
    (OUT / f"{name}.received").write_bytes(answer * count)


def old_ciphers(context):
    context.set_ciphers("ALL:@SECLEVEL=0")


def mac_first(context):
    old_ciphers(context)
    context.options |= NO_ENCRYPT_THEN_MAC


def old_versions(context):
    old_ciphers(context)
    context.minimum_version = ssl.TLSVersion.TLSv1


def openssl_server(directory, key, cert, *arguments):
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{PORT}", "-key", key, "-cert", cert, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as probe:
            # The probe is a connection without data: the capture begins later.
            if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                return process
        time.sleep(0.02)
    raise RuntimeError("openssl s_server does not answer")


def lines_reversed(data):
    return b"".join(line[::-1] + b"\n" for line in data.split(b"\n")[:-1])


def key_update(name, directory, key, cert, *arguments):
    """openssl s_client: K at the start of a line updates the keys of both sides, k its own."""
    if ONLY and name not in ONLY:
        return
    server = openssl_server(directory, key, cert, "-quiet", "-rev", *arguments)
    keys = OUT / f"{name}.keys"
    keys.unlink(missing_ok=True)
    parts = [b"GET /first HTTP/1.1\n", text(500, 3).replace(b"\n", b" ") + b"\n", b"after both updates\n", b"the end\n"]
    with Capture(name):
        client = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{PORT}", "-servername", "models.test",
                                   "-keylogfile", str(keys)],
                                  stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        for part, command in zip(parts, [b"K\n", b"k\n", b"K\n", b""]):
            for write in (part, command):
                if write:
                    client.stdin.write(write)
                    client.stdin.flush()
                    time.sleep(0.3)
        client.stdin.write(b"Q\n")
        client.stdin.flush()
        client.wait()
        time.sleep(0.3)
    server.kill()
    server.wait()
    (OUT / f"{name}.sent").write_bytes(b"".join(parts))
    # The echo server stays silent on the last line (tshark agrees).
    (OUT / f"{name}.received").write_bytes(lines_reversed(b"".join(parts[:3])))


def early_data(name, directory, key, cert, accept):
    """The second connection resumes the first and sends its request as early data."""
    if ONLY and name not in ONLY:
        return
    keys = OUT / f"{name}.keys"
    keys.unlink(missing_ok=True)
    session, early = f"{directory}/session", pathlib.Path(directory) / "early"
    early.write_bytes(b"POST /early HTTP/1.1\n" + text(3000, 5).replace(b"\n", b" ") + b"\n")
    server = openssl_server(directory, key, cert, *(["-early_data", "-no_anti_replay"] if accept else []))
    client = ["openssl", "s_client", "-connect", f"127.0.0.1:{PORT}", "-servername", "models.test"]
    with Capture(name):
        first = subprocess.Popen([*client, "-keylogfile", str(keys), "-sess_out", session], stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        first.stdin.write(b"hello\n")
        first.stdin.flush()
        time.sleep(0.3)
        first.stdin.write(b"Q\n")
        first.stdin.flush()
        first.wait()
        second = subprocess.Popen([*client, "-keylogfile", str(keys), "-sess_in", session, "-early_data", str(early)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        second.stdin.write(b"more\n")
        second.stdin.flush()
        time.sleep(0.3)
        second.stdin.write(b"Q\n")
        second.stdin.flush()
        told = second.communicate()[0].decode("utf-8", "replace")
    server.kill()
    server.wait()
    accepted = "Early data was accepted" in told
    print(name, "accepted" if accepted else "refused")
    sent = b"hello\n" + (early.read_bytes() if accepted else b"") + b"more\n"
    (OUT / f"{name}.sent").write_bytes(sent)
    (OUT / f"{name}.received").write_bytes(b"")


def main():
    if "--inside" not in sys.argv:
        command = f"ip link set lo mtu 1500 gso_max_segs 1 up && exec {sys.executable} {__file__} --inside {' '.join(ONLY)}"
        sys.exit(subprocess.run(["unshare", "-n", "sh", "-c", command]).returncode)
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        key, cert = certificate(directory)
        case = lambda name, arguments, **more: curl_case(name, directory, key, cert, arguments, **more)
        case("tls13-aes256", ["--tlsv1.3", "--tls13-ciphers", "TLS_AES_256_GCM_SHA384"])
        case("tls13-aes128", ["--tlsv1.3", "--tls13-ciphers", "TLS_AES_128_GCM_SHA256"])
        case("tls13-chacha", ["--tlsv1.3", "--tls13-ciphers", "TLS_CHACHA20_POLY1305_SHA256"])
        case("tls13-retry", ["--tlsv1.3"], prepare=lambda context: context.set_ecdh_curve("secp384r1"))
        case("tls13-resumed", ["--tlsv1.3"], count=2)
        for name, cipher in [("aes128", "ECDHE-ECDSA-AES128-GCM-SHA256"), ("aes256", "ECDHE-ECDSA-AES256-GCM-SHA384"),
                             ("chacha", "ECDHE-ECDSA-CHACHA20-POLY1305")]:
            case(f"tls12-{name}", ["--tls-max", "1.2", "--ciphers", cipher])
        long_key, long_cert = certificate(directory, names=150)
        curl_case("tls12-long", directory, long_key, long_cert, ["--tls-max", "1.2"])
        case("tls12-resumed", ["--tls-max", "1.2"], count=2)
        case("tls12-resumed-id", ["--tls-max", "1.2"], count=2,
             prepare=lambda context: setattr(context, "options", context.options | ssl.OP_NO_TICKET))
        # Block ciphers; libraries agree on the MAC over the ciphertext where nobody forbids it.
        case("tls12-cbc", ["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES128-SHA256"], prepare=old_ciphers)
        case("tls12-cbc-sha384", ["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES256-SHA384"], prepare=old_ciphers)
        case("tls12-cbc-mac-first", ["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES128-SHA256"], prepare=mac_first)
        case("tls12-cbc-sha1-mac-first", ["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES256-SHA"], prepare=mac_first)
        case("tls11", ["--tlsv1.0", "--tls-max", "1.1", "--ciphers", "ALL:@SECLEVEL=0"], prepare=old_versions)
        key_update("tls13-key-update", directory, key, cert)
        early_data("tls13-early", directory, key, cert, accept=True)
        early_data("tls13-early-refused", directory, key, cert, accept=False)


main()
