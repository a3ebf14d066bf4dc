import assert from "node:assert/strict";
import { join } from "node:path";
import { checkAddress, checkToken, isLoopback, namesOf, readToken } from "../../serve/auth.ts";
import { HttpError } from "../../serve/http_error.ts";
import { openRateLimit, withBody } from "../../serve/limits.ts";
import { withDirectory } from "../assets.ts";

/** Status of the refusal that an action ends with; 0 where it does not. */
function refusal(action: () => void): number {
  try {
    action();
    return 0;
  } catch (error) {
    assert.ok(error instanceof HttpError);
    return error.status;
  }
}

Deno.test("an address may make a burst of requests, then as many as its bucket is refilled with", () => {
  let time = 0;
  const limit = openRateLimit(10, 3, () => time);
  const made = (address: string, count: number) =>
    Array.from({ length: count }, () => refusal(() => limit(address))).filter((status) => status === 0)
      .length;
  assert.equal(made("a", 5), 3);
  assert.equal(made("b", 5), 3);
  time = 250;
  assert.equal(made("a", 5), 2);
  time = 10_000;
  assert.equal(made("a", 5), 3);
  assert.throws(
    () => limit("a"),
    (error: HttpError) => error.status === 429 && error.headers["retry-after"] === "1",
  );
});

Deno.test("a body is passed on as it was, and nothing of it is lost", async () => {
  const text = JSON.stringify({ text: "π".repeat(1000) });
  const stream = ReadableStream.from(
    Array.from(new TextEncoder().encode(text), (byte) => new Uint8Array([byte])),
  );
  const headers = { "content-type": "application/json; charset=utf-8", "x-own": "1" };
  const request = await withBody(
    new Request("http://localhost/x", { method: "POST", body: stream, headers }),
  );
  assert.equal(await request.text(), text);
  assert.equal(request.headers.get("x-own"), "1");
  const empty = await withBody(new Request("http://localhost/x", { method: "POST", body: "", headers }));
  assert.equal(empty.headers.get("content-type"), null);
});

Deno.test("the token is made once, is long, and is compared as a whole", async () => {
  await withDirectory((directory) => {
    const first = readToken(directory), second = readToken(directory);
    assert.deepEqual([first.fresh, second.fresh, second.value], [true, false, first.value]);
    assert.match(first.value, /^[\w-]{43}$/);
    assert.equal(Deno.statSync(join(directory, ".keel-token")).mode! & 0o777, 0o600);
    const status = (authorization?: string) =>
      refusal(() =>
        checkToken(new Request("http://x", { headers: authorization ? { authorization } : {} }), first.value)
      );
    assert.equal(status(`Bearer ${first.value}`), 0);
    assert.equal(status(`bearer  ${first.value}`), 0);
    for (
      const wrong of [
        undefined,
        "Bearer",
        `Bearer ${first.value}=`,
        first.value,
        `Bearer ${first.value.slice(1)}`,
      ]
    ) {
      assert.equal(status(wrong), 401);
    }
  });
});

Deno.test("only the names of this machine and those that were allowed are answered to", () => {
  const names = namesOf("::1", ["GPU-box"]);
  const status = (host: string, origin?: string) =>
    refusal(() =>
      checkAddress(new Request("http://x/", { headers: { host, ...(origin ? { origin } : {}) } }), names)
    );
  for (const host of ["localhost", "localhost:8686", "127.0.0.1:1", "[::1]:8686", "gpu-box:80"]) {
    assert.equal(status(host), 0, host);
    assert.equal(status(host, `http://${host}`), 0, host);
    assert.equal(status(host, "https://evil.example"), 403, host);
  }
  for (const host of ["evil.example", "localhost.evil.example", "::1", "127.0.0.1.nip.io", "0.0.0.0"]) {
    assert.equal(status(host), 403, host);
  }
  assert.ok(
    isLoopback("localhost") && isLoopback("::1") && !isLoopback("0.0.0.0") && !isLoopback("192.168.0.1"),
  );
});
