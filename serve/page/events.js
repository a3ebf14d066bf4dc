/** What happened, newest first. */
import { byId, element } from "./dom.js";

const MOST = 300;

/** The list of events. */
export function openEvents() {
  const list = byId("events");
  list.replaceChildren();
  return {
    add({ kind, stage, step, time, detail }) {
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
