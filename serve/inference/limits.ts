/**
 * How much one request may ask for.
 *
 * @module
 */

/** Prompts of a request. */
export const MOST_PROMPTS = 64;

/** Completions of all prompts together. */
export const MOST_ROWS = 128;

/** Rows to be scored. */
export const MOST_SCORED = 256;

/** Tokens of all rows together, prompts and new ones. */
export const MOST_TOKENS = 65_536;

/** Characters of a text. */
export const MOST_CHARACTERS = 100_000;

/** Messages of a conversation. */
export const MOST_MESSAGES = 256;

/** Stop strings, and characters of one. */
export const MOST_STOPS = 4, LONGEST_STOP = 200;
