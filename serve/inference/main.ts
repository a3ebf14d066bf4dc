/**
 * The process that computes for the server: requests on standard input, answers on standard output, one request at a time.
 * It ends when its input does, and with the first error that it cannot explain: what the GPU does after that is anybody's
 * guess, and another process is started in a second.
 *
 * @module
 */
import { openGpu } from "../../src/gpu/device.ts";
import { HttpError } from "../http_error.ts";
import { plainJson } from "../json.ts";
import { generate } from "./generate.ts";
import { openModels } from "./models.ts";
import { type FromProcess, type InferenceRequest, readLines, type ToProcess } from "./protocol.ts";
import { score } from "./score.ts";

const encoder = new TextEncoder();

function tell(answer: FromProcess): void {
  const bytes = encoder.encode(plainJson(answer) + "\n");
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

function fail(error: unknown): never {
  console.error((error as Error).message);
  Deno.exit(1);
}

const opening = openGpu().then((gpu) => ({ workspace: { gpu }, modelOf: openModels(gpu) }));
opening.catch(fail);

async function answer(request: InferenceRequest, signal: AbortSignal): Promise<void> {
  const { workspace, modelOf } = await opening;
  try {
    const model = modelOf(request.directory);
    if (request.kind === "generate") await generate(workspace, model, request, { tell, signal });
    else await score(workspace, model, request, tell);
  } catch (error) {
    if (error instanceof HttpError) {
      const { status, code, message, fields } = error;
      tell({ kind: "refused", status: status as 404 | 422, code, message, fields });
    } else if (!signal.aborted) fail(error);
  }
  tell({ kind: "end" });
}

let current = 0, abort = new AbortController();
for await (const line of readLines(Deno.stdin.readable)) {
  const message = JSON.parse(line) as ToProcess;
  if ("cancel" in message) {
    if (message.cancel === current) abort.abort();
    continue;
  }
  current = message.id;
  abort = new AbortController();
  answer(message.request, abort.signal).catch(fail);
}
Deno.exit(0);
