/** Checkpoints, to go back to or to take home, and the other files of a run. */
import { api, download } from "./api.js";
import { byId, element } from "./dom.js";

/** The files of run `id`; `rollBack(stage, step)` goes back to a checkpoint. */
export function openFiles(id, rollBack) {
  const table = byId("checkpoints"), list = byId("files");
  table.replaceChildren();
  list.replaceChildren();

  const link = ({ path, bytes }, text = path) =>
    element(
      "li",
      {},
      element("a", {
        href: `/runs/${id}/files/${path}`,
        onclick(event) {
          event.preventDefault();
          download(`/runs/${id}/files/${path}`, path.split("/").at(-1));
        },
      }, text),
      element("small", {}, ` ${size(bytes)}`),
    );

  return {
    async refresh() {
      const [{ checkpoints }, { files }] = await Promise.all([
        api(`/runs/${id}/checkpoints`),
        api(`/runs/${id}/files`),
      ]);
      table.replaceChildren(
        ...(checkpoints.length
          ? [element(
            "table",
            {},
            element(
              "thead",
              {},
              element("tr", {}, ["Stage", "Step", "Model", ""].map((head) => element("th", {}, head))),
            ),
            element(
              "tbody",
              {},
              checkpoints.map(({ stage, step, path }) => {
                const model = files.find((file) => file.path === `${path}/model.safetensors`);
                return element(
                  "tr",
                  {},
                  element("td", {}, stage),
                  element("td", {}, String(step)),
                  element("td", {}, model ? link(model, "model.safetensors").firstChild : ""),
                  element(
                    "td",
                    {},
                    element("button", {
                      type: "button",
                      onclick: () => rollBack(stage, step),
                    }, `Roll back to ${stage} step ${step}`),
                  ),
                );
              }),
            ),
          )]
          : [element("p", { class: "hint" }, "No checkpoint yet.")]),
      );
      list.replaceChildren(
        ...files.filter(({ path }) => !path.includes("checkpoints/")).map((file) => link(file)),
      );
    },
  };
}

function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
