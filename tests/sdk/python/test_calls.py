"""Every SDK: plain call, stream, tool call, errors, and a caller that leaves."""

import re

import pytest

import checks
import sdks
from stage import CACHED, wait_for

# A stream that lasts ten seconds, if nobody leaves.
LONG = "+events=200+event_delay=50"
# The mock's text: a digest of the request it saw, then words.
TEXT = re.compile(r"[0-9a-f]{16}\b.+", re.DOTALL)


def test_plain_call_is_answered_and_metered(stage, gateway, sdk):
    answer = sdk.plain()
    assert TEXT.match(answer.text)
    checks.metered(stage, gateway, sdk, answer.usage)


def test_stream_is_answered_and_metered(stage, gateway, sdk):
    answer = sdk.stream()
    assert TEXT.match(answer.text)
    assert answer.deltas > 1
    checks.metered(stage, gateway, sdk, answer.usage)


def test_tool_call_is_answered_and_metered(stage, gateway, sdk):
    name, arguments, usage = sdk.tool()
    assert name == sdks.TOOL
    assert sorted(arguments) == ["city", "digest"]
    assert TEXT.match(arguments["digest"] + " ")
    checks.metered(stage, gateway, sdk, usage)


@pytest.mark.parametrize("form", ["plain", "stream"])
@pytest.mark.parametrize("sdk", sdks.WITH_PROMPT_CACHE, indirect=True, ids=lambda kind: kind.name)
def test_tokens_of_the_prompt_cache_have_their_own_price(stage, gateway, sdk, form):
    sdk.model += CACHED
    answer = getattr(sdk, form)()
    checks.metered(stage, gateway, sdk, answer.usage)
    assert checks.counted(stage, sdk)["cache_read"] > 0


@pytest.mark.parametrize("status", [401, 429, 500])
def test_provider_error_is_the_sdks_own_exception(stage, gateway, sdk, status):
    with pytest.raises(sdk.errors[status]) as caught:
        sdk.plain(f"+status={status}")
    assert sdk.status_of(caught.value) == status
    if not stage.direct:
        outcome = "upstream_error" if status >= 500 else "client_error"
        checks.only_record(stage, gateway, sdk, outcome, status)


def test_leaving_mid_stream_cuts_the_provider_and_is_recorded_once(stage, gateway, sdk):
    sdk.leave(LONG)
    wait_for(
        lambda: stage.counters()["aborted_by_peer"] == 1,
        "the provider to see the cut",
        seconds=3,
    )
    if not stage.direct:
        checks.only_record(stage, gateway, sdk, "cancelled", 200)


@pytest.mark.gateway_only
def test_callers_own_key_reaches_the_provider_and_nothing_of_the_gateway(stage, sdk):
    sdk.plain()
    request = stage.last_request()
    assert any("sk-callers-own" in value for value in request["headers"].values())
    assert stage.stored_key not in str(request)
    assert not [name for name in request["headers"] if name.startswith(("cf-aig-", "tg-"))]
