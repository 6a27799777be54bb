"""The gateway token in the place of the provider's key: the SDK needs to know nothing else."""

import pytest

import sdks
from stage import LOCKED

pytestmark = pytest.mark.gateway_only

KINDS = [*sdks.ALL, sdks.AnthropicAuthToken]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_gateway_token_as_api_key_uses_the_stored_key(stage, kind):
    sdk = kind(stage.url(kind.provider, LOCKED), stage.gateway_token)
    assert sdk.plain().text
    request = stage.last_request()
    assert stage.gateway_token not in str(request)
    values = request["headers"].values()
    assert [value for value in values if stage.stored_key in value], "no stored key was sent"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_wrong_token_is_the_sdks_authentication_error(stage, kind):
    sdk = kind(stage.url(kind.provider, LOCKED), "tg-no-such-token")
    with pytest.raises(sdk.errors[401]) as caught:
        sdk.plain()
    assert sdk.status_of(caught.value) == 401
    assert "2009" in told(caught.value)
    assert stage.counters()["requests"] == 0, "the provider was asked all the same"


def told(error):
    """All that an SDK's exception says about the answer's body."""
    return " ".join(str(getattr(error, name, "")) for name in ("body", "details", "message"))
