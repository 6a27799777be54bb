// The JavaScript SDK of OpenAI, with another base URL and nothing else.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { beforeEach, test } from "node:test";

import OpenAI, { toFile } from "openai";

import * as support from "./support.js";

const provider = "openai";
const model = "gpt-4o";
const nextGateway = support.gatewaysOf("js-openai");

beforeEach(support.reset);

function connect(gateway, apiKey = support.callersKey) {
  const baseURL = support.urlOf(provider, gateway) + "/v1";
  return new OpenAI({ apiKey, baseURL, maxRetries: 0 });
}

function chat(suffix = "", more = {}) {
  const messages = [{ role: "user", content: support.question }];
  return { model: model + suffix, messages, ...more };
}

const usageOf = (usage) => ({ input: usage.prompt_tokens, output: usage.completion_tokens });

test("a plain call is answered and metered", async () => {
  const gateway = nextGateway();
  const answer = await connect(gateway).chat.completions.create(chat());
  assert.match(answer.choices[0].message.content, /^[0-9a-f]{16}\b./);
  await support.metered(gateway, provider, model, usageOf(answer.usage));
});

test("a stream is answered and metered", async () => {
  const gateway = nextGateway();
  const options = { stream: true, stream_options: { include_usage: true } };
  const events = await connect(gateway).chat.completions.create(chat("", options));
  let [text, deltas, usage] = ["", 0, null];
  for await (const event of events) {
    const delta = event.choices[0]?.delta.content;
    if (delta) [text, deltas] = [text + delta, deltas + 1];
    usage = event.usage ?? usage;
  }
  assert.match(text, /^[0-9a-f]{16}\b./);
  assert.ok(deltas > 1);
  await support.metered(gateway, provider, model, usageOf(usage));
});

test("a call of the responses API is answered and metered", async () => {
  const gateway = nextGateway();
  const answer = await connect(gateway).responses.create({ model, input: support.question });
  assert.match(answer.output_text, /^[0-9a-f]{16}\b./);
  const { input_tokens: input, output_tokens: output } = answer.usage;
  await support.metered(gateway, provider, model, { input, output });
});

test("a tool call is answered and metered", async () => {
  const gateway = nextGateway();
  const { name, description, input: parameters } = support.tool;
  const tools = [{ type: "function", function: { name, description, parameters } }];
  const answer = await connect(gateway).chat.completions.create(chat("", { tools }));
  const call = answer.choices[0].message.tool_calls[0].function;
  assert.equal(call.name, name);
  assert.deepEqual(Object.keys(JSON.parse(call.arguments)).sort(), ["city", "digest"]);
  await support.metered(gateway, provider, model, usageOf(answer.usage));
});

for (const [status, kind] of [
  [401, OpenAI.AuthenticationError],
  [429, OpenAI.RateLimitError],
  [500, OpenAI.InternalServerError],
]) {
  test(`a provider's ${status} is the SDK's own ${kind.name}`, async () => {
    const gateway = nextGateway();
    const call = connect(gateway).chat.completions.create(chat(`+status=${status}`));
    const error = await call.then(assert.fail, (error) => error);
    assert.ok(error instanceof kind, String(error));
    assert.equal(error.status, status);
    const outcome = status >= 500 ? "upstream_error" : "client_error";
    if (!support.direct) await support.onlyRecord(gateway, provider, outcome, status);
  });
}

test("leaving mid-stream cuts the provider and is recorded once", async () => {
  const gateway = nextGateway();
  const body = chat(support.long, { stream: true });
  await support.leaves(gateway, provider, () => connect(gateway).chat.completions.create(body));
});

test("audio comes and goes unchanged", async () => {
  const body = { model: "tts-1", voice: "alloy", input: "Good morning." };
  const direct = new OpenAI({ apiKey: "sk-x", baseURL: `${support.mock}/openai/v1`, maxRetries: 0 });
  const through = connect(nextGateway());
  const heard = [];
  for (const client of [direct, through]) {
    const audio = Buffer.from(await (await client.audio.speech.create(body)).arrayBuffer());
    heard.push(createHash("sha256").update(audio).digest("hex"));
  }
  assert.equal(heard[0], heard[1]);
  const file = await toFile(Buffer.alloc(300_000, 0xfe), "a.wav");
  const text = (await through.audio.transcriptions.create({ model: "whisper-1", file })).text;
  assert.match(text, /./);
});

test("the gateway token as API key uses the stored key", { skip: support.direct }, async () => {
  await connect(support.locked, support.gatewayToken).chat.completions.create(chat());
  await support.sawStoredKey();
});

test("a wrong token is the SDK's AuthenticationError", { skip: support.direct }, async () => {
  const call = connect(support.locked, "tg-no-such-token").chat.completions.create(chat());
  const error = await call.then(assert.fail, (error) => error);
  assert.ok(error instanceof OpenAI.AuthenticationError, String(error));
  assert.match(JSON.stringify(error) + error.message, /2009/);
});
