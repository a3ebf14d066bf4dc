/** Runs whose models are asked for completions and scores. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { withDirectory } from "../assets.ts";
import { type Client, client, sftRun, startServer, type TestServer, TRAIN } from "./server.ts";

/** The parrot. */
export const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;
/** Two prompts that it has words for. */
export const PROMPT = "<user> 3 5 <bot>", OTHER = "<user> 7 2 <bot>";

/** Conversations as the parrot knows them. */
export const TEMPLATE =
  "{% for m in messages %}{{ '<user>' if m.role == 'user' else '<bot>' }} {{ m.content }} " +
  "{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}";

/** A choice of a completion. */
export interface Choice {
  index: number;
  text: string;
  logprobs: { tokens: string[]; token_logprobs: number[] };
  finish_reason: string;
}

/** The data of server-sent events, without the end. */
export function events(text: string): Record<string, unknown>[] {
  const lines = text.trimEnd().split("\n\n");
  assert.equal(lines.pop(), "data: [DONE]");
  return lines.map((line) => JSON.parse(line.replace(/^data: /, "")));
}

/** A server with a run `whole` of the three stages and a run `chat` of a model with a chat template. */
export async function withRuns(
  use: (api: Client, server: TestServer, directory: string) => Promise<void>,
): Promise<void> {
  await withDirectory(async (directory) => {
    const chatty = join(directory, "chatty"), runsDir = join(directory, "runs");
    Deno.mkdirSync(chatty);
    for (const { name } of Deno.readDirSync(BASE)) Deno.copyFileSync(join(BASE, name), join(chatty, name));
    Deno.writeTextFileSync(join(chatty, "chat_template.jinja"), TEMPLATE);
    const server = await startServer(runsDir), api = client(server.url);
    try {
      const sft = sftRun(directory, { max_steps: 40, model_name_or_path: chatty });
      await api.expect(201, "POST", "/runs", { id: "chat", ...sft });
      await api.expect(201, "POST", "/runs", { id: "whole", ...TRAIN });
      await api.until("whole", "finished");
      await use(api, server, directory);
      assert.doesNotMatch(server.said(), /^\s+at /m, server.said());
    } finally {
      await server.stop();
    }
  });
}
