/** The life of two runs, as it is told to a server. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { TEMPLATE } from "./inference_runs.ts";
import { type Client, sftRun, TRAIN, until } from "./server.ts";

/** What is wrong is told field by field; what is right is made. */
export async function making(api: Client, directory: string): Promise<void> {
  const wrong = await api.expect(422, "POST", "/runs", {
    method: "ppo",
    options: {
      kl_coeff: 1,
      output_dir: "/tmp/x",
      learning_rate: -1,
      reward_model_path: 7,
      seed: 1.5,
      resume: true,
    },
  });
  assert.deepEqual(
    wrong.error.fields.map(({ path }: { path: string }) => path).sort(),
    [
      "dataset_name",
      "kl_coeff",
      "learning_rate",
      "model_name_or_path",
      "output_dir",
      "resume",
      "reward_model_path",
      "seed",
    ]
      .map((name) => `options.${name}`),
  );
  const message = (path: string) =>
    wrong.error.fields.find((field: { path: string }) => field.path === `options.${path}`).message;
  assert.match(message("kl_coeff"), /no such option. Did you mean kl_coef\?/);
  assert.match(message("learning_rate"), /^Got -1\..*>=0\.$/);
  assert.match(message("model_name_or_path"), /missing/);
  await api.expect(422, "POST", "/runs", { method: "dpo" });
  await api.expect(422, "POST", "/runs", { id: "../x", ...sftRun(directory) });

  const made = await api.call("POST", "/runs", {
    body: { id: "sft", ...sftRun(directory, { max_steps: 4000 }) },
  });
  assert.equal(made.status, 201);
  assert.equal(made.headers.get("location"), "/runs/sft");
  assert.equal(made.body.state, "going");
  await api.expect(409, "POST", "/runs", { id: "sft", ...sftRun(directory) });
  const busy = await api.expect(409, "POST", "/runs", { ...sftRun(directory), queue: false });
  assert.match(busy.error.message, /^sft is going, and at most 1 may/);

  const named = await api.expect(201, "POST", "/runs", sftRun(directory));
  assert.match(named.id, /^sft-\d{4}-\d\d-\d\d-[0-9a-f]{6}$/);
  assert.deepEqual([named.state, named.queue_place], ["queued", 1]);
  const { runs } = await api.expect(200, "GET", "/runs?limit=1");
  assert.deepEqual(runs.map(({ id }: { id: string }) => id), ["sft"]);
  assert.deepEqual((await api.expect(200, "GET", "/runs?after=sft&state=queued")).runs.length, 1);
  await api.expect(422, "GET", "/runs?limit=0");
  await api.expect(409, "POST", `/runs/${named.id}/pause`);
  assert.equal((await api.expect(200, "POST", `/runs/${named.id}/stop`)).state, "stopped");
  await api.expect(204, "DELETE", `/runs/${named.id}`);
  await api.expect(404, "GET", `/runs/${named.id}`);
}

/** Everything that can be asked of a run. */
export async function steering(api: Client, runsDir: string): Promise<void> {
  await api.until("sft", ({ step }) => step >= 2);
  const asked = await api.expect(202, "POST", "/runs/sft/checkpoint");
  assert.equal(asked.request.kind, "checkpoint");
  const paused = await api.expect(200, "POST", "/runs/sft/pause?wait=30", { stage: "sft" });
  assert.deepEqual([paused.state, paused.request.state], ["paused", "done"]);
  const at = paused.request.step;
  await api.expect(200, "POST", "/runs/sft/checkpoint?wait=30");
  assert.equal((await api.expect(200, "GET", "/runs/sft")).step, at);
  for (const action of ["pause", "resume", "stop", "checkpoint", "roll_back"]) {
    await api.expect(
      404,
      "POST",
      `/runs/nothing/${action}`,
      action === "roll_back" ? { step: 1 } : undefined,
    );
    const wrong = await api.expect(422, "POST", `/runs/sft/${action}`, { stage: "ppo", step: 1 });
    assert.ok(wrong.error.fields.length);
  }
  const refused = await api.expect(409, "POST", "/runs/sft/roll_back?wait=30", { step: at + 1 });
  assert.match(
    refused.error.message,
    new RegExp(`no checkpoint of step ${at + 1}; there are those of .*${at}`),
  );

  // A process that is stopped by the system answers nothing: what is asked stays asked.
  const { pid } = await api.expect(200, "GET", "/runs/sft");
  Deno.kill(pid, "SIGSTOP");
  for (const action of ["pause", "resume"]) await api.expect(202, "POST", `/runs/sft/${action}`);
  await api.expect(202, "POST", "/runs/sft/roll_back?wait=0", { step: at });
  await api.expect(202, "POST", "/runs/sft/stop");
  assert.equal((await api.expect(200, "GET", "/runs/sft")).pending.length, 4);
  Deno.kill(pid, "SIGCONT");
  const stopped = await api.until("sft", "stopped");
  assert.deepEqual([stopped.step, stopped.pending, stopped.failure], [at, [], null]);
  for (const action of ["pause", "stop", "checkpoint"]) {
    await api.expect(409, "POST", `/runs/sft/${action}`);
  }
  await api.expect(409, "POST", "/runs/sft/kill");
  await api.expect(404, "POST", "/runs/nothing/kill");

  // Stopped, it is started again from its newest checkpoint; rolled back, from an earlier one.
  assert.equal((await api.expect(202, "POST", "/runs/sft/resume")).state, "going");
  await api.until("sft", ({ step }) => step > at);
  await api.expect(409, "DELETE", "/runs/sft");
  await api.expect(200, "POST", "/runs/sft/pause?wait=30");
  await api.expect(200, "POST", "/runs/sft/resume?wait=30");
  await api.expect(200, "POST", "/runs/sft/roll_back?wait=30", { step: at });
  await api.expect(200, "POST", "/runs/sft/stop?wait=30");
  await api.until("sft", "stopped");
  await api.expect(202, "POST", "/runs/sft/roll_back", { step: at });
  await api.until("sft", ({ state, step }) => state === "going" && step > at);
  assert.equal((await api.expect(200, "POST", "/runs/sft/kill")).state, "failed");
  assert.ok(Deno.statSync(join(runsDir, "sft", "run.db")).isFile);
}

/** What can be read of a run that was killed. */
export async function reading(api: Client, runsDir: string): Promise<void> {
  const run = await api.expect(200, "GET", "/runs/sft");
  assert.deepEqual([run.failure.code, run.failure.signal], [null, "SIGKILL"]);
  assert.match(run.failure.message, /ended by SIGKILL at step \d+ of sft/);
  assert.ok(run.failure.log.length && run.events.length);
  assert.deepEqual(
    run.journal.map(({ what }: { what: string }) => what).filter((what: string) => what !== "queued"),
    ["created", "started", "ended", "started", "ended", "started", "killed", "ended"],
  );

  const { requests } = await api.expect(200, "GET", "/runs/sft/requests?after=1");
  assert.equal(requests[0].id, 2);
  assert.match(requests[0].who, /^http 127\.0\.0\.1$/);
  await api.expect(200, "GET", "/runs/sft/requests/1");
  await api.expect(404, "GET", "/runs/sft/requests/999");
  await api.expect(422, "GET", "/runs/sft/requests?after=x");
  const { events } = await api.expect(200, "GET", "/runs/sft/events");
  assert.ok(events.some(({ kind }: { kind: string }) => kind === "rolled_back"));
  await api.expect(422, "GET", "/runs/sft/events?after=-1");
  assert.match((await api.call("GET", "/runs/sft/log?tail=3")).text, /^(.*\n){3}$/);
  await api.expect(422, "GET", "/runs/sft/log?tail=0");
  assert.equal(
    (await api.call("GET", "/runs/sft/stream", { headers: { "last-event-id": "x" } })).status,
    422,
  );
  for (
    const path of [
      "",
      "/knobs",
      "/requests",
      "/events",
      "/log",
      "/metrics",
      "/samples",
      "/stream",
      "/checkpoints",
      "/files",
    ]
  ) {
    await api.expect(404, "GET", `/runs/nothing${path}`);
  }
  await api.expect(404, "DELETE", "/runs/nothing");
  await api.expect(422, "GET", "/runs/sft/metrics?from_step=5&to_step=4");
  await api.expect(422, "GET", "/runs/sft/samples?limit=100000");

  const { checkpoints } = await api.expect(200, "GET", "/runs/sft/checkpoints");
  assert.match(checkpoints[0].path, /^checkpoints\/step-\d+$/);
  const { files } = await api.expect(200, "GET", "/runs/sft/files");
  const weights = files.find(({ path }: { path: string }) =>
    path === `${checkpoints[0].path}/model.safetensors`
  );
  const whole = Deno.readFileSync(join(runsDir, "sft", weights.path));
  const got = new Uint8Array(await (await api.get(`/runs/sft/files/${weights.path}`)).arrayBuffer());
  const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  assert.equal(digest(got), digest(whole));
  const config = Deno.readTextFileSync(join(runsDir, "sft", "config.json"));
  const part = (range: string) => api.call("GET", "/runs/sft/files/config.json", { headers: { range } });
  const first = await part("bytes=2-5");
  assert.deepEqual([first.status, first.text, first.headers.get("content-range")], [
    206,
    config.slice(2, 6),
    `bytes 2-5/${config.length}`,
  ]);
  assert.equal((await part("bytes=-4")).text, config.slice(-4));
  assert.equal((await part(`bytes=${config.length}-`)).status, 416);
  await api.expect(200, "GET", "/runs/sft/files/options.json");
  await api.expect(404, "GET", "/runs/sft/files/run.db");

  const stream = await api.get("/runs/sft/stream?after=1");
  assert.equal(stream.headers.get("content-type"), "text/event-stream");
  await stream.body!.cancel();
}

interface Named {
  name: string;
  [field: string]: unknown;
}

/** A knob holds from the step that was stated, and nothing is changed by what cannot be. */
export async function knobs(api: Client): Promise<void> {
  await api.expect(201, "POST", "/runs", { id: "whole", ...TRAIN });
  const early = await api.expect(202, "PATCH", "/runs/whole/knobs", { stage: "ppo", cliprange: 0.15 });
  assert.equal(early.from_step, null);
  await api.until("whole", ({ stage, step }) => stage === "ppo" && step >= 1);
  const { request } = await api.expect(200, "POST", "/runs/whole/pause?wait=30");
  const turned = await api.expect(200, "PATCH", "/runs/whole/knobs?wait=30", { kl_coef: 0.31, gamma: 0.99 });
  assert.equal(turned.from_step, request.step + 1);

  const wrong = await api.expect(422, "PATCH", "/runs/whole/knobs", {
    kl_coef: -1,
    temperature: "hot",
    kl: 1,
  });
  assert.deepEqual(wrong.error.fields.map(({ path }: { path: string }) => path).sort(), [
    "kl",
    "kl_coef",
    "temperature",
  ]);
  await api.expect(422, "PATCH", "/runs/whole/knobs", {});
  await api.expect(409, "PATCH", "/runs/whole/knobs", { stage: "sft", learning_rate: 1 });
  await api.expect(404, "PATCH", "/runs/nothing/knobs", { kl_coef: 1 });
  await api.expect(409, "POST", "/runs/whole/roll_back", { stage: "sft", step: 3 });

  const { stages } = await api.expect(200, "GET", "/runs/whole/knobs");
  assert.deepEqual(stages.map(({ stage }: { stage: string }) => stage), ["sft", "reward", "ppo"]);
  const values = Object.fromEntries(stages[2].knobs.map(({ name, value }: Named) => [name, value]));
  assert.deepEqual([values.kl_coef, values.gamma, values.cliprange, values.lam], [0.31, 0.99, 0.15, 0.95]);
  assert.deepEqual(stages[2].knobs.find(({ name }: Named) => name === "kl_coef").schema.minimum, 0);
  assert.deepEqual(
    stages[2].journal.map(({ name, from_step, who }: Named) => [name, from_step, who]),
    [["cliprange", 1], ["kl_coef", turned.from_step], ["gamma", turned.from_step]]
      .map((row) => [...row, "http 127.0.0.1"]),
  );
  await api.expect(200, "POST", "/runs/whole/resume?wait=30");
  await api.until("whole", "finished");
  const { points } = await api.expect(200, "GET", "/runs/whole/metrics?stage=ppo&name=objective/kl_coef");
  assert.deepEqual(
    points.map(({ step, value }: { step: number; value: number }) => [step, value]),
    Array.from({ length: 12 }, (_, i) => [i + 1, i + 1 < turned.from_step ? 0.7 : 0.31]),
  );
}

/** What a finished run has to show. */
export async function ending(api: Client, runsDir: string): Promise<void> {
  const run = await api.expect(200, "GET", "/runs/whole");
  assert.deepEqual([run.state, run.stage, run.step, run.total, run.failure], [
    "finished",
    "ppo",
    12,
    12,
    null,
  ]);
  await api.expect(409, "POST", "/runs/whole/resume");
  const query = "/runs/whole/metrics?name=loss&name=objective/kl&max_points=4";
  const { points, truncated } = await api.expect(200, "GET", query);
  assert.equal(truncated, false);
  assert.deepEqual(points.map(({ stage, name, step, count }: Named) => [stage, name, step, count]), [
    ...[1, 4, 7, 10].map((step) => ["ppo", "objective/kl", step, 3]),
    ...[1, 4, 7, 10].map((step) => ["reward", "loss", step, 3]),
    ...[1, 4, 7, 10].map((step) => ["sft", "loss", step, 3]),
  ]);
  const lines = (await api.call("GET", `${query}&format=ndjson`)).text.trimEnd().split("\n");
  assert.deepEqual(lines.map((line) => JSON.parse(line)), points);
  const csv = (await api.call("GET", `${query}&format=csv`)).text.trimEnd().split("\n");
  assert.equal(csv[0], "stage,name,step,time,value,min,max,count");
  assert.equal(csv.length, points.length + 1);

  const { samples, next_row } = await api.expect(
    200,
    "GET",
    "/runs/whole/samples?stage=ppo&split=train&limit=5",
  );
  assert.equal(samples.length, 5);
  assert.ok(next_row >= samples[4].row);
  assert.ok(Object.keys(samples[0].rewards).length > 1);
  const second = await api.expect(200, "GET", "/runs/whole/samples?stage=ppo&split=train&limit=1&offset=3");
  assert.deepEqual(second.samples, [samples[3]]);
  const word = encodeURIComponent(samples[2].completion.toUpperCase());
  const found = await api.expect(200, "GET", `/runs/whole/samples?search=${word}&limit=500`);
  assert.ok(found.samples.some(({ row }: { row: number }) => row === samples[2].row));

  const report = await api.call("GET", "/runs/whole/files/report.html");
  assert.match(report.text, /^<!doctype html>/i);
  assert.match(report.headers.get("content-security-policy")!, /^sandbox/);
  await api.expect(204, "DELETE", "/runs/sft");
  assert.throws(() => Deno.statSync(join(runsDir, "sft")), Deno.errors.NotFound);
}

/** Everything that can be asked of the models of `whole`. */
export async function computing(api: Client, runsDir: string): Promise<void> {
  Deno.writeTextFileSync(join(runsDir, "whole/ppo/model/chat_template.jinja"), TEMPLATE);
  const { data } = await api.expect(200, "GET", "/v1/models");
  assert.equal(data.find(({ id }: { id: string }) => id === "whole").root, "whole/ppo");
  const messages = [{ role: "user", content: "3 5" }];
  const asks: [path: string, body: Record<string, unknown>][] = [
    ["/v1/completions", { prompt: "<user> 3 5 <bot>", logprobs: 0 }],
    ["/v1/chat/completions", { messages, logprobs: true }],
    ["/v1/score", { rows: [{ text: "<user> 3 5 <bot> 8" }] }],
  ];
  const { pid } = (await api.expect(200, "GET", "/system")).inference;
  assert.equal(pid, null);
  for (const [path, body] of asks) {
    await api.expect(200, "POST", path, { model: "whole", ...body });
    await api.expect(404, "POST", path, { model: "nothing", ...body });
    await api.expect(422, "POST", path, { model: "whole" });
    const stream = { model: "whole", ...body, stream: true };
    if (path !== "/v1/score") assert.match((await api.call("POST", path, { body: stream })).text, /DONE/);
    const { pid } = (await api.expect(200, "GET", "/system")).inference;
    Deno.kill(pid, "SIGSTOP");
    const lost = api.expect(503, "POST", path, { model: "whole", ...body });
    await until(
      "it is asked",
      async () => (await api.expect(200, "GET", "/system")).inference.requests === 1,
    );
    Deno.kill(pid, "SIGKILL");
    await lost;
  }
}
