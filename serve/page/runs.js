/** The list of runs and the form for a new one. */
import { api } from "./api.js";
import { format } from "./charts.js";
import { byId, element } from "./dom.js";

/** Shows the runs; `current` is the one that is looked at. */
export function showRuns(runs, current) {
  const focused = document.activeElement?.getAttribute("href");
  byId("runs").replaceChildren(...runs.map(({ id, state, method, stage, step, total, metrics }) => {
    const progress = total ? `${stage} ${step}/${total}` : method;
    const [headline] = Object.entries(metrics).filter(([name]) =>
      /gold\/reward|scores|loss|accuracy/.test(name)
    );
    return element(
      "li",
      {},
      element(
        "a",
        { href: `#${encodeURIComponent(id)}`, "aria-current": id === current ? "true" : undefined },
        id,
        element(
          "small",
          {},
          `${state} · ${progress}${headline ? ` · ${headline[0]} ${format(headline[1])}` : ""}`,
        ),
      ),
    );
  }));
  if (focused?.startsWith("#")) byId("runs").querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
}

/** Options that most people set, by method; the others are behind a fold. */
const COMMON = [
  "model_name_or_path",
  "dataset_name",
  "reward_model_path",
  "kl_coef",
  "ppo_steps",
  "max_steps",
  "learning_rate",
  "seed",
];

/** Opens the dialog behind the button; `started` gets the name of a run that was made. */
export function openNewRun(started) {
  const dialog = byId("new-dialog");
  let methods;

  byId("new-run").addEventListener("click", async () => {
    ({ methods } = await api("/methods"));
    fill("train");
    dialog.showModal();
  });

  function fill(method) {
    const { properties, required = [] } = methods[method];
    const fields = Object.entries(properties).map((
      [name, schema],
    ) => [name, optionField(name, schema, required)]);
    const common = fields.filter(([name]) => COMMON.includes(name)),
      rest = fields.filter(([name]) => !COMMON.includes(name));
    const said = element("p", { class: "error", role: "alert" });
    const form = element(
      "form",
      { method: "dialog", novalidate: true },
      element("h2", { id: "new-title" }, "New run"),
      element(
        "label",
        {},
        "Method",
        element(
          "select",
          { id: "method", onchange: (event) => fill(event.target.value) },
          Object.keys(methods).map((name) =>
            element("option", { value: name, selected: name === method }, name)
          ),
        ),
      ),
      element(
        "label",
        {},
        "Name (made from the method if left empty)",
        element("input", { id: "run-name", autocomplete: "off" }),
      ),
      common.map(([, field]) => field),
      element(
        "details",
        {},
        element("summary", {}, "All options"),
        element("div", {}, rest.map(([, field]) => field)),
      ),
      said,
      element(
        "p",
        { class: "buttons" },
        element("button", { class: "main", id: "start" }, "Start"),
        element("button", { type: "button", onclick: () => dialog.close() }, "Close"),
      ),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      said.textContent = "";
      for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
      const name = form.querySelector("#run-name").value.trim();
      try {
        const { id } = await api("/runs", {
          method: "POST",
          body: { method, ...(name ? { id: name } : {}), options: optionValues(form, properties) },
        });
        dialog.close();
        started(id);
      } catch (error) {
        const fields = error.fields ?? [];
        said.textContent = fields.length
          ? fields.map(({ path, message }) => `${path}: ${message}`).join(" ")
          : error.message;
        for (const { path } of fields) {
          form.elements[path.replace(/^options\./, "")]?.setAttribute("aria-invalid", "true");
        }
      }
    });
    dialog.replaceChildren(form);
    form.querySelector("#method").focus();
  }
}

/** A labelled field for an option of a JSON schema. */
function optionField(name, schema, required) {
  const kinds = [schema, ...schema.anyOf ?? []];
  const choices = kinds.flatMap(({ enum: values = [], type }) =>
    type === "boolean" ? ["true", "false"] : values
  );
  const numeric = kinds.some(({ type }) => type === "number" || type === "integer");
  const fallback = schema.default === undefined || schema.default === null ? "" : String(schema.default);
  const shared = {
    name,
    "aria-required": required.includes(name) ? "true" : undefined,
    title: schema.description,
  };
  const input = choices.length
    ? element(
      "select",
      shared,
      element("option", { value: "" }, fallback ? `${fallback} (default)` : "default"),
      choices.map((choice) => element("option", { value: choice }, choice)),
    )
    : element("input", {
      ...shared,
      inputmode: numeric ? "decimal" : "text",
      placeholder: fallback,
      autocomplete: "off",
    });
  return element(
    "label",
    {},
    element("span", {}, name, required.includes(name) ? " (needed)" : ""),
    input,
    element("small", {}, schema.description ?? ""),
  );
}

/** The options that were filled in, as the types that the schema wants. */
function optionValues(form, properties) {
  const out = {};
  for (const [name, schema] of Object.entries(properties)) {
    const text = form.elements[name].value.trim();
    if (text === "") continue;
    const types = [schema, ...schema.anyOf ?? []].map(({ type }) => type);
    if (types.includes("boolean")) out[name] = text === "true";
    else if ((types.includes("number") || types.includes("integer")) && Number.isFinite(Number(text))) {
      out[name] = Number(text);
    } else out[name] = text === "none" ? null : text;
  }
  return out;
}
