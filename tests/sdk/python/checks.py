"""What is compared again and again: a record, and what the mock provider counted."""

from decimal import Decimal

from stage import PRICES

PER_MILLION = Decimal(1_000_000)


def metered(stage, gateway, sdk, usage):
    """`usage` is what the SDK reported; the mock and the record must say the same."""
    counted = counted_last(stage)
    assert usage == (counted["input"], counted["output"])
    if stage.direct:
        return
    record = only_record(stage, gateway, sdk, outcome="ok", status=200)
    assert record["tokens_in"] == counted["input"]
    assert record["tokens_out"] == counted["output"]
    assert Decimal(record["cost"]) == cost(sdk, counted)


def only_record(stage, gateway, sdk, outcome, status):
    """The one record of a gateway that served one call."""
    (record,) = stage.records(gateway)
    assert record["gateway"] == gateway
    assert record["provider"] == sdk.provider
    assert record["outcome"] == outcome
    assert record["status_code"] == status
    return record


def counted_last(stage):
    """Tokens of the last answer, as the mock counted them; `input` and `output` are whole."""
    (request,) = stage.requests(last=1)
    return request["usage"]


def cost(sdk, counted):
    """Exact US dollars: the file's prices times the mock's tokens."""
    entered, left, read = map(Decimal, PRICES[f"{sdk.provider}/{sdk.model}"])
    cached = counted.get("cache_read") or 0
    dollars = (counted["input"] - cached) * entered + cached * read + counted["output"] * left
    return dollars / PER_MILLION
