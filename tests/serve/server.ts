/** A server as a person runs it, in a process of its own, and a client that keeps account of what it has seen. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { openStore } from "../../src/run/store.ts";
import { SMALL_TRAIN, writeLines } from "../cli/keel.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const BASE = join(ROOT, "src/parrot/base");

/** The flags of the task `serve`, so that its permissions are tested, too. */
const TASK: string[] = JSON.parse(Deno.readTextFileSync(join(ROOT, "deno.json"))).tasks.serve.command.split(
  " ",
);

/** A running server. */
export interface TestServer {
  url: string;
  runsDir: string;
  pid: number;
  /** What it said on standard error so far. */
  said(): string;
  /** Ctrl-C. */
  stop(): Promise<number>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

/** Starts `keel serve` on a free port. */
export async function startServer(runsDir: string, ...flags: string[]): Promise<TestServer> {
  const [_deno, run, ...args] = TASK;
  const child = new Deno.Command(Deno.execPath(), {
    args: [run, "--config", "deno.json", ...args, "--port", "0", "--runs_dir", runsDir, "--json", ...flags],
    cwd: ROOT,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let said = "";
  const listening = (async () => {
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) said += text;
  })();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value } = await reader.read();
  if (value === undefined) {
    await listening;
    throw new Error(`The server did not start: ${said}`);
  }
  const end = async (signal: Deno.Signal) => {
    child.kill(signal);
    await reader.cancel();
    const { code } = await child.status;
    await listening;
    return code;
  };
  return {
    url: JSON.parse(value).url,
    runsDir,
    pid: child.pid,
    said: () => said,
    stop: () => end("SIGINT"),
    kill: async () => void await end("SIGKILL"),
  };
}

/** What came back. */
export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  // deno-lint-ignore no-explicit-any
  body: any;
}

/** What is sent. */
export interface Sent {
  body?: unknown;
  raw?: BodyInit;
  headers?: Record<string, string>;
}

/** Speaks to a server. */
export interface Client {
  /** The response as it comes, for streams and bytes. */
  get(path: string, headers?: Record<string, string>): Promise<Response>;
  call(method: string, path: string, sent?: Sent): Promise<Answer>;
  /** The body of a call whose status must be this one. */
  // deno-lint-ignore no-explicit-any
  expect(status: number, method: string, path: string, body?: unknown): Promise<any>;
  /** Waits until the run is in this state. */
  // deno-lint-ignore no-explicit-any
  until(id: string, what: string | ((run: any) => boolean)): Promise<any>;
}

interface Operation {
  responses: Record<string, { content?: Record<string, { schema: unknown }> }>;
}

/** An OpenAPI document and what of it has been seen. */
export class Account {
  readonly seen = new Set<string>();
  readonly #paths: { template: string; pattern: RegExp; operations: Record<string, Operation> }[];
  readonly #schemas = new Map<unknown, z.ZodType>();
  readonly #components: Record<string, unknown>;

  // deno-lint-ignore no-explicit-any
  constructor(document: any) {
    this.#components = document.components.schemas;
    this.#paths = Object.entries(document.paths).map(([template, operations]) => ({
      template,
      pattern: new RegExp(`^${template.replace("{path}", ".+").replaceAll(/\{\w+\}/g, "[^/]+")}$`),
      operations: operations as Record<string, Operation>,
    }));
  }

  /** Notes a response, which must be as the document says. */
  note(method: string, path: string, { status, headers, body }: Answer): void {
    const found =
      this.#paths.filter(({ pattern }) => pattern.test(path)).sort((a, b) =>
        Number(a.template.includes("{")) - Number(b.template.includes("{"))
      )[0];
    const operation = found?.operations[method.toLowerCase()];
    if (!operation) return;
    const name = `${method} ${found.template} ${status}`;
    const response = operation.responses[status];
    assert.ok(response, `${name} is not in the document`);
    this.seen.add(name);
    const type = headers.get("content-type")?.split(";")[0] ?? "";
    const schema = response.content?.[type]?.schema;
    if (type !== "application/json" || !schema || body === undefined) return;
    let parsed = this.#schemas.get(schema);
    if (!parsed) {
      const text = JSON.stringify({ ...schema, $defs: this.#components });
      // deno-lint-ignore no-explicit-any
      parsed = z.fromJSONSchema(JSON.parse(text.replaceAll("#/components/schemas/", "#/$defs/")) as any);
      this.#schemas.set(schema, parsed);
    }
    const { error } = parsed.safeParse(body);
    assert.equal(error, undefined, `${name} is not as the document says: ${error?.message}`);
  }

  /** Everything in the document. */
  expected(): string[] {
    return this.#paths.flatMap(({ template, operations }) =>
      Object.entries(operations).flatMap(([method, { responses }]) =>
        Object.keys(responses).map((status) => `${method.toUpperCase()} ${template} ${status}`)
      )
    );
  }

  /** Every method and path of the document, with something in the place of parameters. */
  operations(): { method: string; path: string; template: string; responses: string[] }[] {
    return this.#paths.flatMap(({ template, operations }) =>
      Object.entries(operations).map(([method, { responses }]) => ({
        method: method.toUpperCase(),
        template,
        path: template.replaceAll(/\{n\}/g, "1").replaceAll(/\{\w+\}/g, "nothing"),
        responses: Object.keys(responses),
      }))
    );
  }
}

/** A client of a server that speaks over the network or, with a function, without. */
export function client(
  server: string | ((request: Request) => Promise<Response>),
  { account, token }: { account?: Account; token?: string } = {},
): Client {
  const base = typeof server === "string" ? server : "http://localhost";
  const send = typeof server === "string" ? fetch : server;

  async function call(method: string, path: string, { body, raw, headers = {} }: Sent = {}): Promise<Answer> {
    const response = await send(
      new Request(base + path, {
        method,
        headers: {
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...headers,
        },
        body: raw ?? (body === undefined ? undefined : JSON.stringify(body)),
      }),
    );
    const text = await response.text();
    const json = response.headers.get("content-type")?.startsWith("application/json");
    const answer = {
      status: response.status,
      headers: response.headers,
      text,
      body: json && text && response.status !== 206 ? JSON.parse(text) : text,
    };
    account?.note(method, new URL(base + path).pathname, answer);
    return answer;
  }

  async function expect(status: number, method: string, path: string, body?: unknown) {
    const answer = await call(method, path, { body });
    assert.equal(answer.status, status, `${method} ${path}: ${answer.status} ${answer.text}`);
    return answer.body;
  }

  return {
    call,
    expect,
    async get(path, headers = {}) {
      const response = await send(new Request(base + path, { headers }));
      const { status } = response;
      account?.note("GET", path.split("?")[0], {
        status,
        headers: response.headers,
        text: "",
        body: undefined,
      });
      return response;
    },
    async until(id, what) {
      const right = typeof what === "string" ? (run: { state: string }) => run.state === what : what;
      const began = Date.now();
      for (;;) {
        const run = await expect(200, "GET", `/runs/${id}`);
        if (right(run)) return run;
        assert.ok(
          Date.now() - began < 60_000,
          `${id} is ${run.state} and not as expected: ${JSON.stringify(run)}`,
        );
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
    },
  };
}

/** Waits until something holds. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const began = Date.now();
  while (!await holds()) {
    assert.ok(Date.now() - began < 60_000, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A small run of SFT, some milliseconds a step. */
export function sftRun(directory: string, options: Record<string, unknown> = {}): Record<string, unknown> {
  const rows = Array.from({ length: 24 }, (_, i) => ({
    prompt: `<user> ${i % 9} ${(i * 5) % 8} <bot>`,
    completion: ` ${i % 17}`,
  }));
  const dataset = writeLines(directory, "sft.jsonl", rows);
  return {
    method: "sft",
    options: {
      model_name_or_path: BASE,
      dataset_name: dataset,
      max_steps: 200,
      learning_rate: 1e-3,
      per_device_train_batch_size: 4,
      save_steps: 20,
      ...options,
    },
  };
}

/** The whole pipeline, in seconds. */
export const TRAIN = {
  method: "train",
  options: { ...SMALL_TRAIN, seed: 4 },
};

/** What must be equal where two runs are. */
export function bits(dir: string, stages: string[]): unknown {
  const store = openStore(join(dir, "run.db"));
  try {
    return stages.map((stage) => ({
      metrics: store.metrics(stage).map(({ step, name, value }) => [step, name, value]),
      samples: store.samples(stage),
      weights: createHash("sha256").update(
        Deno.readFileSync(join(dir, stages.length === 1 ? "" : stage, "model", "model.safetensors")),
      ).digest("hex"),
    }));
  } finally {
    store.close();
  }
}
