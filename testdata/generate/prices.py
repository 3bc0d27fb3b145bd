#!/usr/bin/env python3
"""Makes src/price/table.tsv.gz out of the price table in litellm's package on PyPI (MIT; src/price/ORIGIN.md has its notice).

    pip download --no-deps litellm && unzip litellm-*.whl 'litellm/model_prices_and_context_window_backup.json'
    testdata/generate/prices.py litellm/model_prices_and_context_window_backup.json --version 1.110.2 --date 2026-11-28

Prices are picodollars a token. A line is: provider, model, context window, then one field for each set of prices, `NAME=input/output/
cache read/cache write/cache write of an hour/reasoning` with empty parts where the table says nothing. NAME is empty for the standard
price, `p`, `f`, `b` for the service tiers priority, flex, batch, and `>N` before it for requests of more than N input tokens."""

import argparse
import gzip
import json
import re
from pathlib import Path

PROVIDERS = {
    "anthropic": "anthropic", "openai": "openai", "text-completion-openai": "openai", "azure": "azure.ai.openai",
    "azure_text": "azure.ai.openai", "azure_ai": "azure.ai.inference", "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock", "bedrock_mantle": "aws.bedrock", "amazon_nova": "aws.bedrock", "gemini": "gcp.gemini",
    "mistral": "mistral_ai", "codestral": "mistral_ai", "text-completion-codestral": "mistral_ai", "cohere": "cohere",
    "cohere_chat": "cohere", "deepseek": "deepseek", "groq": "groq", "xai": "x_ai", "perplexity": "perplexity",
    "together_ai": "together_ai", "fireworks_ai": "fireworks_ai", "cerebras": "cerebras", "sambanova": "sambanova",
    "nvidia_nim": "nvidia", "moonshot": "moonshot_ai", "zai": "z_ai", "bigmodel": "z_ai", "dashscope": "alibaba_cloud",
    "minimax": "minimax", "deepinfra": "deepinfra", "novita": "novita", "hyperbolic": "hyperbolic", "baseten": "baseten",
    "ai21": "ai21", "watsonx": "ibm.watsonx.ai", "databricks": "databricks", "snowflake": "snowflake",
    "vercel_ai_gateway": "vercel", "voyage": "voyage_ai", "jina_ai": "jina_ai", "cloudflare": "cloudflare",
    "volcengine": "volcengine",
}  # fmt: skip
MODES = {"chat", "completion", "responses", "embedding", "realtime"}
CLASSES = [
    "input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost", "cache_creation_input_token_cost",
    "cache_creation_input_token_cost_above_1hr", "output_cost_per_reasoning_token",
]  # fmt: skip
TIERS = {"": "", "_priority": "p", "_flex": "f", "_batches": "b"}


def picodollars(price):
    return "" if not isinstance(price, (int, float)) else str(round(price * 1e12))


def prices(entry, suffix, tier):
    parts = [picodollars(entry.get(name + suffix + tier)) for name in CLASSES]
    return "/".join(parts).rstrip("/") if any(part not in ("", "0") for part in parts[:2]) else ""


def tiered(entry):
    """`tiered_pricing`: the first range is the standard price, each later one the price above its beginning."""
    for number, tier in enumerate(entry.get("tiered_pricing") or []):
        threshold = int(tier["range"][0])
        for name in CLASSES:
            if name in tier:
                entry[name + ("" if number == 0 else f"_above_{threshold // 1000}k_tokens")] = tier[name]


def fields(entry):
    tiered(entry)
    thresholds = sorted({int(found[1]) for key in entry if (found := re.search(r"_above_(\d+)k_tokens", key))})
    for suffix, threshold in [("", "")] + [(f"_above_{k}k_tokens", f">{k * 1000}") for k in thresholds]:
        for tier, letter in TIERS.items():
            if found := prices(entry, suffix, tier):
                yield f"{threshold}{letter}={found}"


def lines(table):
    for key, entry in table.items():
        if key == "sample_spec" or not isinstance(entry, dict) or entry.get("mode") not in MODES:
            continue
        source = entry.get("litellm_provider", "")
        provider = PROVIDERS.get("vertex_ai" if source.startswith("vertex_ai") else source) or ("gcp.vertex_ai" if source.startswith("vertex_ai") else None)
        name = key.removeprefix(source + "/").removeprefix("vertex_ai/").removeprefix("bedrock/").removeprefix("azure/")
        # A region's own price cannot be told from a call: the name carries no region.
        if provider is None or re.match(r"(us|eu|ap|ca|sa|me|af|il|mx)[a-z-]*-\d/|(us|eu|global|global-standard)/|\d", name):
            continue
        found = list(fields(dict(entry)))
        if found and found[0].startswith("="):
            yield "\t".join([provider, name.lower(), str(int(entry.get("max_input_tokens") or 0) or ""), *found])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--date", required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "src/price/table.tsv.gz")
    args = parser.parse_args()
    head = f"# litellm {args.version}, {args.date}, MIT"
    text = "\n".join([head, *sorted(set(lines(json.loads(args.table.read_text()))))]) + "\n"
    args.out.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{text.count(chr(10)) - 1} models, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
