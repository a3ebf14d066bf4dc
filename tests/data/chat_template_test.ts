/** Chat templates against transformers' Jinja: the same text, or an error; never another text. */
import assert from "node:assert/strict";
import { chatTemplate } from "../../src/data/chat_template.ts";
import { golden } from "../assets.ts";

interface Row {
  name: string;
  template: string;
  text?: string;
  error?: string;
}

const { rows, messages, tools } = JSON.parse(
  Deno.readTextFileSync(golden("tokenizers/chat_templates.json")),
) as { rows: Row[]; messages: unknown; tools: unknown };

/** What the package does not know and says so. */
const REFUSED = [
  "raw",
  "'a' is equalto 'a'",
  "2.5 is float",
  "1e21",
  "1e-7 | tojson",
  "3.7 | round",
  "2.567 | round(1)",
  "'x' * 3",
  "'abcabc'.find('c')",
  "[1,2,3] | sum",
  "'abc' | reverse",
  "[[1,2],[3]] | map('length') | list",
  "['b','a'] | max",
  "'a' < 'b'",
];

/** Whole numbers have no point once they are JSON, and pairs of a sorted mapping are lists. */
const OTHERWISE: Record<string, [from: string, to: string]> = {
  "1.0 | tojson": ["1.0", "1"],
  dictionaries: ["[('a', 2), ('b', 1)]", "[['a', 2], ['b', 1]]"],
};

function render(template: string): string {
  return chatTemplate(template).render({
    messages,
    tools,
    add_generation_prompt: true,
    bos_token: "<s>",
    eos_token: "</s>",
  });
}

Deno.test("templates give the text that they give in Python", () => {
  assert.ok(rows.length > 150);
  for (const { name, template, text, error } of rows) {
    if (REFUSED.includes(name)) assert.throws(() => render(template), Error, name);
    else if (error !== undefined) assert.throws(() => render(template), { message: error }, name);
    else assert.equal(render(template), text!.replace(...OTHERWISE[name] ?? ["", ""]), name);
  }
});

Deno.test("no value of a conversation is written in JavaScript's way", () => {
  const written = [true, false, null, [null, true], { a: null }, 0.00001, 1e22, 123456789.5];
  const python = ["True", "False", "None", "[None, True]", "{'a': None}", "1e-05", "1e+22", "123456789.5"];
  written.forEach((value, i) => assert.equal(chatTemplate("{{ value }}").render({ value }), python[i]));
  assert.equal(chatTemplate("[{{ absent }}]{% set x = none %}{# none #}").render({}), "[]");
  assert.throws(() => chatTemplate("{% if %}"), Error);
});
