/** The words of two texts side by side, and which of them differ. */

/** Longest text in words that is compared; longer ones are shown as they are. */
const MOST_WORDS = 2000;

/**
 * The longest common subsequence of words, as runs of words that both have, or only one has.
 *
 * @param {string} before
 * @param {string} after
 * @returns {{ kind: "same" | "gone" | "new", text: string }[]}
 */
export function wordDiff(before, after) {
  const a = before.split(/(\s+)/), b = after.split(/(\s+)/);
  if (a.length > MOST_WORDS || b.length > MOST_WORDS) {
    return [{ kind: "gone", text: before }, { kind: "new", text: after }];
  }
  // common[i][j]: length of the longest common subsequence of a from i and b from j.
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    }
  }
  /** @type {{ kind: "same" | "gone" | "new", text: string }[]} */
  const out = [];
  const add = (kind, text) => {
    if (out.at(-1)?.kind === kind) out.at(-1).text += text;
    else out.push({ kind, text });
  };
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      add("same", a[i++]);
      j++;
    } else if (j >= b.length || (i < a.length && common[i + 1][j] >= common[i][j + 1])) add("gone", a[i++]);
    else add("new", b[j++]);
  }
  return out;
}
