/** Samples of a run: searched, and beside what the SFT model answered to the same prompt. */
import { api } from "./api.js";
import { format } from "./charts.js";
import { wordDiff } from "./diff.js";
import { byId, element } from "./dom.js";

const PAGE = 12;

/** The samples of run `id`. */
export function openSamples(id) {
  const form = byId("samples-form"), place = byId("samples");
  const field = (label, input) => element("label", {}, label, input);
  const search = element("input", { type: "search", placeholder: "in prompt or completion" });
  const step = element("input", { inputmode: "numeric", placeholder: "newest", size: 7 });
  const split = element(
    "select",
    {},
    ["all", "train", "eval"].map((name) => element("option", { value: name }, name)),
  );
  const compare = element("input", { type: "checkbox", checked: true });
  const said = element("p", { class: "hint", role: "status" });
  form.replaceChildren(
    field("Search", search),
    field("Step", step),
    field("Prompts", split),
    field("Beside the SFT model", compare),
    element("button", {}, "Show"),
  );
  place.replaceChildren();
  let stage, newest = -1, due;
  form.onsubmit = (event) => {
    event.preventDefault();
    show();
  };
  split.onchange = compare.onchange = () => show();

  /** The answers of step 0, which is the SFT model's, by prompt. */
  let before;
  async function answersBefore() {
    if (stage !== "ppo" || !compare.checked) return new Map();
    if (!before) {
      const { samples } = await api(`/runs/${id}/samples?stage=ppo&from_step=0&to_step=0&limit=500`);
      before = new Map(samples.map(({ prompt, completion }) => [prompt, completion]));
      if (samples.length === 0) before = undefined;
    }
    return before ?? new Map();
  }

  async function show() {
    if (!stage) return;
    const query = new URLSearchParams({ stage, limit: PAGE });
    if (search.value) query.set("search", search.value);
    if (split.value !== "all") query.set("split", split.value);
    if (step.value.trim()) {
      query.set("from_step", step.value.trim());
      query.set("to_step", step.value.trim());
    } else if (!search.value && newest >= 0) query.set("from_step", newest);
    try {
      const [{ samples }, old] = await Promise.all([api(`/runs/${id}/samples?${query}`), answersBefore()]);
      said.textContent = samples.length === 0
        ? "None."
        : `${samples.length} of step ${[...new Set(samples.map((one) => one.step))].join(", ")}.`;
      place.replaceChildren(said, ...samples.map((one) => sample(one, old.get(one.prompt))));
    } catch (error) {
      said.textContent = error.message;
      place.replaceChildren(said);
    }
  }

  return {
    /** Some were added; shown at once unless someone reads others. */
    more(of, at) {
      if (of !== stage) newest = -1;
      stage = of;
      newest = Math.max(newest, at);
      if (step.value || search.value || document.hidden) return;
      clearTimeout(due);
      due = setTimeout(show, 300);
    },
    async refresh(detail) {
      if (stage) return;
      stage = detail.stage;
      newest = detail.step;
      await show();
    },
  };
}

const MARKS = { same: "span", gone: "del", new: "ins" };

function sample({ prompt, completion, tokens, rewards, step, split }, old) {
  const answer = old === undefined || old === completion
    ? [completion, old === undefined ? "" : element("small", {}, " (as the SFT model)")]
    : wordDiff(old, completion).map(({ kind, text }) => element(MARKS[kind], {}, text));
  const facts = [
    `step ${step}`,
    split,
    `${tokens} tokens`,
    ...Object.entries(rewards).map(([n, v]) => `${n} ${format(v)}`),
  ];
  return element(
    "div",
    { class: "sample" },
    element("p", { class: "prompt" }, prompt),
    element("p", {}, answer),
    element("p", { class: "hint" }, facts.join(" · ")),
  );
}
