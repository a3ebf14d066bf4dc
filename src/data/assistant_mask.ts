/**
 * Which tokens of a conversation are the assistant's, for `assistant_only_loss`.
 *
 * A chat template says it with `{% generation %} … {% endgeneration %}`; as in transformers, a token counts when it overlaps
 * such a span. Of a template without them, TRL patches the ones that it knows; here the conversation is rendered turn by turn:
 * what the template adds after the generation prompt is the assistant's, provided that every shorter rendering is the
 * beginning of the whole one.
 *
 * @module
 */
import type { TemplateInputs } from "./messages.ts";
import type { Message, Tokenizer } from "./tokenizer.ts";

/** A part of a text, in UTF-16 units: from `begin` to before `end`. */
export interface Span {
  begin: number;
  end: number;
}

const MARKS = /\{%(-?)\s*(end)?generation\s*(-?)%\}/g;

/** Characters of the private-use area, which stand for a span's two ends while a template is rendered. */
const BEGIN = "\u{E0F0}", END = "\u{E0F1}";

/** The template with its markers replaced by blocks that write a character; such blocks trim white space as markers do. */
function writingMarks(template: string): string {
  return template.replace(
    MARKS,
    (_, left, end, right) => `{%${left} if true %}{{ "${end ? END : BEGIN}" }}{% endif ${right}%}`,
  );
}

/** Takes the marks out of a text and says where they were. */
function takeMarks(marked: string): { text: string; spans: Span[] } {
  let text = "";
  const spans: Span[] = [];
  for (const piece of marked.split(new RegExp(`(${BEGIN}|${END})`))) {
    if (piece === BEGIN) spans.push({ begin: text.length, end: Infinity });
    else if (piece === END && spans.length) spans[spans.length - 1].end = text.length;
    else text += piece;
  }
  return { text, spans: spans.map(({ begin, end }) => ({ begin, end: Math.min(end, text.length) })) };
}

/** The assistant's parts of a conversation by the template's own markers, and the whole text. */
function markedSpans(
  tokenizer: Tokenizer,
  messages: Message[],
  template: TemplateInputs | undefined,
): { text: string; spans: Span[] } {
  const text = tokenizer.applyChatTemplate(messages, template);
  const chatTemplate = writingMarks(tokenizer.chatTemplate!);
  const marked = takeMarks(tokenizer.applyChatTemplate(messages, { ...template, chatTemplate }));
  if (marked.text !== text) {
    throw new Error(
      `The chat template of ${tokenizer.source} changes what stands between its generation markers, so the assistant's tokens cannot be told. Set assistant_only_loss to false.`,
    );
  }
  return marked;
}

/** The assistant's parts by rendering turn by turn. */
function renderedSpans(
  tokenizer: Tokenizer,
  messages: Message[],
  template: TemplateInputs | undefined,
): { text: string; spans: Span[] } {
  const text = tokenizer.applyChatTemplate(messages, template);
  const refuse = (): never => {
    throw new Error(
      `The chat template of ${tokenizer.source} has no {% generation %} markers, and it writes earlier turns otherwise when more follow, so the assistant's tokens cannot be told. Put {% generation %} and {% endgeneration %} around the assistant's turns in the template, or set assistant_only_loss to false.`,
    );
  };
  const spans = messages.flatMap(({ role }, i) => {
    if (role !== "assistant") return [];
    const before = tokenizer.applyChatTemplate(messages.slice(0, i), {
      ...template,
      addGenerationPrompt: true,
    });
    const after = tokenizer.applyChatTemplate(messages.slice(0, i + 1), template);
    if (!after.startsWith(before) || !text.startsWith(after)) refuse();
    return [{ begin: before.length, end: after.length }];
  });
  return { text, spans };
}

/** The first and the last byte (exclusive) that each token stands for in a text, in UTF-8. */
export function tokenOffsets(tokenizer: Tokenizer, text: string, ids: number[]): [number, number][] {
  const bytes = new TextEncoder().encode(text);
  const isSpace = (byte: number) => byte === 0x20 || byte >= 0x09 && byte <= 0x0d;
  const matches = (token: Uint8Array, at: number) => token.every((byte, i) => bytes[at + i] === byte);
  let at = 0;
  return ids.map((id) => {
    let token = tokenizer.tokenBytes(id);
    if (!matches(token, at)) {
      // SentencePiece puts a space before a text; special tokens may swallow white space around them.
      if (token[0] === 0x20 && matches(token.subarray(1), at)) token = token.subarray(1);
      else while (at < bytes.length && isSpace(bytes[at]) && !matches(token, at)) at++;
    }
    if (!matches(token, at)) {
      throw new Error(
        `The tokenizer in ${tokenizer.source} changes texts before it cuts them (token ${id}), so the assistant's tokens cannot be told. Set assistant_only_loss to false.`,
      );
    }
    const begin = at;
    at += token.length;
    return [begin, at];
  });
}

/** Ids of a conversation and, per token, whether it is the assistant's. */
export function encodeMasked(
  tokenizer: Tokenizer,
  messages: Message[],
  template?: TemplateInputs,
): { ids: number[]; assistant: boolean[] } {
  const hasMarks = tokenizer.chatTemplate !== undefined && tokenizer.chatTemplate.search(MARKS) >= 0;
  const { text, spans } = (hasMarks ? markedSpans : renderedSpans)(tokenizer, messages, template);
  const ids = tokenizer.encode(text, { addSpecialTokens: false });
  const bytesBefore = (end: number) => new TextEncoder().encode(text.slice(0, end)).length;
  const ranges = spans.map(({ begin, end }) => [bytesBefore(begin), bytesBefore(end)]);
  let next = 0;
  const assistant = tokenOffsets(tokenizer, text, ids).map(([begin, end]) => {
    while (next < ranges.length && begin >= ranges[next][1]) next++;
    return next < ranges.length && end > ranges[next][0];
  });
  if (!assistant.includes(true)) {
    throw new Error(
      "assistant_only_loss is true, but the conversation has no turn of the assistant. Expected messages with role assistant.",
    );
  }
  return { ids, assistant };
}

/**
 * Whether the token that ends the assistant's turn counts as the assistant's, as TRL checks it: of a short conversation in which
 * the user goes on, the last such token that is not white space is a special one. Without it a model is not taught to stop.
 */
export function endsTurns(tokenizer: Tokenizer): boolean {
  const turn = (role: string) => ({ role, content: "dummy" });
  let masked: { ids: number[]; assistant: boolean[] };
  try {
    masked = encodeMasked(tokenizer, [turn("user"), turn("assistant"), turn("user")]);
  } catch {
    // The template does not take such a conversation; the rows will say what is wrong.
    return true;
  }
  const text = (id: number, skipSpecialTokens: boolean) =>
    tokenizer.decode([id], { skipSpecialTokens, cleanUpSpaces: false }).trim();
  const last = masked.ids.findLast((id, t) => masked.assistant[t] && text(id, false) !== "");
  return last === undefined || text(last, true) === "";
}
