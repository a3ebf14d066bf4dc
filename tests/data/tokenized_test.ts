/** Rows of every kind against what TRL 1.16's trainers make of them with SmolLM2's tokenizer. */
import assert from "node:assert/strict";
import { endsTurns } from "../../src/data/assistant_mask.ts";
import { makeRows } from "../../src/data/rows.ts";
import { type SftSettings, tokenizePairs, tokenizeSft, unpairedTokenizer } from "../../src/data/tokenize.ts";
import { assetTest, golden, withDirectory } from "../assets.ts";
import { smolTokenizer } from "./smol.ts";

interface Case {
  name: string;
  rows: Record<string, unknown>[];
  template: string | null;
  options: Record<string, unknown>;
  sft?: { input_ids: number[]; labels: number[] }[];
  unpaired?: { prompt: number[]; completion: number[]; label: boolean }[];
  pairs?: { chosen: number[]; rejected: number[] }[];
}

const { cases }: { cases: Case[] } = JSON.parse(
  Deno.readTextFileSync(golden("datasets/tokenized.json")),
);

function settingsOf(options: Record<string, unknown>): SftSettings {
  return {
    maxLength: options.max_length as number | null,
    truncationMode: (options.truncation_mode ?? "keep_start") as SftSettings["truncationMode"],
    completionOnlyLoss: (options.completion_only_loss ?? null) as boolean | null,
    assistantOnlyLoss: options.assistant_only_loss === true,
  };
}

assetTest("ids and scored tokens of rows of every kind are TRL's", async () => {
  for (const one of cases) {
    await withDirectory((directory) => {
      const tokenizer = smolTokenizer(directory, one.template);
      const rows = makeRows("rows", one.rows);
      if (one.pairs) {
        const { examples } = tokenizePairs(rows, tokenizer, { maxLength: one.options.max_length as number });
        assert.deepEqual(examples, one.pairs, one.name);
        return;
      }
      if (one.unpaired) {
        const tokenize = unpairedTokenizer(tokenizer, { maxLength: one.options.max_length as number });
        const examples = rows.map(tokenize).flatMap((outcome) =>
          "example" in outcome ? [outcome.example] : []
        );
        assert.deepEqual(
          examples,
          one.unpaired.map(({ prompt, completion, label }) => ({
            ids: [...prompt, ...completion],
            promptLength: prompt.length,
            label,
          })),
          one.name,
        );
        assert.ok(one.rows.length === 1 || examples.length === one.rows.length - 1);
        return;
      }
      const { examples } = tokenizeSft(rows, tokenizer, settingsOf(one.options));
      assert.deepEqual(examples.map(({ ids }) => ids), one.sft!.map((row) => row.input_ids), one.name);
      assert.deepEqual(
        examples.map(({ scored }) => scored),
        one.sft!.map((row) => row.labels.map((label, i) => i > 0 && label !== -100)),
        one.name,
      );
    });
  }
});

assetTest(
  "without markers, a turn of the assistant is what the template adds after the generation prompt",
  async () => {
    const marked = cases.find(({ name }) => name === "assistant's turns, trimming markers")!;
    const template = marked.template!.replaceAll(/\{%-?\s*(end)?generation\s*-?%\}\s*/g, "");
    await withDirectory((directory) => {
      const { examples } = tokenizeSft(
        makeRows("rows", marked.rows),
        smolTokenizer(directory, template),
        settingsOf(marked.options),
      );
      for (const [i, { ids, scored }] of examples.entries()) {
        const { input_ids, labels } = marked.sft![i];
        assert.deepEqual(ids, input_ids);
        // The line break after the end of a turn belongs to it here, and not between those markers.
        const expected = labels.map((label, t) => label !== -100 || (t > 0 && labels[t - 1] === 2));
        assert.deepEqual(scored, expected);
        assert.ok(expected.filter(Boolean).length > labels.filter((label) => label !== -100).length);
      }
    });
  },
);

assetTest(
  "templates of which the assistant's tokens cannot be told are refused with what to do",
  async () => {
    const rows = makeRows("rows", [{
      messages: [{ role: "user", content: "a" }, { role: "assistant", content: "b" }, {
        role: "user",
        content: "c",
      }],
    }]);
    const refused: [string, RegExp][] = [
      // Only the last turn of the assistant has this mark, so an earlier one changes when others follow.
      [
        "{% for m in messages %}<|im_start|>{{ m.content }}{{ '!' if loop.last and m.role == 'assistant' }}{% endfor %}",
        /rows row 1: The chat template of .* has no \{% generation %\} markers, and it writes earlier turns otherwise/,
      ],
      [
        "{% for m in messages %}{% set x %}{% generation %}{{ m.content }}{% endgeneration %}{% endset %}{{ x | length }}{% endfor %}",
        /changes what stands between its generation markers/,
      ],
      [
        "{% for m in messages %}{% if m.role == 'bot' %}{% generation %}x{% endgeneration %}{% endif %}{{ m.content }}{% endfor %}",
        /the conversation has no turn of the assistant/,
      ],
    ];
    for (const [template, message] of refused) {
      await withDirectory((directory) => {
        const tokenizer = smolTokenizer(directory, template);
        assert.throws(() => tokenizeSft(rows, tokenizer, { assistantOnlyLoss: true }), message);
      });
    }
    await withDirectory((directory) => {
      assert.throws(
        () =>
          tokenizeSft(makeRows("rows", [{ text: "a" }]), smolTokenizer(directory), {
            assistantOnlyLoss: true,
          }),
        /assistant_only_loss is true, but the rows are texts\. Expected conversations/,
      );
    });
  },
);

assetTest("whether the end of the assistant's turn is trained on is known", async () => {
  const turn = (before: string, after: string) =>
    `{% for m in messages %}<|im_start|>{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}{{ m.content }}${before}{% endgeneration %}${after}{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}`;
  const templates: [string | null, boolean][] = [
    [turn("<|im_end|>", ""), true],
    [turn("<|im_end|>{{ '\\n' }}", ""), true],
    [turn("", "<|im_end|>"), false],
    [null, true],
  ];
  for (const [template, expected] of templates) {
    await withDirectory((directory) => {
      assert.equal(endsTurns(smolTokenizer(directory, template)), expected, `${template}`);
    });
  }
});
