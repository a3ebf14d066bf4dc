/**
 * Refusals as HTTP tells them: `{ error: { code, message, fields? } }`.
 *
 * @module
 */

/** What is wrong with one field of a request. */
export interface FieldProblem {
  /** Its name, with dots between levels. */
  path: string;
  /** What was got and what was expected. */
  message: string;
}

/** Statuses of refusals. */
export type ErrorStatus = 400 | 401 | 403 | 404 | 405 | 408 | 409 | 413 | 415 | 416 | 422 | 429 | 500 | 503;

/** A request that is refused. */
export class HttpError extends Error {
  override name = "HttpError";
  /** The HTTP status. */
  readonly status: ErrorStatus;
  /** A word for programs, e.g. `not_found`. */
  readonly code: string;
  /** Problems field by field. */
  readonly fields?: FieldProblem[];
  /** Headers of the response. */
  readonly headers: Record<string, string>;

  constructor(
    status: ErrorStatus,
    code: string,
    message: string,
    { fields, headers = {} }: { fields?: FieldProblem[]; headers?: Record<string, string> } = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.fields = fields;
    this.headers = headers;
  }
}

/** The response that tells of a refusal. */
export function errorResponse({ status, code, message, fields, headers }: HttpError): Response {
  return Response.json({ error: { code, message, ...(fields ? { fields } : {}) } }, { status, headers });
}

/** The refusal of a body, query or option with these problems. */
export function invalid(what: string, fields: FieldProblem[]): HttpError {
  const list = fields.map(({ path, message }) => path ? `${path}: ${message}` : message).join(" ");
  return new HttpError(422, "invalid", `${what} cannot be used. ${list}`, { fields });
}
