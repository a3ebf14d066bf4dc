/** What a run is doing, and the buttons that make it do something else. */
import { api } from "./api.js";
import { format } from "./charts.js";
import { byId, clock, element } from "./dom.js";

/** Seconds that a request waits for the training process to answer between two of its steps. */
const WAIT = 20;

/** Which buttons make sense in which state: path, label, and a question before it is done. */
const ACTIONS = {
  queued: [["stop", "Take out of the queue"]],
  going: [["pause", "Pause"], ["checkpoint", "Checkpoint now"], ["stop", "Stop after this step"], [
    "kill",
    "Kill",
    "Kill the process? What it did since its last checkpoint will be done again.",
  ]],
  paused: [["resume", "Go on"], ["checkpoint", "Checkpoint now"], ["stop", "Stop"], [
    "kill",
    "Kill",
    "Kill the process?",
  ]],
  stopped: [["resume", "Go on"]],
  failed: [["resume", "Go on from the last checkpoint"]],
  finished: [],
};

/** Asks a question; resolves to whether the answer was yes. */
export function ask(question) {
  const dialog = byId("ask-dialog");
  byId("ask-title").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true })
  );
}

/** The head of a run's page; `changed` is called when something was done to it. */
export function openControls(id, changed) {
  const title = element("h2", {});
  const facts = element("p", { class: "hint" });
  const bar = element("progress", { max: 1, value: 0 });
  const actions = element("div", { class: "actions" });
  const said = element("p", { role: "status" });
  const failure = element("div", {});
  byId("head").replaceChildren(title, bar, facts, actions, said, failure);

  async function act(path, body, question) {
    if (question && !await ask(question)) return;
    said.textContent = "…";
    said.className = "";
    try {
      const { request } = await api(`/runs/${id}/${path}?wait=${WAIT}`, { method: "POST", body: body ?? {} });
      said.textContent = !request
        ? ""
        : request.state === "waiting"
        ? "It will be answered after the step that is being made."
        : `Done after step ${request.step}.`;
    } catch (error) {
      said.textContent = error.message;
      said.className = "error";
    }
    await changed();
  }

  async function remove() {
    if (!await ask(`Delete ${id} with its checkpoints, for good?`)) return;
    try {
      await api(`/runs/${id}`, { method: "DELETE" });
      location.hash = "";
      location.reload();
    } catch (error) {
      said.textContent = error.message;
      said.className = "error";
    }
  }

  return {
    show(detail) {
      const { state, method } = detail;
      title.replaceChildren(`${id} `, element("span", { class: `state ${state}` }, state), ` · ${method}`);
      const removable = !["going", "paused", "queued"].includes(state);
      const focused = actions.contains(document.activeElement)
        ? document.activeElement.textContent
        : undefined;
      actions.replaceChildren(
        ...ACTIONS[state].map(([path, label, question]) =>
          element("button", { type: "button", onclick: () => act(path, undefined, question) }, label)
        ),
        ...(removable
          ? [element("button", { type: "button", class: "danger", onclick: remove }, "Delete…")]
          : []),
      );
      if (focused) {
        (([...actions.children].find((b) => b.textContent === focused)) ?? actions.firstChild)?.focus();
      }
      failure.replaceChildren(
        ...(detail.failure
          ? [
            element("p", { class: "error" }, detail.failure.message),
            element("pre", {}, detail.failure.log.join("\n")),
          ]
          : []),
      );
      this.step(detail, new Map());
    },
    /** Where it is, and how long it will take if it goes on like this. */
    step({ stage, step, total, state, queue_place: place, metrics, config }, times) {
      bar.value = total ? step / total : 0;
      bar.setAttribute("aria-label", total ? `${stage} step ${step} of ${total}` : "not begun");
      const recent = [...times].slice(-20);
      const each = recent.length > 1
        ? (recent.at(-1)[1] - recent[0][1]) / (recent.at(-1)[0] - recent[0][0])
        : NaN;
      const left = state === "going" && total && each > 0
        ? `, ${clock(each * (total - step))} left in this stage`
        : "";
      facts.textContent = place
        ? `Number ${place} in the queue.`
        : total
        ? `${stage} step ${step} of ${total}${left}` +
          (metrics?.["objective/kl_coef"] === undefined ? "" : `, β ${format(metrics["objective/kl_coef"])}`)
        : "Not begun.";
      if (config?.adapter) facts.textContent += ` On ${config.adapter}.`;
    },
    rollBack: (stage, step) =>
      act(
        "roll_back",
        { stage, step },
        `Go back to step ${step} of ${stage}? What was made after it is dropped from the curves.`,
      ),
  };
}
