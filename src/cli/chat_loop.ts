/**
 * A chat line by line: what is a command and what is said, and what becomes of the conversation.
 *
 * @module
 */
import type { Tokenizer } from "../data/tokenizer.ts";
import { type Conversation, fitPrompt } from "./conversation.ts";
import type { Io } from "./io.ts";
import { nearest } from "./usage_error.ts";

/** An answer of the model. */
export interface Answer {
  text: string;
  tokens: number;
  seconds: number;
  /** Whether a stop token ended it, the limit, or the person. */
  finishReason: "stop" | "length" | "interrupted";
}

/** What a chat needs. */
export interface ChatSettings {
  tokenizer: Tokenizer;
  /** Positions of the model. */
  maxPositions: number;
  /** Most tokens of an answer. */
  maxNewTokens: number;
  system?: string;
  /** A person types: there are prompts, and an error does not end it. */
  interactive: boolean;
  /** Answers a prompt; `write` gets the text while it comes. */
  answer(ids: number[], room: number, turn: number, write: (text: string) => void): Promise<Answer>;
}

const HELP = `/reset        forget what was said
/system TEXT  tell the model something before everything, and forget what was said; without a text, nothing
/undo         forget the last exchange
/exit         leave, as Ctrl-D does
//TEXT        say /TEXT
Ctrl-C stops an answer, and leaves where there is none.`;

const COMMANDS = ["reset", "system", "undo", "exit", "help"];

/** Talks until the lines end or /exit. */
export async function chat(lines: AsyncIterable<string>, settings: ChatSettings, io: Io): Promise<void> {
  const { tokenizer, interactive } = settings;
  const conversation: Conversation = { system: settings.system, turns: [] };
  const invite = () => interactive && io.draw("> ");
  if (!tokenizer.hasChatTemplate) {
    io.note("This model has no chat template: it continues every line by itself, as a text.");
  }
  let turn = 0;
  invite();
  for await (const line of lines) {
    const [, command, rest] = /^\/(?!\/)(\S*)\s*(.*)$/s.exec(line) ?? [];
    try {
      if (command === "exit" || command === "quit") return;
      if (command !== undefined) runCommand(command, rest, conversation, settings, io);
      else if (line.trim() !== "") {
        await exchange(line.replace(/^\/\//, "/"), conversation, turn++, settings, io);
      }
    } catch (error) {
      // A program that feeds lines must learn that one of them went wrong.
      if (!interactive) throw error;
      io.note((error as Error).message);
    }
    invite();
  }
  if (interactive) io.draw("\n");
}

function runCommand(
  command: string,
  rest: string,
  conversation: Conversation,
  { tokenizer }: ChatSettings,
  io: Io,
): void {
  switch (command) {
    case "help":
      return io.note(HELP);
    case "reset":
      conversation.turns = [];
      return io.note("Forgotten.");
    case "undo":
      conversation.turns.splice(-2);
      return io.note(`${conversation.turns.length / 2} exchanges are left.`);
    case "system":
      if (!tokenizer.hasChatTemplate) throw new Error("A model without a chat template has no system text.");
      conversation.system = rest || undefined;
      conversation.turns = [];
      return io.note(
        rest ? "The model will be told that, from the beginning." : "The model is told nothing before.",
      );
  }
  const close = nearest(command, COMMANDS);
  throw new Error(
    `There is no command /${command}. ${
      close ? `Did you mean /${close}?` : "/help lists them."
    } A line that begins with // is said with one /.`,
  );
}

/** One exchange; a turn that cannot be answered is taken back. */
async function exchange(
  content: string,
  conversation: Conversation,
  turn: number,
  settings: ChatSettings,
  io: Io,
): Promise<void> {
  conversation.turns.push({ role: "user", content });
  try {
    const { ids, room, dropped } = fitPrompt(settings.tokenizer, conversation, settings);
    if (dropped) {
      io.note(
        `The model's ${settings.maxPositions} positions are full: ${dropped} exchange${
          dropped === 1 ? " is" : "s are"
        } forgotten.`,
      );
    }
    let written = false;
    const write = (text: string) => {
      if (io.json || text === "") return;
      io.write(text);
      written = true;
    };
    const answer = await settings.answer(ids, room, turn, write);
    if (io.json) {
      const { text, tokens, finishReason } = answer;
      io.print(JSON.stringify({ prompt: content, completion: text, tokens, finish_reason: finishReason }));
    } else if (written || !settings.interactive) io.print("");
    conversation.turns.push({ role: "assistant", content: answer.text });
    if (!settings.tokenizer.hasChatTemplate) conversation.turns = [];
    if (answer.finishReason === "length") {
      io.note(
        room < settings.maxNewTokens
          ? `The answer ends here: the model's ${settings.maxPositions} positions are full.`
          : `The answer ends here: it has ${room} tokens (--max_new_tokens).`,
      );
    }
    if (io.terminal && answer.tokens > 0) {
      io.note(`[${answer.tokens} tokens, ${(answer.tokens / answer.seconds).toFixed(1)} tokens/s]`);
    }
  } catch (error) {
    if (conversation.turns.at(-1)?.role === "user") conversation.turns.pop();
    throw error;
  }
}
