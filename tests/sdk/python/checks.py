"""What is compared again and again: a record, and what the mock provider counted."""

from decimal import Decimal

from stage import CACHED, PRICES, wait_for

PER_MILLION = Decimal(1_000_000)


def metered(stage, gateway, sdk, usage):
    """`usage` is what the SDK reported; the mock and the record must say the same."""
    tokens = counted(stage, sdk)
    assert usage == (tokens["input"], tokens["output"])
    if stage.direct:
        return
    record = only_record(stage, gateway, sdk, outcome="ok", status=200)
    assert record["tokens_in"] == tokens["input"]
    assert record["tokens_out"] == tokens["output"]
    assert Decimal(record["cost"]) == cost(sdk, tokens)


def only_record(stage, gateway, sdk, outcome, status):
    """The one record of a gateway that served one call."""
    record = stage.only_record(gateway)
    assert record["gateway"] == gateway
    assert record["provider"] == sdk.provider
    assert record["outcome"] == outcome
    assert record["status_code"] == status
    return record


def counted(stage, sdk):
    """Tokens of the one answer since the reset, as the mock counted them.

    `input` and `output` are whole; of the prompt cache the mock's front page says: half of the
    input is read from it and, with Anthropic, a quarter written to it, both rounded down.
    """
    total = wait_for(lambda: completed(stage), "the mock to count its answer")
    assert total["requests"] == 1
    entered, cached = total["input_tokens"], sdk.model.endswith(CACHED)
    return {
        "input": entered,
        "output": total["output_tokens"],
        "cache_read": entered // 2 if cached else 0,
        "cache_write": entered // 4 if cached and sdk.provider == "anthropic" else 0,
    }


def completed(stage):
    total = stage.counters()
    return total["completed"] == 1 and total


def cost(sdk, tokens):
    """Exact US dollars: the file's prices times the mock's tokens."""
    model = sdk.model.removesuffix(CACHED)
    entered, left, read, written = map(Decimal, PRICES[f"{sdk.provider}/{model}"])
    fresh = tokens["input"] - tokens["cache_read"] - tokens["cache_write"]
    dollars = fresh * entered + tokens["output"] * left
    dollars += tokens["cache_read"] * read + tokens["cache_write"] * written
    return dollars / PER_MILLION
