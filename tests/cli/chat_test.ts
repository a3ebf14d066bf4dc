/** `keel chat`: a conversation through a pipe, its commands, and which model of a run it is with. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type Answer, chat, type ChatSettings } from "../../src/cli/chat_loop.ts";
import { textLines } from "../../src/cli/lines.ts";
import { withRun } from "../../src/cli/run_models.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";
import { keel, type Outcome, writeLines } from "./keel.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;
const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const GREEDY = ["--temperature", "0"];

/** A template in the parrot's words, in which the system's text is what a user says first. */
const TEMPLATE = "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}" +
  "{% else %} <user> {{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %} <bot>{% endif %}";

function startChat(model: string, ...options: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", MAIN, "chat", "--model", model, ...options],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** What comes of some lines in a process of its own. */
async function chatWith(lines: string[], model: string, ...options: string[]): Promise<Outcome> {
  const child = startChat(model, ...options);
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(lines.join("\n")));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}

/** A copy of the parrot that has a chat template. */
function talkingParrot(directory: string): string {
  const model = join(directory, "talking");
  Deno.mkdirSync(model);
  for (const { name } of Deno.readDirSync(BASE)) Deno.copyFileSync(join(BASE, name), join(model, name));
  Deno.writeTextFileSync(join(model, "chat_template.jinja"), TEMPLATE);
  return model;
}

/** Greedy completions that keel sample gives. */
async function completionsOf(
  directory: string,
  model: string,
  rows: unknown[],
  options = ["--max_new_tokens", "24"],
): Promise<string[]> {
  const input = writeLines(directory, "rows.jsonl", rows);
  const { out, err } = await keel(
    "sample",
    "--model",
    model,
    "--input",
    input,
    ...GREEDY,
    ...options,
  );
  assert.equal(err, "");
  return out.trimEnd().split("\n").map((line) => JSON.parse(line).completion);
}

Deno.test("a model without a chat template continues each line that comes through the pipe", () =>
  withDirectory(async (directory) => {
    const lines = ["<user> i am sure 3 plus 5 is 8 . <bot>", "<user> maybe 2 plus 2 is 5 ? <bot>"];
    const expected = await completionsOf(directory, BASE, lines.map((prompt) => ({ prompt })));
    const { code, out, err } = await chatWith([lines[0], "", lines[1]], BASE, ...GREEDY);
    assert.equal(code, 0, err);
    assert.deepEqual(out, expected.map((text) => text + "\n").join(""));
    assert.equal(err, "This model has no chat template: it continues every line by itself, as a text.\n");
    const wrong = await chatWith([lines[0], "<user> zebra", lines[1]], BASE, ...GREEDY);
    assert.equal(wrong.code, 1);
    assert.equal(wrong.out, expected[0] + "\n");
    assert.match(wrong.err, /\nCannot encode "zebra"/);
  }));

Deno.test("with a chat template the model hears the whole conversation, and forgets what it is told to", () =>
  withDirectory(async (directory) => {
    const model = talkingParrot(directory);
    const says = ["i am sure 3 plus 5 is 8 .", "maybe a dog has 4 legs ?", "is it true that snow is white ?"];
    const user = (content: string) => ({ role: "user", content });
    const bot = (content: string) => ({ role: "assistant", content });
    const [first] = await completionsOf(directory, model, [{ messages: [user(says[0])] }]);
    const [second, alone, told] = await completionsOf(directory, model, [
      { messages: [user(says[0]), bot(first), user(says[1])] },
      { messages: [user(says[1])] },
      { messages: [{ role: "system", content: says[2] }, user(says[1])] },
    ]);
    const lines = [
      says[0],
      says[1],
      "/undo",
      says[1],
      "/reset",
      says[1],
      `/system ${says[2]}`,
      says[1],
      "/exit",
      "x",
    ];
    const { code, out, err } = await chatWith(lines, model, ...GREEDY, "--max_new_tokens", "24", "--json");
    assert.equal(code, 0, err);
    const rows = out.trimEnd().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(rows.map(({ completion }) => completion), [first, second, second, alone, told]);
    assert.deepEqual(rows.map(({ finish_reason }) => finish_reason), new Array(5).fill("stop"));
    const plain = await chatWith([says[1]], model, ...GREEDY, "--system", says[2]);
    assert.equal(plain.out, told + "\n");
    const refused = await chatWith([says[1]], BASE, "--system", says[2]);
    assert.match(refused.err, /--system has no place here: the tokenizer in .* has no chat template/);
    const reward = await chatWith([says[1]], golden("models/tiny-llama-rm"));
    assert.match(reward.err, /Cannot chat with .*: it is a reward model/);
  }));

/** The model that a text on the command line stands for. */
const runModel = (text: string) => withRun({ modelNameOrPath: text }).modelNameOrPath;

interface Told {
  prompts: number[][];
  rooms: number[];
  out: string;
  err: string;
}

/** A chat whose model repeats `answer`. */
async function talk(
  lines: string[],
  settings: Partial<ChatSettings> & Pick<ChatSettings, "tokenizer">,
  answer: string,
) {
  const told: Told = { prompts: [], rooms: [], out: "", err: "" };
  async function* input() {
    yield* lines;
  }
  await chat(input(), {
    maxPositions: 64,
    maxNewTokens: 16,
    interactive: true,
    answer(ids, room, _turn, write): Promise<Answer> {
      told.prompts.push(ids);
      told.rooms.push(room);
      write(answer);
      return Promise.resolve({ text: answer, tokens: 4, seconds: 0.5, finishReason: "length" });
    },
    ...settings,
  }, {
    print: (text) => void (told.out += text + "\n"),
    write: (text) => void (told.out += text),
    note: (text) => void (told.err += text + "\n"),
    draw: (text) => void (told.err += text),
    json: false,
    terminal: true,
    columns: () => 80,
  });
  return told;
}

Deno.test("where the positions are full the oldest exchanges go, and that is said", () =>
  withDirectory(async (directory) => {
    const tokenizer = loadTokenizer(talkingParrot(directory));
    const say = "yes yes yes yes yes yes yes yes", answer = "no no no no no no no";
    const told = await talk(["a", say, say, say, say], { tokenizer }, answer);
    // <bos>, then <user> and 8 words, and 7 words of an answer for each exchange; <bot> at the end.
    const lengths = [4, 20, 36, 45, 45];
    lengths[3] = lengths[2] + 16 - (4 - 2 + 7);
    lengths[4] = 2 + 9 * 3 + 7 * 2;
    assert.deepEqual(told.prompts.map(({ length }) => length), lengths);
    const text = (ids: number[]) => tokenizer.decode(ids, { skipSpecialTokens: false });
    assert.match(text(told.prompts[2]), /^<bos> <user> a no no/);
    assert.match(text(told.prompts[3]), /^<bos> <user> yes yes/);
    const forgotten = told.err.match(/The model's 64 positions are full: 1 exchange is forgotten\./g);
    assert.equal(forgotten?.length, 2);
    assert.match(told.err, /The answer ends here: it has 16 tokens \(--max_new_tokens\)/);
    assert.match(told.err, /\[4 tokens, 8\.0 tokens\/s\]/);
    // What does not fit by itself is not answered, and not remembered.
    const long = new Array(70).fill("yes").join(" ");
    const after = await talk([long, "a"], { tokenizer }, answer);
    assert.match(after.err, /This is too long: it comes to 73 tokens, and the model has 64 positions/);
    assert.deepEqual(after.prompts.map(({ length }) => length), [4]);
    const nearly = await talk([new Array(58).fill("yes").join(" ")], { tokenizer }, answer);
    assert.deepEqual(nearly.rooms, [3]);
    assert.match(nearly.err, /The answer ends here: the model's 64 positions are full/);
  }));

Deno.test("commands that do not exist are named with what is near; a line with // is said", () =>
  withDirectory(async (directory) => {
    const tokenizer = loadTokenizer(talkingParrot(directory));
    const told = await talk(["/resett", "/zzz", "/help", "/undo", "/quit", "yes"], { tokenizer }, "no");
    assert.deepEqual(told.prompts, []);
    assert.match(told.err, /There is no command \/resett\. Did you mean \/reset\?/);
    assert.match(
      told.err,
      /no command \/zzz\. \/help lists them\. A line that begins with \/\/ is said with one \//,
    );
    assert.match(told.err, /\/undo +forget the last exchange/);
    assert.match(told.err, /0 exchanges are left/);
    const slash = await talk(["//yes"], { tokenizer }, "no");
    assert.match(slash.err, /Cannot encode "\/yes"/);
    await assert.rejects(
      talk(["/zzz"], { tokenizer, interactive: false }, "no"),
      /There is no command \/zzz/,
    );
  }));

Deno.test("lines are lines however the bytes are cut, the last one too", async () => {
  const bytes = new TextEncoder().encode("grüß\r\n\n😀 dich\nende");
  for (let size = 1; size < 12; size++) {
    const chunks = Array.from(
      { length: Math.ceil(bytes.length / size) },
      (_, i) => bytes.slice(i * size, i * size + size),
    );
    assert.deepEqual(await Array.fromAsync(textLines(ReadableStream.from(chunks))), [
      "grüß",
      "",
      "😀 dich",
      "ende",
    ]);
  }
});

Deno.test("a run stands for its last language model, and its stages and checkpoints have names", () =>
  withDirectory((directory) => {
    const run = join(directory, "run");
    const place = (path: string, from = BASE) => {
      const folder = join(run, path);
      Deno.mkdirSync(folder, { recursive: true });
      for (const name of ["config.json", "model.safetensors"]) {
        Deno.copyFileSync(join(from, name), join(folder, name));
      }
      return folder;
    };
    Deno.mkdirSync(run);
    Deno.writeTextFileSync(
      join(run, "config.json"),
      JSON.stringify({ keel: "0", command: "train", stages: ["sft", "reward", "ppo"], options: {} }),
    );
    assert.throws(
      () => runModel(run),
      /The run in .*run has no language model yet: neither a result nor a checkpoint/,
    );
    const sft = place("sft/model");
    place("reward/model", golden("models/tiny-llama-rm"));
    assert.equal(runModel(run), sft);
    const [two, ten] = ["ppo/checkpoints/step-2", "ppo/checkpoints/step-10"].map((path) => place(path));
    assert.equal(runModel(run), ten);
    assert.equal(runModel(run + "/"), ten);
    assert.equal(runModel(`${run}@2`), two);
    assert.equal(runModel(`${run}/ppo@10`), ten);
    assert.equal(runModel(`${run}/sft`), sft);
    const done = place("ppo/model");
    assert.equal(runModel(run), done);
    assert.equal(runModel(join(run, "ppo")), done);
    assert.throws(
      () => runModel(`${run}@3`),
      /no checkpoint of step 3 with a language model\. It has ppo@10, ppo@2\./,
    );
    assert.throws(() => runModel(`${run}/reward`), /no language model yet/);
    // An adapter has no config of its own; that of a reward model is none to talk with.
    for (const [stage, task] of [["ppo", "CAUSAL_LM"], ["reward", "SEQ_CLS"]]) {
      const folder = join(run, stage, "model");
      Deno.removeSync(folder, { recursive: true });
      Deno.mkdirSync(folder);
      Deno.writeTextFileSync(join(folder, "adapter_config.json"), JSON.stringify({ task_type: task }));
      Deno.writeTextFileSync(join(folder, "adapter_model.safetensors"), "");
    }
    assert.equal(runModel(run), done);
    assert.throws(() => runModel(`${run}/reward`), /no language model yet/);
    for (const other of [sft, BASE, "/no/where", "org/name", "org/name@main", "org/name@12"]) {
      assert.equal(runModel(other), other);
    }
  }));

assetTest(
  "Ctrl-C stops the answer that comes, and where none comes it ends the program",
  () =>
    withDirectory(async (directory) => {
      const model = asset("goldens/models/stories260K"), prompt = "Once upon a time";
      const most = ["--max_new_tokens", "450"];
      const [whole] = await completionsOf(directory, model, [{ prompt }], most);
      const child = startChat(model, ...GREEDY, ...most);
      const writer = child.stdin.getWriter(), decoder = new TextDecoder();
      const errors = child.stderr.getReader(), out = child.stdout.getReader();
      const read = async () => decoder.decode((await out.read()).value, { stream: true });
      await writer.write(new TextEncoder().encode(prompt + "\n"));
      let answer = await read();
      child.kill("SIGINT");
      while (!answer.endsWith("\n")) answer += await read();
      answer = answer.slice(0, -1);
      assert.ok(whole.startsWith(answer) && answer.length < whole.length, `${answer} / ${whole}`);
      child.kill("SIGINT");
      assert.equal((await child.status).code, 130);
      await Promise.allSettled([writer.close(), errors.cancel(), out.cancel()]);
    }),
);
