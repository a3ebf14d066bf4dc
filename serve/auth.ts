/**
 * Who may speak to the server: the token, the names it is addressed by, and the pages that may call it.
 *
 * @module
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { join } from "node:path";
import { HttpError } from "./http_error.ts";

/** The file of the token, in the directory of the runs. */
export const TOKEN_FILE = ".keel-token";

/** A token and whether it was made just now. */
export interface Token {
  value: string;
  path: string;
  fresh: boolean;
}

/** Names of this machine itself. */
const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

/** Whether only this machine reaches a server that is bound to `host`. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.includes(bracketed(host));
}

/** An IPv6 address stands in brackets in URLs and in the Host header. */
function bracketed(host: string): string {
  return host.includes(":") && !host.startsWith("[") ? `[${host}]` : host.toLowerCase();
}

/** Reads the token of `runsDir`; makes one, readable by this user alone, where there is none. */
export function readToken(runsDir: string): Token {
  const path = join(runsDir, TOKEN_FILE);
  try {
    const value = Deno.readTextFileSync(path).trim();
    if (value) return { value, path, fresh: false };
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const value = randomBytes(32).toString("base64url");
  Deno.writeTextFileSync(path, `${value}\n`, { mode: 0o600, createNew: true });
  return { value, path, fresh: true };
}

/** Refuses a request whose Authorization header does not carry the token. */
export function checkToken(request: Request, token: string): void {
  const given = /^Bearer +(\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  const digest = (text: string) => createHash("sha256").update(text).digest();
  // Digests have one length, so the time of the comparison tells nothing of the token.
  if (given !== undefined && timingSafeEqual(digest(given), digest(token))) return;
  throw new HttpError(
    401,
    "unauthorized",
    `${given === undefined ? "There is no token" : "The token is wrong"}. Expected the header ` +
      `Authorization: Bearer TOKEN with the one in ${TOKEN_FILE} of the server's directory of runs.`,
    { headers: { "www-authenticate": 'Bearer realm="keel"' } },
  );
}

/**
 * Refuses a request that is addressed to another name, as by a page whose name was made to point here (DNS rebinding), and
 * one that a page of another origin makes.
 */
export function checkAddress(request: Request, names: readonly string[]): void {
  const host = request.headers.get("host") ?? new URL(request.url).host;
  const name = host.toLowerCase().replace(/:\d+$/, "");
  if (!names.includes(name)) {
    throw new HttpError(
      403,
      "wrong_host",
      `The server is not addressed as ${name}. Expected ${
        names.join(", ")
      }, or a name given with --allow_host.`,
    );
  }
  const origin = request.headers.get("origin");
  if (origin !== null && origin !== `http://${host}` && origin !== `https://${host}`) {
    throw new HttpError(
      403,
      "wrong_origin",
      `A page of ${origin} may not use this server. Expected a page of its own, or a program that sends no Origin.`,
    );
  }
}

/** The names under which a server bound to `host` may be addressed. */
export function namesOf(host: string, allowed: readonly string[]): string[] {
  return [...new Set([...LOOPBACK, ...[host, ...allowed].map(bracketed)])];
}
