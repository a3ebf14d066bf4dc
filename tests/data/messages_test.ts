import assert from "node:assert/strict";
import { parseExample } from "../../src/data/formats.ts";
import { makeRows } from "../../src/data/rows.ts";

const parse = (columns: Record<string, unknown>) => {
  const [row] = makeRows("x", [columns]);
  return parseExample(row, "completion" in columns ? "prompt-completion" : "language modelling");
};
const user = { role: "user", content: "a" };

Deno.test("ShareGPT's conversations are read as messages, with the roles that they have", () => {
  const conversations = [{ from: "human", value: "a" }, { from: "gpt", value: "b", weight: 1 }];
  assert.deepEqual(parse({ conversations }), {
    type: "language modelling",
    text: [{ role: "human", content: "a" }, { role: "gpt", content: "b", weight: 1 }],
  });
  assert.deepEqual(parse({ conversations: [user] }), { type: "language modelling", text: [user] });
});

Deno.test("parts that are all text become one text; others are refused by their type", () => {
  const content = [{ type: "text", text: "a" }, { type: "text", text: "b", index: null }];
  assert.deepEqual(parse({ messages: [{ role: "user", content }] }), {
    type: "language modelling",
    text: [{ role: "user", content: "ab" }],
  });
  assert.throws(
    () => parse({ messages: [{ role: "user", content: [...content, { type: "image" }] }] }),
    /Cannot read x row 1: a message of "messages" has a part of type "image"\. Expected text only/,
  );
});

Deno.test("a turn that calls tools may say nothing, any other turn must say something", () => {
  const call = { type: "function", function: { name: "f", arguments: { a: 1 } } };
  const silent = { role: "assistant", content: null, tool_calls: [call] };
  const example = parse({ messages: [user, silent, { role: "tool", name: "f", content: "2" }] });
  assert.deepEqual((example as { text: unknown[] }).text[1], silent);
  assert.deepEqual(parse({ messages: [{ role: "assistant", tool_calls: [call] }] }), {
    type: "language modelling",
    text: [silent],
  });
  for (const tool_calls of [null, []]) {
    assert.throws(
      () => parse({ messages: [{ role: "assistant", content: null, tool_calls }] }),
      /a message of "messages" is not \{"role": text, "content": text\}/,
    );
  }
  assert.throws(
    () => parse({ messages: [{ role: "assistant", content: "x", tool_calls: "f()" }] }),
    /has "tool_calls" that are not a list of objects/,
  );
});

Deno.test("tools and variables of the template go with conversations, as lists and objects or as JSON", () => {
  const tools = [{ type: "function", function: { name: "f" } }], chat_template_kwargs = { thinking: false };
  const expected = {
    type: "language modelling",
    text: [user],
    template: { tools, variables: chat_template_kwargs },
  };
  assert.deepEqual(parse({ messages: [user], tools, chat_template_kwargs }), expected);
  assert.deepEqual(
    parse({
      messages: [user],
      tools: JSON.stringify(tools),
      chat_template_kwargs: JSON.stringify(chat_template_kwargs),
    }),
    expected,
  );
  for (const none of [null, "", "null"]) {
    assert.deepEqual(parse({ messages: [user], tools: none }), { type: "language modelling", text: [user] });
  }
  assert.deepEqual(parse({ text: "a", tools }), { type: "language modelling", text: "a" });
  assert.throws(
    () => parse({ messages: [user], tools: "{" }),
    /Cannot read x row 1: "tools" is not valid JSON/,
  );
  assert.throws(() => parse({ messages: [user], tools: {} }), /"tools" is not a list of JSON schemas/);
  assert.throws(
    () => parse({ messages: [user], chat_template_kwargs: "3" }),
    /"chat_template_kwargs" is not an object/,
  );
});
