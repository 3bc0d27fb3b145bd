"""Makes the server's own CA and a leaf certificate with the `openssl` command, new at every start."""

import os
import subprocess

NAMES = [
    "localhost",
    "api.anthropic.com",
    "api.openai.com",
    "chatgpt.com",
    "generativelanguage.googleapis.com",
    "cloudcode-pa.googleapis.com",
    "api.github.com",
    "api.githubcopilot.com",
    "api.individual.githubcopilot.com",
    "openrouter.ai",
    "api.deepseek.com",
    "api.mistral.ai",
    "api.cohere.com",
    "bedrock-runtime.us-east-1.amazonaws.com",
    "api.cline.bot",
    "telemetry.example.com",
]


def make(directory):
    """Writes ca.pem, leaf.pem and leaf.key into `directory`; returns their paths."""
    os.makedirs(directory, exist_ok=True)
    path = lambda name: os.path.join(directory, name)
    run = lambda *args: subprocess.run(["openssl", *args], check=True, capture_output=True)
    with open(path("leaf.ext"), "w") as ext:
        alt = ",".join(["IP:127.0.0.1", "IP:::1"] + [f"DNS:{name}" for name in NAMES])
        ext.write(
            f"subjectAltName={alt}\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
            "extendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run("req", "-x509", *key, "-keyout", path("ca.key"), "-out", path("ca.pem"), "-days", "30", "-subj", "/CN=Heron test CA",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    run("req", *key, "-keyout", path("leaf.key"), "-out", path("leaf.csr"), "-subj", "/CN=localhost")
    run("x509", "-req", "-in", path("leaf.csr"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-CAcreateserial",
        "-days", "30", "-extfile", path("leaf.ext"), "-out", path("leaf.pem"))
    return {"ca": path("ca.pem"), "leaf": path("leaf.pem"), "key": path("leaf.key")}
