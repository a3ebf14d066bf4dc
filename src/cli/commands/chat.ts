/**
 * `keel chat`: a conversation with a model, line by line.
 *
 * @module
 */
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { openGpu } from "../../gpu/device.ts";
import type { Model } from "../../model/decoder.ts";
import { loadFrozen } from "../../model/load.ts";
import { tokenizerSource } from "../../model/peft.ts";
import { INTERRUPTED } from "../../run/interrupt.ts";
import { openGenerator } from "../../sample/generate.ts";
import { tokenText } from "../../sample/text_stream.ts";
import type { ChatOptions } from "../../train/options/chat.ts";
import { type Answer, chat, type ChatSettings } from "../chat_loop.ts";
import { fetchNamed } from "../hub_names.ts";
import { textLines } from "../lines.ts";
import type { CommandBody } from "../program.ts";
import { withRun } from "../run_models.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options } = await fetchNamed<ChatOptions>(withRun(given), io);
  const directory = options.modelNameOrPath;
  const gpu = await openGpu();
  const answering = watchInterrupt();
  try {
    const model = loadFrozen(gpu, directory, options.dtype);
    if (model.config.architecture === "reward") {
      throw new Error(`Cannot chat with ${directory}: it is a reward model. Use a language model.`);
    }
    const tokenizer = loadTokenizer(tokenizerSource(directory));
    checkVocabulary(tokenizer, model.config.vocabSize, directory);
    if (options.system !== undefined && !tokenizer.hasChatTemplate) {
      throw new Error(`--system has no place here: the tokenizer in ${directory} has no chat template.`);
    }
    const stopIds = stopsOf(model, tokenizer.eosId);
    const generator = openGenerator({ gpu }, model);
    const answer: ChatSettings["answer"] = async (ids, room, turn, write) => {
      const text = tokenText(tokenizer), begin = performance.now();
      let whole = "", tokens = 0, finishReason: Answer["finishReason"] = "length";
      const give = (piece: string) => {
        whole += piece;
        write(piece);
      };
      const stopped = answering.begin();
      await generator.generate([{ ids, samples: [turn] }], {
        temperature: options.temperature,
        topK: options.topK,
        topP: options.topP,
        stopIds,
        maxNewTokens: room,
        seed: options.seed,
        stream: 0,
      }, {
        async onTokens([drawn]) {
          for (const id of drawn.ids) {
            tokens++;
            if (stopIds.includes(id)) finishReason = "stop";
            else give(text.push(id));
          }
          // Signals are seen only while there is nothing to do.
          await new Promise((resolve) => setTimeout(resolve));
          if (!stopped() || finishReason === "stop") return false;
          finishReason = "interrupted";
          return true;
        },
      });
      answering.end();
      give(text.end());
      return { text: whole, tokens, finishReason, seconds: (performance.now() - begin) / 1000 };
    };
    await chat(textLines(Deno.stdin.readable), {
      tokenizer,
      maxPositions: model.config.maxPositions,
      maxNewTokens: options.maxNewTokens,
      system: options.system,
      interactive: Deno.stdin.isTerminal(),
      answer,
    }, io);
  } finally {
    answering.close();
    gpu.close();
  }
};

/** What ends an answer: the model's end tokens, and the tokenizer's, which is the end of a turn in many chat models. */
function stopsOf({ config }: Model, eosId?: number): number[] {
  return [...new Set([...config.eosIds, ...eosId === undefined ? [] : [eosId]])];
}

/** Ctrl-C: the first stops the answer that is coming; where none is, or once more, it ends the program. */
function watchInterrupt() {
  let state: "idle" | "answering" | "stopped" = "idle";
  const listener = () => {
    if (state !== "answering") Deno.exit(INTERRUPTED);
    state = "stopped";
  };
  Deno.addSignalListener("SIGINT", listener);
  return {
    /** An answer begins; tells whether it is to stop. */
    begin(): () => boolean {
      state = "answering";
      return () => state === "stopped";
    },
    end: () => void (state = "idle"),
    close: () => Deno.removeSignalListener("SIGINT", listener),
  };
}
