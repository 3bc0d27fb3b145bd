"""What the Python agents share: their arguments, how calls are counted, and the one tool."""

import argparse
import subprocess


def parse(doc):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--calls", type=int, default=2)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--stream", dest="mode", action="store_const", const="stream")
    how.add_argument("--no-stream", dest="mode", action="store_const", const="no-stream")
    how.add_argument("--mixed", dest="mode", action="store_const", const="mixed")
    parser.add_argument("--async", dest="use_async", action="store_true")
    parser.add_argument("--concurrency", type=int, default=1, help="with --async: conversations at a time")
    parser.add_argument("--http2", action="store_true")
    parser.add_argument("--big", type=int, default=0, help="pad each prompt to this many bytes")
    parser.add_argument("--no-tools", action="store_true")
    parser.add_argument("--thinking", action="store_true")
    parser.add_argument("--responses", action="store_true", help="openai_agent: the Responses API")
    parser.add_argument("--prompt", default="Run the probe — läuft's? 🚀")
    parser.add_argument("--model")
    parser.set_defaults(mode="stream")
    return parser.parse_args()


def http_client(args, kind):
    """The SDK's own HTTP client, or the same with HTTP/2."""
    return kind(http2=True) if args.http2 else kind()


class Rounds:
    """Prompts until the budget of calls is spent; says for each call whether to stream it."""

    def __init__(self, args, budget=None):
        self.args = args
        self.left = args.calls if budget is None else budget
        self.made = 0
        self.rounds = 0

    @classmethod
    def shared(cls, args):
        """One for each conversation that runs at the same time; the budget is dealt out."""
        count = min(args.concurrency, args.calls)
        return [cls(args, args.calls // count + (1 if k < args.calls % count else 0)) for k in range(count)]

    def __iter__(self):
        return self

    def __next__(self):
        if self.left <= 0:
            raise StopIteration
        self.rounds += 1
        prompt = f"{self.args.prompt} ({self.rounds})"
        return prompt + "".join(f" padding {i} ü" for i in range(max(0, self.args.big - len(prompt)) // 14))

    def next_call(self):
        if self.left <= 0:
            return False
        self.left -= 1
        self.made += 1
        return True

    @property
    def stream(self):
        return self.args.mode == "stream" or (self.args.mode == "mixed" and self.made % 2 == 1)


def run_tool(command):
    """Runs the harmless command that the scripted server asks for, and nothing else."""
    if not command.startswith("echo heron-probe"):
        return "refused"
    return subprocess.run(["echo", *command.split()[1:]], capture_output=True, text=True, check=True).stdout
