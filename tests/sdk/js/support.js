// What every JavaScript test needs: where to talk to, what the mock saw, what was recorded.
// The addresses come from `stage.py`, which starts both processes.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync } from "node:fs";

const environment = process.env;
export const mock = environment.SDK_MOCK;
assert.ok(mock, "run me by `python stage.py node --test js/`");
export const direct = !environment.SDK_GATEWAY;
export const gatewayToken = environment.SDK_GATEWAY_TOKEN;
export const storedKey = environment.SDK_STORED_KEY;
export const callersKey = "sk-callers-own";

export const question = "What is the weather in Lisbon?";
export const tool = {
  name: "get_weather",
  description: "Says what the weather is like.",
  input: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
// A stream that lasts ten seconds, if nobody leaves.
export const long = "+events=200+event_delay=50";
export const deltasRead = 3;
export const locked = "locked";

// Longest wait for something that happens beside a request.
const soonMillis = 10_000;

/// Hands out gateways that no other test uses, so that their records are the test's own.
export function gatewaysOf(prefix) {
  let number = 0;
  return () => `${prefix}-${number++}`;
}

/// Base URL of a provider's API: of the gateway, or of the mock itself.
export function urlOf(provider, gateway) {
  if (direct) return `${mock}/${provider}`;
  return `${environment.SDK_GATEWAY}/v1/${environment.SDK_ACCOUNT}/${gateway}/${provider}`;
}

/// Makes the mock forget, so that its counts are those of one test.
export async function reset() {
  await fetch(`${mock}/__mock/reset`, { method: "POST" });
}

/// The mock's counts since the last reset, of all providers together.
async function counters() {
  return (await (await fetch(`${mock}/__mock/counters`)).json()).total;
}

async function lastRequest() {
  const answer = await (await fetch(`${mock}/__mock/requests?last=1`)).json();
  return answer.requests[0];
}

/// Compares an SDK's usage with what the mock counted, and both with the record.
export async function metered(gateway, provider, model, usage) {
  const done = async () => {
    const total = await counters();
    return total.completed === 1 && total;
  };
  const total = await waitFor(done, "the mock to count its answer");
  const counted = { input: total.input_tokens, output: total.output_tokens };
  assert.deepEqual(usage, counted);
  if (direct) return;
  const record = await onlyRecord(gateway, provider, "ok", 200);
  assert.equal(record.tokens_in, counted.input);
  assert.equal(record.tokens_out, counted.output);
  assert.equal(picoDollars(record.cost), cost(`${provider}/${model}`, counted));
}

/// The one record of a gateway that served one call.
export async function onlyRecord(gateway, provider, outcome, status) {
  const found = await waitFor(() => {
    const records = query(gateway);
    return records.length > 0 && records;
  }, `a record of gateway ${gateway}`);
  appendFileSync(environment.SDK_ONCE, `${gateway}\n`); // counted again when all is on disk
  assert.equal(found.length, 1, `more records than exchanges: ${JSON.stringify(found)}`);
  const [record] = found;
  assert.equal(record.gateway, gateway);
  assert.equal(record.provider, provider);
  assert.equal(record.outcome, outcome);
  assert.equal(Number(record.status_code), status);
  return record;
}

function query(gateway) {
  const command = ["logs", "query", "--config", environment.SDK_CONFIG];
  const options = ["--output", "ndjson", `gateway:${gateway}`];
  const text = execFileSync(environment.SDK_TIDEGATE, [...command, ...options], {
    encoding: "utf8",
    timeout: 30_000,
  });
  // `cost` stays text: a double would round it.
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line.replace(/("cost":\s*)(-?[0-9][0-9.eE+-]*)/, '$1"$2"')));
}

/// Exact integers: a price of x dollars per million tokens is x million pico-dollars a token.
function cost(key, counted) {
  const [entered, left] = JSON.parse(environment.SDK_PRICES)[key].map(
    (price) => picoDollars(price) / 1_000_000n,
  );
  return BigInt(counted.input) * entered + BigInt(counted.output) * left;
}

/// Decimal dollars as an integer of 10^-12 dollars.
function picoDollars(text) {
  const parts = /^([0-9]+)(?:\.([0-9]{1,12}))?$/.exec(String(text));
  assert.ok(parts, `not an exact decimal: ${text}`);
  return BigInt(parts[1] + (parts[2] ?? "").padEnd(12, "0"));
}

/// Asks until the answer is yes, and returns it; an impatient pause between two questions.
export async function waitFor(condition, what, millis = soonMillis) {
  const deadline = performance.now() + millis;
  for (;;) {
    const answer = await condition();
    if (answer) return answer;
    assert.ok(performance.now() < deadline, `waited ${millis} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/// Leaves a long stream after its first events; the provider and the record must say so.
export async function leaves(gateway, provider, open) {
  let read = 0;
  for await (const _ of await open()) {
    read += 1;
    if (read === deltasRead) break; // the SDKs abort the request when their iterator is left
  }
  assert.equal(read, deltasRead);
  const seen = async () => (await counters()).aborted_by_peer === 1;
  await waitFor(seen, "the provider to see the cut", 3_000);
  if (!direct) await onlyRecord(gateway, provider, "cancelled", 200);
}

/// The gateway token was taken out, and the stored key put in its place.
export async function sawStoredKey() {
  const request = await lastRequest();
  assert.ok(!JSON.stringify(request).includes(gatewayToken));
  assert.ok(request.headers.some(([, value]) => value.includes(storedKey)));
}
