import assert from "node:assert/strict";
import type { Io } from "../../src/cli/io.ts";
import { duration, openProgress } from "../../src/cli/progress.ts";

function fakeIo(terminal: boolean, columns = 100): Io & { text: string } {
  return {
    text: "",
    print: () => {},
    write: () => {},
    note(text) {
      this.text += text + "\n";
    },
    draw(text) {
      this.text += text;
    },
    json: false,
    terminal,
    columns: () => columns,
  };
}

const event = (step: number, metrics: Record<string, number> = {}, stage = "sft") => ({
  stage,
  step,
  total: 40,
  metrics: { loss: 1 / step, num_tokens: step * 1000, learning_rate: 1e-4, ...metrics },
});

Deno.test("without a terminal there is a line at every logging step and at the last", () => {
  const io = fakeIo(false);
  let time = 0;
  const progress = openProgress(io, { loggingSteps: 15, now: () => time });
  for (let step = 1; step <= 40; step++, time += 500) progress.step(event(step));
  const lines = io.text.trimEnd().split("\n");
  assert.deepEqual(lines.map((line) => line.split(":")[0]), ["sft 15/40", "sft 30/40", "sft 40/40"]);
  assert.equal(lines[0], "sft 15/40: loss 0.067, learning rate 1.0e-4, 2k tokens/s, 0:13 left");
  assert.ok(!io.text.includes("\r") && !io.text.includes("\x1b"));
});

Deno.test("on a terminal one line is drawn again, at most ten times a second, and fits", () => {
  const io = fakeIo(true, 60);
  let time = 0;
  const progress = openProgress(io, { loggingSteps: 1, now: () => time });
  for (let step = 1; step <= 39; step++, time += 10) progress.step(event(step));
  const drawings = io.text.split("\r").slice(1);
  assert.ok(drawings.length >= 3 && drawings.length <= 5, String(drawings.length));
  for (const drawing of drawings) assert.ok(drawing.replace("\x1b[K", "").length < 60);
  progress.step(event(40));
  assert.match(io.text, /40\/40/);
  progress.done();
  assert.ok(io.text.endsWith("\n"));
});

Deno.test("a note stands above the live line", () => {
  const io = fakeIo(true);
  const progress = openProgress(io, { loggingSteps: 1, now: () => 0 });
  progress.step(event(1));
  progress.note("hello");
  assert.ok(io.text.includes("\r\x1b[Khello\n\rsft "));
});

Deno.test("PPO's tokens are counted from its completions", () => {
  const io = fakeIo(false);
  let time = 0;
  const progress = openProgress(io, { loggingSteps: 2, now: () => time });
  for (let step = 1; step <= 2; step++, time += 1000) {
    progress.step({
      stage: "ppo",
      step,
      total: 40,
      metrics: {
        "objective/scores": 0.5,
        "objective/kl": 0.25,
        episode: 96 * step,
        "tokens/responses_len_mean": 10,
      },
    });
  }
  assert.match(io.text, /^ppo 2\/40: reward 0\.500, KL 0\.250, 960 tokens\/s, /);
});

Deno.test("a reward is shown under whichever name a method gives it, and once", () => {
  const line = (metrics: Record<string, number>) => {
    const io = fakeIo(false), progress = openProgress(io, { loggingSteps: 1, now: () => 0 });
    progress.step({ stage: "grpo", step: 1, total: 2, metrics });
    return [io.text.trimEnd(), ...progress.summary("grpo").map((one) => one.trim().split(/ +/)[0])];
  };
  assert.deepEqual(line({ reward: 0.5, kl: 2 }), ["grpo 1/2: reward 0.500, KL 2", "reward", "KL"]);
  assert.deepEqual(line({ reward: 0.5, "objective/scores": 3 }), ["grpo 1/2: reward 3", "reward"]);
  assert.deepEqual(line({}), ["grpo 1/2"]);
});

Deno.test("the summary shows first value, course and last value", () => {
  const progress = openProgress(fakeIo(false), { loggingSteps: 100 });
  for (let step = 1; step <= 4; step++) progress.step(event(step));
  assert.deepEqual(progress.summary("sft"), ["  loss        1 █▃▁▁ 0.250"]);
  assert.deepEqual(progress.summary("ppo"), []);
});

Deno.test("durations are read like a clock", () => {
  assert.deepEqual([0, 7, 75, 754, 3723].map(duration), ["0:00", "0:07", "1:15", "12:34", "1:02:03"]);
});
