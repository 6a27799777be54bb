#!/usr/bin/env python3
"""Makes src/provider/prices.tsv out of LiteLLM's public price table (MIT licence).

    pip download litellm==VERSION --no-deps
    tests/prices/convert.py litellm-VERSION-*.whl DATE

Decimal text becomes integers; no number ever passes through a float. What tidegate could only
price wrongly is left out: images, speech and realtime (their parts have prices of their own, which
a sum of tokens cannot tell apart), and entries whose prices are all zero, since a zero there often
stands for a price that is not known.
"""

import hashlib
import json
import pathlib
import re
import sys
import zipfile
from decimal import Decimal

SOURCE = "litellm/model_prices_and_context_window_backup.json"
OUT = pathlib.Path(__file__).resolve().parents[2] / "src/provider/prices.tsv"
UNIT_EXPONENT = 15
MODES = {"chat", "responses", "completion", "embedding", "audio_transcription"}

# LiteLLM's provider -> our slug, or the author that the catalogue names; earlier lines win.
PROVIDERS = [
    ("openai", "openai"),
    ("text-completion-openai", "openai"),
    ("anthropic", "anthropic"),
    ("gemini", "google-ai-studio"),
    ("vertex_ai", "google-vertex-ai"),
    ("azure", "azure-openai"),
    ("azure_text", "azure-openai"),
    ("azure_ai", "azure-openai"),
    ("bedrock_converse", "aws-bedrock"),
    ("bedrock", "aws-bedrock"),
    ("bedrock_mantle", "aws-bedrock"),
    ("cloudflare", "workers-ai"),
    ("groq", "groq"),
    ("replicate", "replicate"),
    ("cohere_chat", "cohere"),
    ("cohere", "cohere"),
    ("mistral", "mistral"),
    ("codestral", "mistral"),
    ("deepseek", "deepseek"),
    ("xai", "grok"),
    ("perplexity", "perplexity-ai"),
    ("openrouter", "openrouter"),
    ("cerebras", "cerebras"),
    ("fireworks_ai", "fireworks"),
    ("fireworks_ai-embedding-models", "fireworks"),
    ("baseten", "baseten"),
    ("dashscope", "alibaba"),
    ("minimax", "minimax"),
    ("zai", "z-ai"),
    ("moonshot", "moonshotai"),
]

# Price kinds in the order of the columns.
KINDS = [
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
    "cache_creation_input_token_cost_above_1hr",
    "output_cost_per_reasoning_token",
]
INPUT, OUTPUT, READ, WRITE, HOUR, REASONING = range(6)
ABOVE = re.compile(r"^(.*)_above_(\d+)k_tokens$")


def units(value):
    """Dollars as a whole number of units; None for what is no price."""
    if not isinstance(value, (Decimal, int)) or isinstance(value, bool) or value < 0:
        return None
    scaled = Decimal(value).scaleb(UNIT_EXPONENT)
    if scaled != scaled.to_integral_value():
        raise SystemExit(f"{value} is finer than the unit")
    return int(scaled)


def rates(entry):
    row = [units(entry.get(kind)) for kind in KINDS]
    if row[READ] is None:
        row[READ] = units(entry.get("input_cost_per_token_cache_hit"))
    if entry.get("mode") == "audio_transcription":
        # What goes in is sound.
        audio = units(entry.get("input_cost_per_audio_token"))
        row[INPUT] = row[INPUT] if audio is None else audio
    if row[REASONING] == row[OUTPUT]:
        row[REASONING] = None
    return row


def tiers(entry, base):
    """Prices above thresholds of input tokens; what a tier does not say is as in the base."""
    found = {}
    for name, value in entry.items():
        above = ABOVE.match(name)
        if above and above[1] in KINDS and units(value) is not None:
            tier = found.setdefault(int(above[2]) * 1000, list(base))
            tier[KINDS.index(above[1])] = units(value)
    return found


def ranges(entry):
    """A list of ranges of input tokens, each with its prices."""
    steps = sorted(entry.get("tiered_pricing") or [], key=lambda step: int(step.get("range", [0])[0]))
    found = {int(step["range"][0]): rates(step) for step in steps if "range" in step}
    return found.pop(0, None), found


def place(key, provider):
    """Our slug, the model's name there, and the entry's rank among those of the same name."""
    for rank, (theirs, slug) in enumerate(PROVIDERS):
        vertex = theirs == "vertex_ai" and provider.startswith("vertex_ai")
        if provider != theirs and not vertex:
            continue
        model = key
        for prefix in (theirs, slug, "fireworks_ai"):
            model = model.removeprefix(prefix + "/")
        # Prices of one region, or of reserved capacity: the answer does not say which it was.
        if slug in ("azure-openai", "aws-bedrock") and "/" in model:
            return None
        # LiteLLM's price classes by size are no models.
        if model.startswith("fireworks-ai-"):
            return None
        # Of a name with and without its provider's prefix, the one with it.
        return slug, model, rank * 2 + (model == key)
    return None


def main():
    wheel, date = pathlib.Path(sys.argv[1]), sys.argv[2]
    with zipfile.ZipFile(wheel) as archive:
        raw = archive.read(SOURCE)
    # The digits as they are written; a name that occurs twice would be a mistake worth seeing.
    source = json.loads(raw, parse_float=Decimal)
    source.pop("sample_spec", None)
    table = {}
    for key, entry in source.items():
        at = place(key, entry.get("litellm_provider") or "")
        if at is None or entry.get("mode") not in MODES:
            continue
        slug, model, rank = at
        base, above = rates(entry), None
        if entry.get("tiered_pricing"):
            first, above = ranges(entry)
            base = first or base
        above = {**tiers(entry, base), **(above or {})}
        if base[INPUT] is None and base[OUTPUT] is None:
            continue
        if not any(base) and not any(any(tier) for tier in above.values()):
            continue
        limit = entry.get("max_output_tokens")
        limit = str(int(limit)) if isinstance(limit, (int, Decimal)) else "-"
        row = (rank, entry["mode"], limit, base, above)
        name = f"{slug}/{model}"
        if any(ord(c) <= 32 or ord(c) > 126 for c in name):
            continue
        if name not in table or rank < table[name][0]:
            table[name] = row

    # Vertex paths name the publisher apart: `meta/llama-x` is found as `llama-x` too.
    for name in sorted(table):
        slug, _, model = name.partition("/")
        bare = f"{slug}/{model.rpartition('/')[2]}"
        if slug == "google-vertex-ai" and bare not in table:
            table[bare] = table[name]

    def cells(row):
        return ["-" if rate is None else str(rate) for rate in row]

    lines = []
    for name in sorted(table):
        _, mode, limit, base, above = table[name]
        steps = [":".join([str(at), *cells(above[at])]) for at in sorted(above)]
        lines.append("\t".join([name, mode, limit, *cells(base), " ".join(steps) or "-"]))
    version = wheel.name.split("-")[1]
    header = f"""\
# List prices per token, for an estimate of what an exchange costs.
# Converted from the price table of LiteLLM {version} (PyPI package `litellm`), {date};
# file {SOURCE},
# sha256 {hashlib.sha256(raw).hexdigest()}.
# Its licence is in prices.LICENSE; the converter is tests/prices/convert.py.
# Unit: 10^-{UNIT_EXPONENT} US dollars a token. `-` is unknown. Sorted by bytes.
# Columns: provider/model, mode, most output tokens, then prices of input, output, cache read, cache
# write, cache write for an hour, reasoning; then tiers `above:` and the same prices, which apply to
# all tokens of an exchange with more input tokens than `above`.
"""
    OUT.write_text(header + "\n".join(lines) + "\n", encoding="ascii")
    print(f"{len(lines)} models, {OUT.stat().st_size} bytes")


main()
