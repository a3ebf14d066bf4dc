/**
 * Where a command's words go: results to standard output, everything else to standard error.
 *
 * @module
 */

/** What a command may say, and to whom. */
export interface Io {
  /** Writes a line of results to standard output. */
  print(text: string): void;
  /** Writes to standard output as it is, for text that comes piece by piece. */
  write(text: string): void;
  /** Writes a line for people to standard error. */
  note(text: string): void;
  /** Writes to standard error as it is, for a line that is drawn again. */
  draw(text: string): void;
  /** Results are wanted as JSON. */
  json: boolean;
  /** Whether standard error is a terminal. */
  terminal: boolean;
  /** Width of the terminal in characters, 120 where there is none. */
  columns(): number;
}

function writer(stream: { writeSync(bytes: Uint8Array): number }): (text: string) => void {
  const encoder = new TextEncoder();
  return (text) => {
    const bytes = encoder.encode(text);
    try {
      for (let at = 0; at < bytes.length;) at += stream.writeSync(bytes.subarray(at));
    } catch (error) {
      // Whoever was reading has gone, as in `keel doctor | head -1`; the work goes on without.
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
    }
  };
}

/** The streams of this process. */
export function processIo(json: boolean): Io {
  const out = writer(Deno.stdout), err = writer(Deno.stderr);
  const terminal = Deno.stderr.isTerminal();
  return {
    print: (text) => out(text + "\n"),
    write: out,
    note: (text) => err(text + "\n"),
    draw: err,
    json,
    terminal,
    columns: () => terminal ? Deno.consoleSize().columns : 120,
  };
}
