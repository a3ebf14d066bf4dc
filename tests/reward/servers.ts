/** Servers for tests: a judge whose verdicts follow a rule, and others that say what a test wants. */

/** What a test does with a request instead of answering it as usual; nothing for the usual answer. */
export type Interference = (number: number) => Response | Promise<Response> | undefined;

/** A server that goes. */
export interface TestServer {
  url: string;
  /** Bodies of the requests so far, in the order in which they came. */
  // deno-lint-ignore no-explicit-any
  seen: any[];
  /** Values of the header Authorization. */
  keys: (string | null)[];
  /** Most requests at the same time. */
  most: number;
  interfere?: Interference;
  close(): Promise<void>;
}

/** Starts a server that answers a JSON body with what `answer` makes of it. */
export function startServer(answer: (body: unknown) => unknown): TestServer {
  let running = 0;
  /** Ends what a test left hanging. */
  const stopped = Promise.withResolvers<Response>();
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    test.most = Math.max(test.most, ++running);
    try {
      const body = await request.json();
      test.seen.push(body);
      test.keys.push(request.headers.get("Authorization"));
      // Others may come in the meantime.
      await new Promise((resolve) => setTimeout(resolve, 1));
      const other = test.interfere?.(test.seen.length);
      return other ? await Promise.race([other, stopped.promise]) : Response.json(answer(body));
    } finally {
      running--;
    }
  });
  const test: TestServer = {
    url: `http://127.0.0.1:${server.addr.port}`,
    seen: [],
    keys: [],
    most: 0,
    async close() {
      stopped.resolve(new Response(null, { status: 503 }));
      await server.shutdown();
    },
  };
  return test;
}

/** What a judge is asked about: the texts between the tags. */
export interface Asked {
  prompt: string;
  /** One answer, or two in the order in which they are shown. */
  answers: string[];
}

/** The material of a judge's question. */
export function readQuestion({ messages }: { messages: { content: string }[] }): Asked {
  const text = messages[1].content;
  const end = /^<conversation(_*)>/.exec(text)![1];
  const between = (tag: string) =>
    new RegExp(`<${tag}${end}>\n([\\s\\S]*?)\n</${tag}${end}>`).exec(text)?.[1];
  const answers = [between("answer_a") ?? between("answer"), between("answer_b")];
  return { prompt: between("conversation")!, answers: answers.filter((one) => one !== undefined) };
}

/** A chat completion with that text. */
export function completion(content: unknown): unknown {
  return {
    object: "chat.completion",
    choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }],
    usage: { prompt_tokens: 1000, completion_tokens: 100 },
  };
}

/** A judge that answers by a rule: a verdict of a comparison, a score of one answer. */
export function startJudge(rule: (asked: Asked) => string): TestServer {
  const server = startServer((body) =>
    completion(rule(readQuestion(body as Parameters<typeof readQuestion>[0])))
  );
  return server;
}

/** The rule of a judge that likes longer answers. */
export function longerIsBetter({ answers: [a, b] }: Asked): string {
  if (b === undefined) {
    return `It has ${a.length} characters.\n**Score:** ${Math.min(10, Math.max(1, a.length))}`;
  }
  return `I count the letters.\nVerdict: ${a.length > b.length ? "A" : a.length < b.length ? "B" : "tie"}`;
}
