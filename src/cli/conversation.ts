/**
 * A conversation as a prompt: through the chat template, within the model's positions.
 *
 * @module
 */
import type { Message, Tokenizer } from "../data/tokenizer.ts";

/** What one side said. */
export type Turn = Message & { content: string };

/** What was said. */
export interface Conversation {
  /** What the model is told before everything. */
  system?: string;
  /** User and assistant in turn; a user comes first. */
  turns: Turn[];
}

/** A prompt with room for an answer. */
export interface FittedPrompt {
  ids: number[];
  /** Exchanges at the beginning that were let go for it. */
  dropped: number;
  /** Most tokens of the answer. */
  room: number;
}

/**
 * The prompt of a conversation whose last turn is the user's. Where it is too long the oldest exchanges are let go, until a
 * quarter of the positions, or as much as is wanted, is free for the answer. A model without a chat template continues the
 * last turn alone.
 *
 * @throws {Error} when the last turn alone is too long.
 */
export function fitPrompt(
  tokenizer: Tokenizer,
  conversation: Conversation,
  { maxPositions, maxNewTokens }: { maxPositions: number; maxNewTokens: number },
): FittedPrompt {
  const { system, turns } = conversation;
  const reserve = Math.min(maxNewTokens, Math.ceil(maxPositions / 4));
  const first: Message[] = system === undefined ? [] : [{ role: "system", content: system }];
  const encode = () =>
    tokenizer.hasChatTemplate
      ? tokenizer.encode(tokenizer.applyChatTemplate([...first, ...turns], { addGenerationPrompt: true }), {
        addSpecialTokens: false,
      })
      : tokenizer.encode(turns[turns.length - 1].content);
  let ids = encode(), dropped = 0;
  for (; ids.length + reserve > maxPositions && turns.length > 1; dropped++) {
    turns.splice(0, 2);
    ids = encode();
  }
  const room = Math.min(maxNewTokens, maxPositions - ids.length);
  if (room < 1) {
    throw new Error(
      `This is too long: it comes to ${ids.length} tokens, and the model has ${maxPositions} positions for it and its answer. Say it in fewer words.`,
    );
  }
  if (ids.length === 0) throw new Error("This comes to no tokens at all. Say something.");
  return { ids, dropped, room };
}
