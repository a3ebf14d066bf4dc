/** What happened, newest first. */
import { byId, element } from "./dom.js";

const MOST = 300;

/** The list of events; one that is told twice is shown once. */
export function openEvents() {
  const list = byId("events"), seen = new Set();
  list.replaceChildren();
  return {
    add({ id, kind, stage, step, time, detail }) {
      if (seen.has(id)) return;
      seen.add(id);
      const at = new Date(time * 1000);
      const facts = Object.entries(detail).map(([name, value]) =>
        `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`
      );
      list.prepend(element(
        "li",
        {},
        element("time", { datetime: at.toISOString() }, at.toLocaleTimeString()),
        element("strong", {}, kind.replaceAll("_", " ")),
        ` ${stage ? `${stage} step ${step}` : ""}${facts.length ? `: ${facts.join(", ")}` : ""}`,
      ));
      while (list.children.length > MOST) list.lastChild.remove();
    },
  };
}
