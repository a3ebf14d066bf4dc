/** Requests written by hand, which no client would send. */

async function exchange(url: string, head: string[], body: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const connection = await Deno.connect({ hostname, port: Number(port) });
  try {
    await connection.write(new TextEncoder().encode([...head, "connection: close", "", body].join("\r\n")));
    const decoder = new TextDecoder(), chunk = new Uint8Array(4096);
    let text = "";
    for (let count = await connection.read(chunk); count !== null; count = await connection.read(chunk)) {
      text += decoder.decode(chunk.subarray(0, count), { stream: true });
      const length = /content-length: (\d+)\r\n[^]*\r\n\r\n([^]*)$/i.exec(text);
      if (length && length[2].length >= Number(length[1])) break;
    }
    return text;
  } finally {
    connection.close();
  }
}

/** Sends a request with its path as it stands and returns what comes back. */
export function rawRequest(
  url: string,
  method: string,
  path: string,
  headers: string[] = [],
  host: string = new URL(url).host,
): Promise<string> {
  return exchange(url, [`${method} ${path} HTTP/1.1`, `host: ${host}`, ...headers], "");
}

/** Sends the head of a request and one byte of its body, and returns what comes back. */
export function slowRequest(
  url: string,
  method: string,
  path: string,
  headers: string[] = [],
): Promise<string> {
  const { host } = new URL(url);
  return exchange(url, [
    `${method} ${path} HTTP/1.1`,
    `host: ${host}`,
    "content-type: application/json",
    "content-length: 100",
    ...headers,
  ], "{");
}
