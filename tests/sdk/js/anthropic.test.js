// The JavaScript SDK of Anthropic, with another base URL and nothing else.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";

import * as support from "./support.js";

const provider = "anthropic";
const model = "claude-sonnet-4-6";
const nextGateway = support.gatewaysOf("js-anthropic");

beforeEach(support.reset);

function connect(gateway, credential = { apiKey: support.callersKey }) {
  return new Anthropic({ ...credential, baseURL: support.urlOf(provider, gateway), maxRetries: 0 });
}

function message(suffix = "", more = {}) {
  const messages = [{ role: "user", content: support.question }];
  return { model: model + suffix, max_tokens: 4096, messages, ...more };
}

// This dialect counts cached tokens beside the input, not in it.
const usageOf = (usage) => ({
  input:
    usage.input_tokens +
    (usage.cache_read_input_tokens ?? 0) +
    (usage.cache_creation_input_tokens ?? 0),
  output: usage.output_tokens,
});

test("a plain call is answered and metered", async () => {
  const gateway = nextGateway();
  const answer = await connect(gateway).messages.create(message());
  assert.match(answer.content[0].text, /^[0-9a-f]{16}\b./);
  await support.metered(gateway, provider, model, usageOf(answer.usage));
});

test("a stream is answered and metered", async () => {
  const gateway = nextGateway();
  const stream = connect(gateway).messages.stream(message());
  let deltas = 0;
  stream.on("text", () => (deltas += 1));
  const answer = await stream.finalMessage();
  assert.match(answer.content[0].text, /^[0-9a-f]{16}\b./);
  assert.ok(deltas > 1);
  await support.metered(gateway, provider, model, usageOf(answer.usage));
});

test("a tool call is answered and metered", async () => {
  const gateway = nextGateway();
  const { name, description, input: input_schema } = support.tool;
  const tools = [{ name, description, input_schema }];
  const answer = await connect(gateway).messages.create(message("", { tools }));
  const call = answer.content.find((part) => part.type === "tool_use");
  assert.equal(call.name, name);
  assert.deepEqual(Object.keys(call.input).sort(), ["city", "digest"]);
  await support.metered(gateway, provider, model, usageOf(answer.usage));
});

for (const [status, kind] of [
  [401, Anthropic.AuthenticationError],
  [429, Anthropic.RateLimitError],
  [500, Anthropic.InternalServerError],
]) {
  test(`a provider's ${status} is the SDK's own ${kind.name}`, async () => {
    const gateway = nextGateway();
    const call = connect(gateway).messages.create(message(`+status=${status}`));
    const error = await call.then(assert.fail, (error) => error);
    assert.ok(error instanceof kind, String(error));
    assert.equal(error.status, status);
    const outcome = status >= 500 ? "upstream_error" : "client_error";
    if (!support.direct) await support.onlyRecord(gateway, provider, outcome, status);
  });
}

test("leaving mid-stream cuts the provider and is recorded once", async () => {
  const gateway = nextGateway();
  const body = message(support.long, { stream: true });
  await support.leaves(gateway, provider, () => connect(gateway).messages.create(body));
});

for (const slot of ["apiKey", "authToken"]) {
  const credential = (value) => ({ apiKey: null, authToken: null, [slot]: value });

  test(`the gateway token as ${slot} uses the stored key`, { skip: support.direct }, async () => {
    const client = connect(support.locked, credential(support.gatewayToken));
    await client.messages.create(message());
    await support.sawStoredKey();
  });

  test(`a wrong ${slot} is the SDK's AuthenticationError`, { skip: support.direct }, async () => {
    const client = connect(support.locked, credential("tg-no-such-token"));
    const error = await client.messages.create(message()).then(assert.fail, (error) => error);
    assert.ok(error instanceof Anthropic.AuthenticationError, String(error));
    assert.match(JSON.stringify(error) + error.message, /2009/);
  });
}
