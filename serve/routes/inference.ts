/**
 * Generating and scoring with the models of runs, by OpenAI's API.
 *
 * @module
 */
import { createRoute, z } from "@hono/zod-openapi";
import { type App, BODY, body, type Context, GUARDED, json, refusals } from "../context.ts";
import { type FieldProblem, HttpError, invalid } from "../http_error.ts";
import { MOST_ROWS } from "../inference/limits.ts";
import {
  begin,
  chatCompletion,
  chatStream,
  collect,
  type Telling,
  textCompletion,
  textStream,
} from "../inference/openai.ts";
import type { GenerateRequest, Prompt, ScoreRow } from "../inference/protocol.ts";
import * as schemas from "../inference/schemas.ts";
import { plain } from "../json.ts";
import { findModel, listModels } from "../model_names.ts";

/** Below it the most likely token is drawn anyhow, and numbers would overflow. */
const LEAST_TEMPERATURE = 1e-3;

/** Models that are listed. */
const MOST_MODELS = 2000;

const models = createRoute({
  method: "get",
  path: "/v1/models",
  operationId: "listModels",
  summary: "Models of all runs, newest first; those that a run moves on with have several names",
  responses: { 200: json(`At most ${MOST_MODELS}.`, schemas.models), ...GUARDED },
});

const REFUSALS = { ...GUARDED, ...BODY, ...refusals(404, 422, 503) };

/** An answer at once or in events. */
function either<T extends z.ZodType>(schema: T) {
  return {
    description: "The completions. With stream, server-sent events: chunks of them, then [DONE].",
    content: { "application/json": { schema }, "text/event-stream": { schema: z.string() } },
  };
}

const complete = createRoute({
  method: "post",
  path: "/v1/completions",
  operationId: "createCompletion",
  summary: "Continue prompts with a run's model; OpenAI's API",
  request: { body: body(schemas.completionRequest, true) },
  responses: { 200: either(schemas.completion), ...REFUSALS },
});

const chat = createRoute({
  method: "post",
  path: "/v1/chat/completions",
  operationId: "createChatCompletion",
  summary: "Answer in a conversation, in the form of the model's chat template; OpenAI's API",
  request: { body: body(schemas.chatRequest, true) },
  responses: { 200: either(schemas.chatCompletion), ...REFUSALS },
});

const score = createRoute({
  method: "post",
  path: "/v1/score",
  operationId: "scoreTexts",
  summary: "Log-probabilities and entropies of texts, or their scores with a reward model; as keel score",
  request: { body: body(schemas.scoreRequest, true) },
  responses: { 200: json("The scores, in the order of the rows.", schemas.scores), ...REFUSALS },
});

/** Fields of both kinds of completions. */
type SamplingBody = Omit<z.output<typeof schemas.completionRequest>, "prompt" | "max_tokens" | "logprobs">;

const STREAM_HEAD = { "content-type": "text/event-stream", "cache-control": "no-store" };

/** Adds the routes. */
export function addInferenceRoutes(app: App, context: Context): void {
  const { inference } = context;

  app.openapi(models, async (c) => {
    const { models, truncated } = await listModels(context, MOST_MODELS);
    const data = models.map(({ name, model: { id, run, stage, step, kind, created } }) => ({
      id: name,
      object: "model" as const,
      created,
      owned_by: "keel" as const,
      root: id,
      kind: kind === "reward" ? "reward" as const : "language" as const,
      run,
      stage,
      step,
    }));
    return c.json({ object: "list" as const, data, truncated }, 200);
  });

  app.openapi(complete, async (c) => {
    const given = c.req.valid("json");
    const { request, telling } = sampling(context, given, {
      prompts: promptsOf(given.prompt),
      maxTokens: given.max_tokens ?? 16,
      logprobs: given.logprobs === 0,
    });
    const answers = await begin(inference, request, c.req.raw.signal);
    if (given.stream) return c.body(textStream(answers, telling), 200, STREAM_HEAD);
    return c.json(textCompletion(answers, await collect(answers), telling), 200);
  });

  app.openapi(chat, async (c) => {
    const given = c.req.valid("json"), { messages, max_tokens, max_completion_tokens } = given;
    const problems: FieldProblem[] = [];
    if ((max_tokens ?? max_completion_tokens) !== (max_completion_tokens ?? max_tokens)) {
      problems.push({
        path: "max_tokens",
        message: "It differs from max_completion_tokens. Expected one of them.",
      });
    }
    if (messages.at(-1)!.role === "assistant") {
      problems.push({ path: "messages", message: "They end with the assistant's. Expected the user's." });
    }
    const { request, telling } = sampling(context, given, {
      prompts: [{ messages }],
      maxTokens: max_completion_tokens ?? max_tokens ?? null,
      logprobs: given.logprobs ?? false,
    }, problems);
    const answers = await begin(inference, request, c.req.raw.signal);
    if (given.stream) return c.body(chatStream(answers, telling), 200, STREAM_HEAD);
    return c.json(chatCompletion(answers, await collect(answers), telling), 200);
  });

  app.openapi(score, async (c) => {
    const { model: name, rows, temperature, completion_only } = c.req.valid("json");
    const model = findModel(context, name);
    const answers = await begin(inference, {
      kind: "score",
      directory: model.directory,
      rows: rows.map(scoreRow),
      temperature,
      completionOnly: completion_only,
    }, c.req.raw.signal);
    const { value } = await answers.reader.read();
    if (value?.kind !== "scored") throw new HttpError(503, "cancelled", "The client went away.");
    const scored = value.rows.map(({ ids, ...numbers }) => plain({ input_ids: ids, ...numbers }));
    const { promptTokens } = answers;
    return c.json({
      object: "list" as const,
      created: Math.floor(Date.now() / 1000),
      model: model.id,
      rows: scored,
      usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
    }, 200);
  });
}

/** What a body asks for. @throws {HttpError} 404 for the model, 422 for what does not go together. */
function sampling(
  context: Context,
  body: SamplingBody,
  own: { prompts: Prompt[]; maxTokens: number | null; logprobs: boolean },
  problems: FieldProblem[] = [],
): { request: GenerateRequest; telling: Telling } {
  const { temperature, top_p, top_k, n, seed, stop, ignore_eos, stream, stream_options } = body;
  const samples = n ?? 1, { prompts, maxTokens, logprobs } = own;
  if (prompts.length * samples > MOST_ROWS) {
    problems.push({
      path: "n",
      message:
        `${prompts.length} prompts with ${samples} completions each. Expected at most ${MOST_ROWS} in all.`,
    });
  }
  if (stream_options && !stream) {
    problems.push({ path: "stream_options", message: "There is no stream. Expected stream to be true." });
  }
  if (problems.length) throw invalid("The body", problems);
  const model = findModel(context, body.model);
  return {
    request: {
      kind: "generate",
      directory: model.directory,
      prompts,
      samples,
      maxTokens,
      temperature: temperature ? Math.max(LEAST_TEMPERATURE, temperature) : temperature ?? 1,
      topP: top_p ?? 1,
      topK: Math.max(0, top_k ?? 0),
      seed: seed ?? null,
      stop: typeof stop === "string" ? [stop] : stop ?? [],
      ignoreEos: ignore_eos ?? false,
    },
    telling: { model: model.id, logprobs, includeUsage: stream_options?.include_usage ?? false },
  };
}

function promptsOf(prompt: z.output<typeof schemas.completionRequest>["prompt"]): Prompt[] {
  if (typeof prompt === "string") return [{ text: prompt }];
  if (typeof prompt[0] === "number") return [{ ids: prompt as number[] }];
  return (prompt as (string | number[])[]).map((one) =>
    typeof one === "string" ? { text: one } : { ids: one }
  );
}

function scoreRow(row: z.output<typeof schemas.scoreRequest>["rows"][number]): ScoreRow {
  return "input_ids" in row ? { ids: row.input_ids } : row;
}
