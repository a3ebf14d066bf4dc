/**
 * Lines of standard input as they come.
 *
 * @module
 */

/** Longest line in characters. */
const MOST_CHARACTERS = 4e6;

/** Lines without their ends; the last one need not have one. */
export async function* textLines(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop()!;
    if (rest.length > MOST_CHARACTERS) {
      throw new Error(`A line of the input has more than ${MOST_CHARACTERS} characters.`);
    }
    for (const line of lines) yield line.replace(/\r$/, "");
  }
  if (rest) yield rest.replace(/\r$/, "");
}
