/** What an enemy, a broken client or a curious page may send: it changes nothing. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { TOKEN_FILE } from "../../serve/auth.ts";
import { withDirectory } from "../assets.ts";
import { bits, client, sftRun, startServer } from "./server.ts";
import { rawRequest, slowRequest } from "./raw_request.ts";

/** Ways to write the way out. */
const DOTS = [
  "..",
  "%2e%2e",
  "%2E.",
  ".%2e",
  "%252e%252e",
  "..%00",
  "..%c0%ae",
  "%uff0e%uff0e",
  "..\\",
  "..%5c",
  "....//",
];
const SLASHES = ["/", "%2f", "%2F", "%252f", "%5c", "\\", "//", "/./", "%c0%af", ";/"];

/** Status of a response that was read as it came. */
const statusOf = (response: string) => Number(/^HTTP\/1.1 (\d+)/.exec(response)?.[1]);

/** 10,000, or what this machine lets a process have open, which holds for the server, too. */
function mostConnections(): number {
  try {
    const [, files] = /^Max open files +(\d+)/m.exec(Deno.readTextFileSync("/proc/self/limits")) ?? [];
    return Math.min(10_000, Number(files ?? Infinity) - 300);
  } catch {
    // Not Linux.
    return 500;
  }
}

Deno.test("hostile requests get nothing and change no bit of the run that is going", async () => {
  await withDirectory(async (directory) => {
    const runsDir = join(directory, "runs");
    const server = await startServer(runsDir, "--token");
    const token = Deno.readTextFileSync(join(runsDir, TOKEN_FILE)).trim();
    assert.match(server.said(), new RegExp(`The token.*: ${token}`));
    assert.equal(Deno.statSync(join(runsDir, TOKEN_FILE)).mode! & 0o777, 0o600);
    Deno.writeTextFileSync(join(directory, "secret"), "TOP SECRET");
    const api = client(server.url, { token }), nobody = client(server.url), idle: Deno.Conn[] = [];
    const head = [`authorization: Bearer ${token}`];
    try {
      await api.expect(201, "POST", "/runs", { id: "mine", ...sftRun(directory, { max_steps: 450 }) });
      await api.until("mine", (run) => run.step > 5);
      await api.expect(200, "POST", "/runs/mine/checkpoint?wait=30");
      Deno.symlinkSync(join(directory, "secret"), join(runsDir, "mine", "link"));
      Deno.symlinkSync(directory, join(runsDir, "mine", "folder"));
      Deno.symlinkSync(directory, join(runsDir, "elsewhere"));

      const { hostname, port } = new URL(server.url);
      for (let i = mostConnections(); i > 0; i--) {
        idle.push(await Deno.connect({ hostname, port: Number(port) }));
      }
      // Half of them have begun to speak.
      for (const one of idle.slice(idle.length / 2)) {
        await one.write(new TextEncoder().encode("GET /runs HTTP/1.1\r\nhost: "));
      }
      const slow = slowRequest(server.url, "POST", "/runs/mine/stop", head);

      for (const dots of DOTS) {
        for (const slash of SLASHES) {
          for (
            const way of [
              `/runs/mine/files/${dots}${slash}${dots}${slash}secret`,
              `/runs/mine/files/checkpoints${slash}${dots}${slash}${dots}${slash}${dots}${slash}secret`,
              `/runs/${dots}${slash}secret`,
              `/runs/mine${slash}${dots}${slash}${dots}/files/secret`,
            ]
          ) {
            const response = await rawRequest(server.url, "GET", way, head);
            assert.ok([400, 404].includes(statusOf(response)), `${way}: ${response}`);
            assert.doesNotMatch(response, /TOP SECRET/);
          }
        }
      }
      for (
        const path of [
          "link",
          "folder/secret",
          "run.db",
          "lock",
          "/etc/passwd",
          "%2fetc%2fpasswd",
          `../${TOKEN_FILE}`,
        ]
      ) {
        const response = await rawRequest(server.url, "GET", `/runs/mine/files/${path}`, head);
        assert.equal(statusOf(response), 404, path);
      }
      for (const id of ["elsewhere", TOKEN_FILE, "serve.db", "mine%00", "%ff%fe", "MINE", "a".repeat(65)]) {
        for (const [method, path] of [["GET", ""], ["DELETE", ""], ["POST", "/stop"], ["POST", "/kill"]]) {
          assert.equal(statusOf(await rawRequest(server.url, method, `/runs/${id}${path}`, head)), 404, id);
        }
      }

      // Without the token, with a wrong one, by a page of another origin or under another name, nothing happens.
      for (
        const [method, path] of [["POST", "/runs/mine/kill"], ["DELETE", "/runs/mine"], [
          "GET",
          "/openapi.json",
        ]]
      ) {
        await nobody.expect(401, method, path);
        for (
          const authorization of [
            "Bearer",
            `Bearer ${token.slice(1)}`,
            `Basic ${btoa(token)}`,
            `Bearer ${token} x`,
          ]
        ) {
          assert.equal((await nobody.call(method, path, { headers: { authorization } })).status, 401);
        }
        assert.equal((await nobody.call(method, `${path}?token=${token}`)).status, 401);
        for (const origin of ["http://evil.example", "null", "http://127.0.0.1", "http://localhost:1"]) {
          assert.equal((await api.call(method, path, { headers: { origin } })).status, 403, origin);
        }
        for (
          const host of [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8686",
            "169.254.1.1",
          ]
        ) {
          assert.equal(statusOf(await rawRequest(server.url, method, path, head, host)), 403, host);
        }
      }
      for (const host of ["", "a b", "[", "x:y:z", "\u00e9", "127.0.0.1:99999999"]) {
        const status = statusOf(await rawRequest(server.url, "GET", "/runs", head, host));
        assert.ok([400, 403].includes(status), `${host}: ${status}`);
      }
      const preflight = await api.call("OPTIONS", "/runs/mine/kill", { headers: { origin: server.url } });
      assert.equal((await api.call("HEAD", "/runs/mine/stream")).status, 200);
      assert.equal((await api.expect(200, "GET", "/system")).streams, 0);
      assert.equal(preflight.headers.get("access-control-allow-origin"), null);

      const type = { "content-type": "application/json" };
      const deep = "[".repeat(200_000) + "]".repeat(200_000);
      for (
        const [status, raw] of [
          [413, " ".repeat(2 << 20)],
          [400, new Uint8Array([0x22, 0xc3, 0x28, 0x22])],
          [422, deep],
          [422, '{"__proto__": {"stage": "sft"}, "constructor": 1}'],
          [422, '{"stage": {"toString": null}}'],
          [422, "null"],
        ] as [number, BodyInit][]
      ) {
        assert.equal((await api.call("POST", "/runs/mine/stop", { raw, headers: type })).status, status);
      }
      for (
        const given of [{ learning_rate: "1; DROP TABLE knobs" }, { "__proto__x": 1 }, {
          stage: "sft'--",
          learning_rate: 1,
        }]
      ) {
        await api.expect(422, "PATCH", "/runs/mine/knobs", given);
      }
      for (const search of ["' OR 1=1 --", "%", "\u0000", "\ud800"]) {
        const { samples } = await api.expect(
          200,
          "GET",
          `/runs/mine/samples?search=${encodeURIComponent(search.toWellFormed())}`,
        );
        assert.deepEqual(samples, []);
      }
      assert.equal(statusOf(await slow), 408);
      assert.equal((await fetch(`${server.url}/healthz`)).status, 200);

      const run = await api.until("mine", "finished");
      assert.deepEqual(run.pending, []);
      const { requests } = await api.expect(200, "GET", "/runs/mine/requests");
      assert.equal(requests.length, 1);
      await api.expect(201, "POST", "/runs", { id: "alone", ...sftRun(directory, { max_steps: 450 }) });
      await api.until("alone", "finished");
      assert.deepEqual(bits(join(runsDir, "mine"), ["sft"]), bits(join(runsDir, "alone"), ["sft"]));
      assert.doesNotMatch(server.said(), /^\s+at /m, server.said());
    } finally {
      for (const one of idle) one.close();
      await server.stop();
    }
  });
});
