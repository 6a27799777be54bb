// The JavaScript SDK of Cloudflare, with another base URL and token and nothing else: every
// resource that it has for AI Gateway.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";

import Cloudflare from "cloudflare";
import OpenAI from "openai";

import * as support from "./support.js";

const account_id = process.env.SDK_ACCOUNT;
const skip = support.direct;
const plain = {
  cache_invalidate_on_update: false,
  cache_ttl: 0,
  collect_logs: true,
  rate_limiting_interval: 0,
  rate_limiting_limit: 0,
};
const elements = [
  { id: "start", type: "start", outputs: { next: { elementId: "model" } } },
  {
    id: "model",
    type: "model",
    properties: { provider: "openai", model: "gpt-4o", timeout: 0, retries: 1 },
    outputs: { success: { elementId: "end" }, fallback: { elementId: "end" } },
  },
  { id: "end", type: "end", outputs: {} },
];

function connect(apiToken = process.env.SDK_API_TOKEN) {
  const baseURL = `${process.env.SDK_GATEWAY}/client/v4`;
  return new Cloudflare({ apiToken, baseURL, maxRetries: 0 });
}

const name = (prefix) => `${prefix}-${randomBytes(4).toString("hex")}`;

async function all(pages) {
  const items = [];
  for await (const item of pages) items.push(item);
  return items;
}

/// Runs with a gateway of the test's own, made through the API.
async function withGateway(work) {
  const api = connect().aiGateway;
  const { id } = await api.create({ account_id, id: name("js"), ...plain });
  try {
    await work(api, id, { account_id, gateway_id: id });
  } finally {
    await api.delete(id, { account_id });
  }
}

test("a gateway is created, read, updated and deleted", { skip }, async () => {
  const api = connect().aiGateway;
  const rules = [{ limit: 5.25, limitType: "cost", window: 3600 }];
  const spend_limits = { enabled: true, rules };
  const id = name("js");
  const made = await api.create({ account_id, id, ...plain, cache_ttl: null, spend_limits });
  assert.equal(made.id, id);
  assert.equal(made.cache_ttl, 0);
  assert.equal(made.spend_limits.rules[0].limit, 5.25);
  assert.deepEqual(await api.get(id, { account_id }), made);
  const changed = await api.update(id, { account_id, ...plain, byok_only: true });
  assert.equal(changed.byok_only, true);
  assert.deepEqual(changed.spend_limits, made.spend_limits);
  assert.equal((await api.delete(id, { account_id })).id, id);
  await assert.rejects(api.get(id, { account_id }), Cloudflare.NotFoundError);
});

test("the pager reads every gateway to the end", { skip }, async () => {
  const api = connect().aiGateway;
  const prefix = name("pager");
  const expected = Array.from({ length: 25 }, (_, number) => `${prefix}-${number}`);
  for (const id of expected) await api.create({ account_id, id, ...plain });
  const found = await all(api.list({ account_id, search: prefix, per_page: 10 }));
  assert.deepEqual(found.map(({ id }) => id), expected);
  for (const id of expected) await api.delete(id, { account_id });
});

test("refusals are the SDK's own errors", { skip }, async () => {
  const { aiGateway: api } = connect();
  const create = (more) => api.create({ account_id, id: "x", ...plain, ...more });
  const error = await create({ id: "a b", cache_ttl: -1 }).then(assert.fail, (error) => error);
  assert.ok(error instanceof Cloudflare.BadRequestError, String(error));
  assert.deepEqual(error.errors.map(({ code }) => code), [7001, 7001]);
  const wrong = connect("wrong").aiGateway.list({ account_id });
  await assert.rejects(wrong, Cloudflare.AuthenticationError);
  const other = connect(support.gatewayToken).aiGateway.list({ account_id });
  await assert.rejects(other, Cloudflare.PermissionDeniedError);
});

test("custom providers", { skip }, async () => {
  const api = connect().aiGateway.customProviders;
  const slug = name("js");
  const made = await api.create({ account_id, name: "Ours", slug, base_url: "https://a.example" });
  assert.equal((await api.get(made.id, { account_id })).slug, slug);
  assert.deepEqual(await all(api.list({ account_id, search: slug })), [made]);
  assert.deepEqual(await api.delete(made.id, { account_id }), made);
});

test("provider configs", { skip }, async () => {
  await withGateway(async (api, id) => {
    const secret = `sk-${randomBytes(16).toString("hex")}`;
    const config = { alias: "default", default_config: true, provider_slug: "openai", secret };
    const made = await api.providerConfigs.create(id, { account_id, ...config });
    assert.equal(made.secret_preview, `sk-...${secret.slice(-4)}`);
    assert.deepEqual(await all(api.providerConfigs.list(id, { account_id })), [made]);
    assert.ok(!JSON.stringify(made).includes(secret));
  });
});

test("dynamic routes", { skip }, async () => {
  await withGateway(async (api, id, here) => {
    const routing = api.dynamicRouting;
    const made = await routing.create(id, { account_id, name: "fast", elements });
    assert.deepEqual(made.elements, elements);
    assert.equal((await routing.get(made.id, here)).version.active, "true");
    const { data } = await routing.list(id, { account_id });
    assert.deepEqual(data.routes.map((route) => route.id), [made.id]);
    const renamed = await routing.update(made.id, { ...here, name: "slow" });
    assert.equal(renamed.route.name, "slow");
    await routing.createVersion(made.id, { ...here, elements });
    const { versions } = (await routing.listVersions(made.id, here)).data;
    assert.deepEqual(versions.map(({ active }) => active), ["false", "true"]);
    const [{ version_id }] = versions;
    const version = await routing.getVersion(version_id, { ...here, id: made.id });
    assert.equal(version.version_id, version_id);
    await routing.createDeployment(made.id, { ...here, version_id });
    const { deployments } = (await routing.listDeployments(made.id, here)).data;
    assert.equal(deployments[0].version_id, version_id);
    assert.equal((await routing.delete(made.id, here)).id, made.id);
  });
});

test("datasets and evaluations", { skip }, async () => {
  await withGateway(async (api, id, here) => {
    const filters = [{ key: "success", operator: "eq", value: [true] }];
    const body = { name: "all", enable: true, filters };
    const dataset = await api.datasets.create(id, { account_id, ...body });
    assert.deepEqual(await api.datasets.get(dataset.id, here), dataset);
    const changed = await api.datasets.update(dataset.id, { ...here, ...body, enable: false });
    assert.equal(changed.enable, false);
    assert.deepEqual(await all(api.datasets.list(id, { account_id })), [changed]);
    const types = await all(api.evaluationTypes.list({ account_id }));
    const wanted = {
      name: "first",
      dataset_ids: [dataset.id],
      evaluation_type_ids: types.map((type) => type.id),
    };
    const made = await api.evaluations.create(id, { account_id, ...wanted });
    assert.equal(made.results.length, 3);
    assert.deepEqual(await api.evaluations.get(made.id, here), made);
    assert.deepEqual(await all(api.evaluations.list(id, { account_id })), [made]);
    await api.evaluations.delete(made.id, here);
    await api.datasets.delete(dataset.id, here);
  });
});

test("records", { skip }, async () => {
  await withGateway(async (api, id, here) => {
    const baseURL = support.urlOf("openai", id);
    const caller = new OpenAI({ apiKey: support.callersKey, baseURL, maxRetries: 0 });
    const messages = [{ role: "user", content: "hello" }];
    for (let number = 0; number < 3; number += 1) {
      await caller.chat.completions.create({ model: "gpt-4o", messages });
    }
    const list = (more) => all(api.logs.list(id, { account_id, ...more }));
    const rows = await support.waitFor(async () => {
      const rows = await list({ per_page: 1 });
      return rows.length === 3 && rows;
    }, "records");
    const filters = [
      { key: "provider", operator: "eq", value: ["openai", "anthropic"] },
      { key: "cost", operator: "gt", value: [0] },
    ];
    assert.equal((await list({ filters })).length, 3);
    const [{ id: log }] = rows;
    // Bodies reach the disk a moment after their record.
    const stored = async () => {
      const { request_head, response_head_complete } = await api.logs.get(log, here);
      return response_head_complete !== null && request_head;
    };
    assert.match(await support.waitFor(stored, "bodies"), /hello/);
    const body = async (answer) => (answer instanceof Response ? answer.json() : answer);
    assert.deepEqual((await body(await api.logs.request(log, here))).messages, messages);
    assert.equal((await body(await api.logs.response(log, here))).object, "chat.completion");
    await api.logs.edit(log, { ...here, feedback: 1, metadata: { a: true } });
    const marked = [{ key: "feedback", operator: "eq", value: [1] }];
    assert.deepEqual((await list({ filters: marked })).map((row) => row.id), [log]);
    assert.equal((await api.logs.delete(id, { account_id, filters: marked })).success, true);
    assert.equal((await list()).length, 2);
  });
});

test("urls and billing", { skip }, async () => {
  await withGateway(async (api, id, here) => {
    const url = await api.urls.get("openai", here);
    assert.equal(url, support.urlOf("openai", id));
    assert.equal((await api.billing.creditBalance({ account_id })).balance, 0);
    assert.deepEqual((await api.billing.invoiceHistory({ account_id })).invoices, []);
    assert.equal((await api.billing.invoicePreview({ account_id })).status, "draft");
    assert.equal((await api.billing.spendingLimit.get({ account_id })).enabled, false);
    const topup = api.billing.topup.create({ account_id, amount: 1000 });
    await assert.rejects(topup, Cloudflare.InternalServerError);
  });
});
