/** The tokenizer of SmolLM2, which is not committed; only within an `assetTest`. */
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { loadTokenizer, type Tokenizer } from "../../src/data/tokenizer.ts";
import { asset } from "../assets.ts";

/** SmolLM2's tokenizer, with another chat template where one is given. */
export function smolTokenizer(directory: string, template?: string | null): Tokenizer {
  const from = asset("goldens/tokenizers/smollm2");
  Deno.writeFileSync(
    join(directory, "tokenizer.json"),
    gunzipSync(Deno.readFileSync(join(from, "tokenizer.json.gz"))),
  );
  Deno.copyFileSync(join(from, "tokenizer_config.json"), join(directory, "tokenizer_config.json"));
  if (template) Deno.writeTextFileSync(join(directory, "chat_template.jinja"), template);
  return loadTokenizer(directory);
}
