/** A small form for every knob of the stage that goes. */
import { api } from "./api.js";
import { format } from "./charts.js";
import { byId, element } from "./dom.js";

/** Knobs that people turn, first. */
const FIRST = ["kl_coef", "learning_rate", "temperature", "cliprange"];

/** The knobs of run `id`. */
export function openKnobs(id) {
  const form = byId("knobs");
  form.replaceChildren();
  /** @type {Map<string, { input: HTMLInputElement, said: HTMLElement, now: HTMLElement }>} */
  const fields = new Map();
  let stage;
  form.onsubmit = (event) => event.preventDefault();

  async function turn(name) {
    const { input, said } = fields.get(name);
    const text = input.value.trim();
    said.className = "said";
    said.textContent = "…";
    try {
      if (text === "") throw new Error("Expected a number.");
      const { request, from_step: from } = await api(`/runs/${id}/knobs?wait=20`, {
        method: "PATCH",
        body: { stage, [name]: Number.isNaN(Number(text)) ? text : Number(text) },
      });
      said.textContent = from === null ? `Asked; request ${request.id} waits.` : `Holds from step ${from}.`;
      input.value = "";
    } catch (error) {
      said.className = "said bad";
      said.textContent = error.fields?.map(({ message }) => message).join(" ") || error.message;
    }
  }

  function add(name, schema) {
    const input = element("input", {
      id: `knob-${name}`,
      inputmode: "decimal",
      autocomplete: "off",
      "aria-describedby": `said-${name}`,
      onkeydown: (event) => event.key === "Enter" && turn(name),
    });
    const said = element("p", { class: "said", id: `said-${name}`, role: "status" });
    const now = element("span", { class: "hint" });
    form.append(element(
      "div",
      { class: "knob", title: schema.description },
      element("label", { for: input.id }, name, " ", now),
      input,
      element("button", { type: "button", onclick: () => turn(name), "aria-label": `Set ${name}` }, "Set"),
      said,
    ));
    fields.set(name, { input, said, now });
  }

  return {
    async refresh(detail) {
      const { stages } = await api(`/runs/${id}/knobs`);
      const found = stages.find((one) => one.stage === detail.stage) ?? stages[0];
      if (!found) return;
      if (found.stage !== stage) {
        stage = found.stage;
        fields.clear();
        form.replaceChildren();
        const rank = (name) => FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length;
        for (const { name, schema } of found.knobs.toSorted((a, b) => rank(a.name) - rank(b.name))) {
          add(name, schema);
        }
      }
      const steerable = ["going", "paused"].includes(detail.state);
      for (const control of form.querySelectorAll("input, button")) control.disabled = !steerable;
      for (const { name, value } of found.knobs) {
        const turned = found.journal.findLast((entry) => entry.name === name);
        fields.get(name).now.textContent = `${value === null ? "not set" : `is ${format(value)}`}${
          turned ? `, from step ${turned.from_step}` : ""
        }`;
      }
    },
  };
}
