#!/usr/bin/env python3
"""Makes src/provider/prices.tsv out of LiteLLM's public price table (MIT licence).

    pip download litellm==VERSION --no-deps
    tests/prices/convert.py litellm-VERSION-*.whl DATE

Decimal text becomes integers; no number ever passes through a float. What tidegate could only
price wrongly is left out: pictures whose price goes by size or quality, speech by the character,
realtime sessions, and entries whose prices are all zero, since a zero there often stands for a
price that is not known.
"""

import hashlib
import json
import pathlib
import re
import sys
import zipfile
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

SOURCE = "litellm/model_prices_and_context_window_backup.json"
OUT = pathlib.Path(__file__).resolve().parents[2] / "src/provider/prices.tsv"
UNIT_EXPONENT = 15
MODES = {
    "chat",
    "responses",
    "completion",
    "embedding",
    "audio_transcription",
    "image_generation",
    "image_edit",
    "rerank",
}
# Letters of the classes of service, and how the source ends the names of their prices.
CLASSES = {"b": "_batches", "f": "_flex", "p": "_priority"}
# Letters of what is paid by kind or by the piece.
INPUT_AUDIO, OUTPUT_AUDIO, INPUT_IMAGE, IMAGE, SECOND, SEARCH = "aApisq"
# Bills at least ten seconds a request, which a sum of seconds does not tell.
NOT_BY_SECOND = {"groq"}

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
    if scaled != scaled.to_integral_value() and not periodic(scaled):
        raise SystemExit(f"{value} is finer than the unit")
    return int(scaled.quantize(Decimal(1), ROUND_HALF_UP))


def periodic(value):
    """Says whether a number ends as a third or the like does once it is written out."""
    return len(set(str(value).rpartition(".")[2][:-1])) == 1


def rates(entry):
    row = [units(entry.get(kind)) for kind in KINDS]
    if row[READ] is None:
        row[READ] = units(entry.get("input_cost_per_token_cache_hit"))
    if entry.get("mode") == "audio_transcription":
        # What goes in is sound.
        audio = units(entry.get("input_cost_per_audio_token"))
        row[INPUT] = row[INPUT] if audio is None else audio
    if entry.get("mode") in ("image_generation", "image_edit"):
        # What comes out is pictures.
        picture = units(entry.get("output_cost_per_image_token"))
        row[OUTPUT] = row[OUTPUT] if picture is None else picture
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


def classes(entry, base, above):
    """Prices in other classes of service, by letter and threshold. What a class leaves unsaid is
    taken only where all that it says is the same part of the standard price; else the class is
    left out."""
    found = {}
    for letter, ending in CLASSES.items():
        for threshold, standard in {0: base, **above}.items():
            middle = f"_above_{threshold // 1000}k_tokens" if threshold else ""
            row = [units(entry.get(kind + middle + ending)) for kind in KINDS]
            said = [(theirs, ours) for theirs, ours in zip(row, standard) if theirs is not None]
            if not said:
                continue
            parts = {Fraction(theirs, ours) if ours else None for theirs, ours in said}
            for kind, ours in enumerate(standard):
                if row[kind] is not None or ours is None:
                    continue
                scaled = ours * parts.copy().pop() if len(parts) == 1 and None not in parts else None
                if scaled is None or scaled.denominator != 1:
                    break
                row[kind] = int(scaled)
            else:
                found[letter, threshold] = row
        # A class that has a base and lacks a tier would undercharge long inputs.
        if any((letter, threshold) not in found for threshold in [0, *above]):
            found = {at: row for at, row in found.items() if at[0] != letter}
    return found


def extras(entry, row, slug):
    """What is paid by kind, or by the piece where tokens have no price."""
    found = {}
    mode = entry["mode"]
    pictures = mode in ("image_generation", "image_edit")
    if mode != "audio_transcription":
        found[INPUT_AUDIO] = units(entry.get("input_cost_per_audio_token"))
        found[OUTPUT_AUDIO] = units(entry.get("output_cost_per_audio_token"))
    found[INPUT_IMAGE] = units(entry.get("input_cost_per_image_token"))
    for letter, of in ((INPUT_AUDIO, INPUT), (OUTPUT_AUDIO, OUTPUT), (INPUT_IMAGE, INPUT)):
        if found.get(letter) == row[of]:
            found[letter] = None
    by_token = row[INPUT] or row[OUTPUT]
    by_size = any(re.search(r"pixel|per_image_\d|per_second_\d", name) for name in entry)
    if pictures and not by_token and not by_size:
        found[IMAGE] = units(entry.get("output_cost_per_image"))
    if mode == "audio_transcription" and not by_token and slug not in NOT_BY_SECOND:
        found[SECOND] = units(entry.get("input_cost_per_second"))
    if mode == "rerank" and not by_token:
        found[SEARCH] = units(entry.get("input_cost_per_query"))
    return {letter: price for letter, price in found.items() if price}


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
        # Pictures of one size or quality.
        if re.match(r"(\d+-x-\d+|hd|low|medium|high|standard|max-x-max)/|.*\d+-(x|steps)-", model):
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
        extra = extras(entry, base, slug)
        if entry["mode"] in ("image_generation", "image_edit", "rerank"):
            # A token price of zero there says that something else is paid.
            if not any(base):
                base = [None] * len(base)
            if not extra and not any(base):
                continue
        if base[INPUT] is None and base[OUTPUT] is None and not extra:
            continue
        if not any(base) and not any(any(tier) for tier in above.values()) and not extra:
            continue
        if extra.keys() & {IMAGE, SECOND, SEARCH}:
            base, above = [None] * len(base), {}
        steps = {("", at): tier for at, tier in above.items()} | classes(entry, base, above)
        limit = entry.get("max_output_tokens")
        limit = str(int(limit)) if isinstance(limit, (int, Decimal)) else "-"
        row = (rank, entry["mode"], limit, base, steps, extra)
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
        _, mode, limit, base, steps, extra = table[name]
        listed = [":".join([letter + str(at), *cells(steps[letter, at])]) for letter, at in sorted(steps)]
        others = [f"{letter}:{extra[letter]}" for letter in sorted(extra)]
        columns = [name, mode, limit, *cells(base), " ".join(listed) or "-", " ".join(others) or "-"]
        lines.append("\t".join(columns))
    version = wheel.name.split("-")[1]
    header = f"""\
# List prices, for an estimate of what an exchange costs.
# Converted from the price table of LiteLLM {version} (PyPI package `litellm`), {date};
# file {SOURCE},
# sha256 {hashlib.sha256(raw).hexdigest()}.
# Its licence is in prices.LICENSE; the converter is tests/prices/convert.py.
# Unit: 10^-{UNIT_EXPONENT} US dollars a token. `-` is unknown. Sorted by bytes.
# Columns: provider/model, mode, most output tokens, then prices of input, output, cache read, cache
# write, cache write for an hour, reasoning; then tiers `above:` and the same prices, which apply to
# all tokens of an exchange with more input tokens than `above`, in the class of service whose letter
# comes first (b batch, f flex, p priority; none standard); then prices of what is paid by kind or by
# the piece: a and A a token of sound in and out, p a token of a picture in, i a picture made, s a
# second of sound in, q a search.
"""
    OUT.write_text(header + "\n".join(lines) + "\n", encoding="ascii")
    print(f"{len(lines)} models, {OUT.stat().st_size} bytes")


main()
