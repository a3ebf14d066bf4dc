/**
 * Speaks to a server as a program that was written for OpenAI does: `drive_openai.ts URL MODEL PROMPT`. Prints what came back
 * as JSON. Runs as a process of its own, because the client is no package of the project.
 */
const OPENAI = "npm:openai@7.57.0";

const { default: OpenAi } = await import(OPENAI);
const [url, model, prompt] = Deno.args;
const client = new OpenAi({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });

const names: string[] = [];
for await (const { id } of client.models.list()) names.push(id);

const completion = await client.completions.create({ model, prompt, temperature: 0, max_tokens: 12 });
const pieces: string[] = [];
let usage;
for await (
  const chunk of await client.completions.create({
    model,
    prompt,
    temperature: 0,
    max_tokens: 12,
    stream: true,
    stream_options: { include_usage: true },
  })
) {
  pieces.push(...chunk.choices.map(({ text }: { text: string }) => text));
  usage = chunk.usage;
}

const messages = [{ role: "user", content: prompt }];
const options = { model, messages, temperature: 0.9, seed: 5, max_completion_tokens: 12, n: 2 };
const chat = await client.chat.completions.create({ ...options, logprobs: true });
// It puts the parts of a stream together itself.
const streamed = await client.chat.completions.stream(options).finalChatCompletion();

const problems: unknown[] = [];
for (
  const wrong of [{ model: "nothing" }, {
    tools: [{ type: "function", function: { name: "f", parameters: {} } }],
  }]
) {
  try {
    await client.chat.completions.create({ ...options, ...wrong });
  } catch (error) {
    const { status, code, message } = error as { status: number; code: string; message: string };
    problems.push({ status, code, message });
  }
}

console.log(JSON.stringify({ names, completion, pieces, usage, chat, streamed, problems }));
