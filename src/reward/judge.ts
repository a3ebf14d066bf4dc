/**
 * A language model as a judge: of two answers, asked in both orders, or of one answer, by a score.
 *
 * Judges prefer what stands first, or last. A pair is therefore shown twice, with the answers exchanged; a verdict that follows the
 * place and not the answer is a tie, and counted as position bias.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Content } from "../data/messages.ts";
import type { Message } from "../data/tokenizer.ts";
import { type ChatClient, type ChatSettings, costOf, NOTHING_SPENT, openChatClient } from "./chat_client.ts";
import { AGAIN, comparisonQuestion, scoreQuestion, SCORES } from "./rubric.ts";
import { completionText, type RewardSource } from "./source.ts";
import { allEnded } from "./settle.ts";
import { readScore, readVerdict, type Verdict } from "./verdict.ts";

/** Keeps answers between processes; keys and values are short texts. */
export interface JudgeCache {
  /** What is kept under `key`. */
  get(key: string): string | undefined;
  /** Keeps `value` under `key`, in place of what was there. */
  set(key: string, value: string): void;
}

/** A judge's word on two answers. */
export interface Comparison {
  /** Null where a verdict could not be read. */
  better: "first" | "second" | "tie" | null;
  /** Whether the two orders contradict each other. */
  flipped: boolean;
}

/** A judge. */
export interface Judge {
  /** Which of two answers to a prompt is better. */
  compare(prompt: Content, first: Content, second: Content): Promise<Comparison>;
  /** A score of an answer from 1 to 10; null where none could be read. */
  rate(prompt: Content, answer: Content): Promise<number | null>;
  /** Counts so far. */
  metrics(): Record<string, number>;
}

/** Options of {@linkcode openJudge}. */
export interface JudgeSettings extends ChatSettings {
  /** What a good answer is. */
  rubric: string;
  /** Keeps answers; in memory if not given. */
  cache?: JudgeCache;
}

/** Times that a judge is asked in all until its verdict can be read, where so many attempts are allowed. */
const MOST_ASKED = 4;

/** Key under which the cache keeps what was spent. */
const SPENT = "spent";

/** A cache that ends with the process. */
export function memoryCache(): JudgeCache {
  const answers = new Map<string, string>();
  return { get: (key) => answers.get(key), set: (key, value) => void answers.set(key, value) };
}

/** The key of a question: everything that the answer depends on. */
function keyOf({ model, temperature, maxTokens }: JudgeSettings, messages: Message[]): string {
  return createHash("sha256").update(JSON.stringify([model, temperature, maxTokens, messages])).digest("hex");
}

const OTHER: Record<Verdict, Verdict> = { A: "B", B: "A", tie: "tie" };

/** Opens a judge. */
export function openJudge(settings: JudgeSettings): Judge {
  const { rubric, cache = memoryCache(), limits } = settings;
  const kept = cache.get(SPENT);
  const client: ChatClient = openChatClient({
    ...settings,
    spent: kept === undefined ? NOTHING_SPENT : JSON.parse(kept),
    onSpent: (spent) => cache.set(SPENT, JSON.stringify(spent)),
  });
  const mostAsked = Math.min(MOST_ASKED, 1 + settings.retries);
  const counts = { cached: 0, malformed: 0, unanswered: 0, pairs: 0, flipped: 0, firstPlace: 0, decided: 0 };
  const asked = new Map<string, Promise<string | null>>();

  /** What `read` makes of the judge's answer; asks again where it makes nothing. */
  async function ask(messages: Message[], read: (text: string) => string | null): Promise<string | null> {
    let conversation = messages;
    for (let times = 1; times <= mostAsked; times++) {
      const text = await client.ask(conversation);
      const result = text === undefined ? null : read(text);
      if (result !== null) return result;
      counts.malformed++;
      if (!text) continue;
      conversation = [
        ...messages,
        { role: "assistant", content: text },
        { role: "user", content: AGAIN },
      ];
    }
    counts.unanswered++;
    return null;
  }

  /** The same from the cache, or from a question that is being asked. */
  function answer(messages: Message[], read: (text: string) => string | null): Promise<string | null> {
    const key = keyOf(settings, messages), known = cache.get(key) ?? asked.get(key);
    if (known !== undefined) {
      counts.cached++;
      return Promise.resolve(known);
    }
    const result = ask(messages, read).then((word) => {
      if (word !== null) cache.set(key, word);
      return word;
    }).finally(() => asked.delete(key));
    asked.set(key, result);
    return result;
  }

  async function verdict(prompt: Content, a: Content, b: Content): Promise<Verdict | null> {
    const word = await answer(comparisonQuestion(rubric, prompt, [a, b]), readVerdict) as Verdict | null;
    if (word === "A" || word === "B") {
      counts.decided++;
      if (word === "A") counts.firstPlace++;
    }
    return word;
  }

  return {
    async compare(prompt, first, second) {
      if (completionText(first) === completionText(second)) return { better: "tie", flipped: false };
      const [one, exchanged] = await allEnded([
        verdict(prompt, first, second),
        verdict(prompt, second, first),
      ]);
      if (one === null || exchanged === null) return { better: null, flipped: false };
      const two = OTHER[exchanged];
      const flipped = one !== "tie" && two === OTHER[one];
      counts.pairs++;
      if (flipped) counts.flipped++;
      const agreed = one === two ? one : "tie";
      return { better: agreed === "A" ? "first" : agreed === "B" ? "second" : "tie", flipped };
    },
    async rate(prompt, given) {
      const word = await answer(scoreQuestion(rubric, prompt, given), (text) => {
        const score = readScore(text, SCORES.least, SCORES.most);
        return score === null ? null : String(score);
      });
      return word === null ? null : Number(word);
    },
    metrics: () => ({
      "judge/requests": client.spent.requests,
      "judge/cached": counts.cached,
      "judge/malformed": counts.malformed,
      "judge/unanswered": counts.unanswered,
      "judge/prompt_tokens": client.spent.promptTokens,
      "judge/completion_tokens": client.spent.completionTokens,
      "judge/cost": costOf(client.spent, limits),
      ...counts.pairs > 0 && { "judge/position_bias": counts.flipped / counts.pairs },
      ...counts.decided > 0 && { "judge/first_place": counts.firstPlace / counts.decided },
    }),
  };
}

/** A judge's scores as a source of rewards. */
export function judgeReward(judge: Judge): Omit<RewardSource, "weight"> {
  return {
    name: "judge",
    score: ({ prompts, completions }) =>
      allEnded(prompts.map((prompt, i) => judge.rate(prompt, completions[i]))),
    metrics: judge.metrics,
  };
}
