/**
 * Prefill and decoding with node-llama-cpp on the CPU: `node llama.mjs MODULE MODEL PROMPT_TOKENS NEW_TOKENS ROUNDS THREADS`; prints
 * {prefill, decode}, each the tokens per second of every round.
 */
import { pathToFileURL } from "node:url";

const [module, modelPath, prompt, more, rounds, threads] = process.argv.slice(2);
const { getLlama } = await import(pathToFileURL(module).href);
const llama = await getLlama({ gpu: false, logLevel: "error" });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: 1024, threads: Number(threads) });
const sequence = context.getSequence();
const tokens = Array.from({ length: Number(prompt) }, (_, i) => 1000 + i * 37 % 40000);
const seconds = async (work) => {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) / 1000;
};
const prefill = [], decode = [];
for (let round = -1; round < Number(rounds); round++) {
  await sequence.clearHistory();
  const first = await seconds(() => sequence.evaluateWithoutGeneratingNewTokens(tokens));
  let count = 0;
  const rest = await seconds(async () => {
    for await (const _ of sequence.evaluate([500], { temperature: 0, yieldEogToken: true })) {
      if (++count === Number(more)) break;
    }
  });
  // The first round warms up.
  if (round < 0) continue;
  prefill.push(tokens.length / first);
  decode.push(count / rest);
}
console.log(JSON.stringify({ prefill, decode }));
process.exit(0);
