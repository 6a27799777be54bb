"""The Cloudflare SDK, with another base URL and token and nothing else: every resource that it has
for AI Gateway. Answers are validated against the SDK's own types."""

import json
import secrets

import cloudflare
import pytest
from cloudflare import Cloudflare

from stage import ACCOUNT, wait_for

pytestmark = pytest.mark.gateway_only

ELEMENTS = [
    {"id": "start", "type": "start", "outputs": {"next": {"element_id": "split"}}},
    {
        "id": "split",
        "type": "percentage",
        "outputs": {"30%": {"element_id": "model"}, "70%": {"element_id": "end"}},
    },
    {
        "id": "model",
        "type": "model",
        "properties": {"provider": "openai", "model": "gpt-4o", "timeout": 0, "retries": 1},
        "outputs": {"success": {"element_id": "end"}, "fallback": {"element_id": "end"}},
    },
    {"id": "end", "type": "end", "outputs": {}},
]


def connect(stage, token=None, strict=True):
    return Cloudflare(
        base_url=f"{stage.gateway}/client/v4",
        api_token=token or stage.api_token,
        max_retries=0,
        _strict_response_validation=strict,
    )


@pytest.fixture
def client(stage):
    return connect(stage)


@pytest.fixture
def api(client):
    return client.ai_gateway


@pytest.fixture
def made(api):
    """A gateway of this test's own, made through the API."""
    gateway = api.create(account_id=ACCOUNT, id="sdk-" + secrets.token_hex(4), **plain())
    yield gateway.id
    api.delete(gateway.id, account_id=ACCOUNT)


def plain():
    return {
        "cache_invalidate_on_update": False,
        "cache_ttl": 0,
        "collect_logs": True,
        "rate_limiting_interval": 0,
        "rate_limiting_limit": 0,
    }


def at(gateway):
    return {"account_id": ACCOUNT, "gateway_id": gateway}


def test_gateway_is_created_read_updated_and_deleted(api):
    rules = [{"limit": 5.25, "limit_type": "cost", "window": 3600}]
    settings = {
        **plain(),
        "cache_ttl": None,
        "guardrails": {"prompt": {"s1": "BLOCK"}, "response": {}},
        "spend_limits": {"enabled": True, "rules": rules},
        "dlp": {"enabled": True, "action": "FLAG", "profiles": ["a"]},
    }
    identity = "sdk-" + secrets.token_hex(4)
    gateway = api.create(account_id=ACCOUNT, id=identity, **settings)
    assert (gateway.id, gateway.cache_ttl, gateway.is_default) == (identity, 0, False)
    assert gateway.guardrails.prompt.s1 == "BLOCK"
    (rule,) = gateway.spend_limits.rules
    assert (rule.limit, rule.limit_type, rule.technique) == (5.25, "cost", "sliding")
    assert api.get(identity, account_id=ACCOUNT).to_dict() == gateway.to_dict()
    changed = api.update(identity, account_id=ACCOUNT, **plain(), byok_only=True)
    assert changed.byok_only and changed.spend_limits.rules[0].id == rule.id
    assert api.delete(identity, account_id=ACCOUNT).id == identity
    with pytest.raises(cloudflare.NotFoundError) as caught:
        api.get(identity, account_id=ACCOUNT)
    assert [error.code for error in caught.value.errors] == [7002]


def test_pager_reads_every_gateway_to_the_end(api):
    prefix = "pager-" + secrets.token_hex(4)
    expected = [f"{prefix}-{number}" for number in range(25)]
    for identity in expected:
        api.create(account_id=ACCOUNT, id=identity, **plain())
    try:
        pages = api.list(account_id=ACCOUNT, search=prefix, per_page=10)
        assert [gateway.id for gateway in pages] == expected
    finally:
        for identity in expected:
            api.delete(identity, account_id=ACCOUNT)


def test_refusals_are_the_sdks_own_exceptions(stage, api, made):
    with pytest.raises(cloudflare.ConflictError):
        api.create(account_id=ACCOUNT, id=made, **plain())
    with pytest.raises(cloudflare.BadRequestError) as caught:
        api.create(account_id=ACCOUNT, id="a b", **plain() | {"rate_limiting_limit": -1})
    places = [tuple(error["path"]) for error in caught.value.body["errors"]]
    assert places == [("body", "id"), ("body", "rate_limiting_limit")]
    with pytest.raises(cloudflare.AuthenticationError):
        connect(stage, "wrong").ai_gateway.get(made, account_id=ACCOUNT)
    with pytest.raises(cloudflare.PermissionDeniedError):
        connect(stage, stage.gateway_token).ai_gateway.get(made, account_id=ACCOUNT)


def test_custom_providers(api):
    slug = "sdk-" + secrets.token_hex(4)
    provider = api.custom_providers.create(
        account_id=ACCOUNT,
        name="Ours",
        slug=slug,
        base_url="https://ours.example/v1",
        headers=json.dumps({"x-key": "secret-value"}),
    )
    assert (provider.slug, provider.enable) == (slug, False)
    assert "secret-value" not in provider.to_json()
    assert api.custom_providers.get(provider.id, account_id=ACCOUNT).slug == slug
    listed = api.custom_providers.list(account_id=ACCOUNT, search=slug)
    assert [one.id for one in listed] == [provider.id]
    with pytest.raises(cloudflare.ConflictError):
        api.custom_providers.create(
            account_id=ACCOUNT, name="x", slug=slug, base_url="https://a.example"
        )
    assert api.custom_providers.delete(provider.id, account_id=ACCOUNT).id == provider.id


def test_provider_configs(api, made):
    secret = "sk-" + secrets.token_hex(16)
    config = api.provider_configs.create(
        made, account_id=ACCOUNT, alias="default", default_config=True,
        provider_slug="openai", secret=secret, rate_limit=5, rate_limit_period=60,
    )
    assert config.secret_preview == f"sk-...{secret[-4:]}"
    (listed,) = api.provider_configs.list(made, account_id=ACCOUNT)
    assert listed.to_dict() == config.to_dict() and secret not in listed.to_json()


def test_dynamic_routes(api, made):
    routing, here = api.dynamic_routing, at(made)
    # Two of the SDK's methods take the gateway as their first argument.
    route = routing.create(made, account_id=ACCOUNT, name="fast", elements=ELEMENTS)
    assert (route.name, route.version.active) == ("fast", "true")
    assert routing.get(route.id, **here).deployment.version_id == route.version.version_id
    (listed,) = routing.list(made, account_id=ACCOUNT).data.routes
    assert listed.id == route.id
    assert routing.update(route.id, **here, name="slow").route.name == "slow"
    routing.create_version(route.id, **here, elements=ELEMENTS)
    versions = routing.list_versions(route.id, **here).data.versions
    assert [version.active for version in versions] == ["false", "true"]
    newest = versions[0].version_id
    assert routing.get_version(newest, **here, id=route.id).version_id == newest
    routing.create_deployment(route.id, **here, version_id=newest)
    deployments = routing.list_deployments(route.id, **here).data.deployments
    assert [one.version_id for one in deployments] == [newest, route.version.version_id]
    assert routing.delete(route.id, **here).id == route.id


def test_datasets_and_evaluations(api, made):
    filters = [{"key": "success", "operator": "eq", "value": [True]}]
    dataset = api.datasets.create(
        made, account_id=ACCOUNT, name="all", enable=True, filters=filters
    )
    assert api.datasets.get(dataset.id, **at(made)).filters[0].value == [True]
    changed = api.datasets.update(
        dataset.id, **at(made), name="none", enable=False, filters=filters
    )
    assert (changed.name, changed.enable) == ("none", False)
    assert [one.id for one in api.datasets.list(made, account_id=ACCOUNT)] == [dataset.id]
    types = [kind.id for kind in api.evaluation_types.list(account_id=ACCOUNT)]
    assert len(types) == 3
    evaluation = api.evaluations.create(
        made, account_id=ACCOUNT, name="first", dataset_ids=[dataset.id], evaluation_type_ids=types
    )
    assert evaluation.processed and len(evaluation.results) == 3
    assert api.evaluations.get(evaluation.id, **at(made)).id == evaluation.id
    assert [one.id for one in api.evaluations.list(made, account_id=ACCOUNT)] == [evaluation.id]
    assert api.evaluations.delete(evaluation.id, **at(made)).id == evaluation.id
    assert api.datasets.delete(dataset.id, **at(made)).id == dataset.id


def test_records(stage, made):
    import openai

    caller = openai.OpenAI(base_url=stage.url("openai", made), api_key="sk-mine", max_retries=0)
    message = [{"role": "user", "content": "hello"}]
    for _ in range(3):
        caller.chat.completions.create(model="gpt-4o", messages=message)
    # The SDK types metadata as text; the real service, and this one, send an object.
    logs = connect(stage, strict=False).ai_gateway.logs

    def three():
        rows = list(logs.list(made, account_id=ACCOUNT, per_page=1))
        return len(rows) == 3 and rows

    newest = wait_for(three, "records")[0]
    assert (newest.provider, newest.status_code, newest.success) == ("openai", 200, True)
    assert newest.tokens_in > 0 and newest.cost > 0
    filters = [
        {"key": "provider", "operator": "eq", "value": ["openai"]},
        {"key": "cost", "operator": "gt", "value": [0]},
    ]
    assert len(list(logs.list(made, account_id=ACCOUNT, filters=filters))) == 3
    # Bodies reach the disk a moment after their record.
    detail = wait_for(
        lambda: (one := logs.get(newest.id, **at(made))).request_head and one.response_head and one,
        "bodies",
    )
    assert "hello" in detail.request_head
    assert json.loads(json.dumps(logs.request(newest.id, **at(made))))["messages"] == message
    assert logs.response(newest.id, **at(made))["object"] == "chat.completion"
    logs.edit(newest.id, **at(made), feedback=1, score=90, metadata={"a": True})
    marked = [{"key": "feedback", "operator": "eq", "value": [1]}]
    assert [row.id for row in logs.list(made, account_id=ACCOUNT, filters=marked)] == [newest.id]
    assert logs.delete(made, account_id=ACCOUNT, filters=marked).success
    assert len(list(logs.list(made, account_id=ACCOUNT))) == 2


def test_urls(stage, api, made):
    for provider, rest in [("openai", "openai"), ("universal", "")]:
        url = api.urls.get(provider, **at(made))
        assert url == f"{stage.gateway}/v1/{ACCOUNT}/{made}/{rest}"


def test_billing(api):
    billing = api.billing
    assert billing.credit_balance(account_id=ACCOUNT).balance == 0
    assert billing.invoice_history(account_id=ACCOUNT).invoices == []
    assert billing.invoice_preview(account_id=ACCOUNT).status == "draft"
    usage = billing.usage_history(account_id=ACCOUNT, value_grouping_window="day")
    assert usage.history == []
    billing.spending_limit.create(
        account_id=ACCOUNT, amount=500, duration="daily", strategy="sliding"
    )
    limit = billing.spending_limit.get(account_id=ACCOUNT)
    assert (limit.enabled, limit.config.amount) == (True, 500)
    billing.spending_limit.delete(account_id=ACCOUNT)
    assert billing.topup.config.get(account_id=ACCOUNT).amount is None
    with pytest.raises(cloudflare.InternalServerError):
        billing.topup.create(account_id=ACCOUNT, amount=1000)


def test_audit_log(client, made):
    entries = list(client.audit_logs.list(account_id=ACCOUNT))
    newest = next(entry for entry in entries if entry.resource.id == made)
    assert newest.action.type == "gateway created"
