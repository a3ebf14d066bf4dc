/** Small helpers around the document. */

/**
 * An element with attributes (`on…` are listeners, `undefined` and `false` are left out) and children, which are text or nodes.
 * Text is never read as HTML.
 */
export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return node;
}

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/** Seconds as `1:02:03` or `4:05`. */
export function clock(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(s / 3600), Math.floor(s / 60) % 60, s % 60];
  return (parts[0] ? parts : parts.slice(1)).map((part, i) => i ? String(part).padStart(2, "0") : part).join(
    ":",
  );
}
