/**
 * Token ids of texts and of conversations, alone and as a prompt with its answer.
 *
 * @module
 */
import type { Content, TemplateInputs } from "./messages.ts";
import type { DataRow } from "./rows.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** What {@linkcode encodeContent} may be told. */
export interface EncodeOptions {
  /** A conversation ends with the beginning of the assistant's turn. */
  addGenerationPrompt?: boolean;
  /** Further inputs of the chat template. */
  template?: TemplateInputs;
}

/** Ids of a text, or of a conversation through the chat template. */
export function encodeContent(tokenizer: Tokenizer, content: Content, options: EncodeOptions = {}): number[] {
  if (typeof content === "string") return tokenizer.encode(content);
  const { addGenerationPrompt, template } = options;
  return tokenizer.encode(tokenizer.applyChatTemplate(content, { addGenerationPrompt, ...template }), {
    addSpecialTokens: false,
  });
}

/** Two texts or two conversations in a row. */
export function joinContents(prompt: Content, answer: Content): Content {
  return typeof prompt === "string" ? prompt + answer : [...prompt, ...answer as Exclude<Content, string>];
}

/** Text that ends with the end token, once; a conversation is left to its template. */
export function endedContent(tokenizer: Tokenizer, content: Content): Content {
  if (typeof content !== "string") return content;
  const { eosToken, source } = tokenizer;
  if (eosToken === undefined) {
    throw new Error(`The tokenizer in ${source} names no "eos_token", which must end every example.`);
  }
  return content.endsWith(eosToken) ? content : content + eosToken;
}

function commonPrefixLength(a: number[], b: number[]): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}

/**
 * Ids of a prompt with its completion and how many at their beginning are prompt. Tokens may merge across the boundary; the
 * completion begins where the encodings with and without it part.
 */
export function encodeAnswered(
  tokenizer: Tokenizer,
  prompt: Content,
  completion: Content,
  template?: TemplateInputs,
): { ids: number[]; promptLength: number } {
  const ids = encodeContent(tokenizer, joinContents(prompt, completion), { template });
  const alone = encodeContent(tokenizer, prompt, { addGenerationPrompt: true, template });
  return { ids, promptLength: commonPrefixLength(alone, ids) };
}

/** Does the work on a row; an error names the row. */
export function naming<T>({ where }: DataRow, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new Error(`${where}: ${(error as Error).message}`, { cause: error });
  }
}
