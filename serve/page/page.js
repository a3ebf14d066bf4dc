/** The page: which run is looked at, and what is drawn of it when something is told. */
import { api, follow } from "./api.js";
import { openCharts } from "./charts.js";
import { openControls } from "./controls.js";
import { byId, element } from "./dom.js";
import { openEvents } from "./events.js";
import { openFiles } from "./files.js";
import { openKnobs } from "./knobs.js";
import { openMetrics } from "./metrics.js";
import { openNewRun, showRuns } from "./runs.js";
import { openSamples } from "./samples.js";

/** Milliseconds between two looks at the list of runs. */
const LIST_EVERY = 3000;

/** Points of a series that are loaded of what happened before. */
const MOST_POINTS = 1000;

const charts = openCharts(byId("charts"));

/** The run that is shown. */
let shown;

async function show(id) {
  shown?.close();
  shown = undefined;
  charts.clear();
  byId("nothing").hidden = true;
  byId("details").hidden = false;
  const abort = new AbortController();
  const metrics = openMetrics();
  const path = `/runs/${id}`;
  let detail, chosen, due = false;
  /** The stage that is drawn: the one that goes, unless the person chose another. */
  const stage = () => chosen ?? detail.stage;

  const controls = openControls(id, refresh);
  const knobs = openKnobs(id);
  const samples = openSamples(id);
  const events = openEvents();
  const files = openFiles(id, controls.rollBack);

  /** Draws at most once per frame, however much is told. */
  function draw() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      if (abort.signal.aborted) return;
      showStages();
      charts.draw(stage(), metrics.points(stage()));
    });
  }

  function showStages() {
    const names = detail.stages.filter((name) => metrics.stages().includes(name));
    byId("stages").hidden = names.length < 2;
    byId("stages").replaceChildren(...names.map((name) =>
      element("button", {
        type: "button",
        role: "tab",
        "aria-selected": String(name === stage()),
        onclick() {
          chosen = name;
          charts.clear();
          draw();
        },
      }, name)
    ));
  }

  async function refresh() {
    detail = await api(path, { signal: abort.signal });
    controls.show(detail);
    await Promise.all([knobs.refresh(detail), files.refresh(), samples.refresh(detail)]);
  }

  function told({ kind, data }) {
    const { stage: of, step, time } = data;
    if (kind === "metrics") {
      metrics.step(of, step, data.data, time);
      Object.assign(detail, { stage: of, step });
      controls.step(detail, metrics.points(of).times);
      draw();
    } else if (kind === "samples") samples.more(of, step);
    else {
      events.add({ kind, stage: of, step, time, detail: data.data });
      if (kind === "rolled_back") metrics.dropAfter(of, step);
      draw();
      refreshSoon();
    }
  }

  let timer;
  function refreshSoon() {
    clearTimeout(timer);
    timer = setTimeout(() => refresh().catch(complain), 150);
  }

  shown = {
    id,
    redraw() {
      charts.clear();
      draw();
    },
    refreshSoon,
    // Checkpoints are written without a word.
    lookForFiles: files.refresh,
    state: () => detail?.state,
    close() {
      abort.abort();
      clearTimeout(timer);
    },
  };

  await refresh();
  // What comes while the past is loaded comes through the stream, from here on.
  const { stream_end: end } = detail;
  const { points } = await api(`${path}/metrics?max_points=${MOST_POINTS}`, { signal: abort.signal });
  for (const { stage, name, step, value, time } of points) {
    metrics.put(stage, step, name, value);
    metrics.points(stage).times.set(step, time);
  }
  for (const event of detail.events) events.add(event);
  draw();
  follow(`${path}/stream`, {
    after: end,
    signal: abort.signal,
    onEvent: told,
    onState(connected) {
      const line = byId("connection");
      line.textContent = connected ? "live" : "connection lost, trying again…";
      line.classList.toggle("bad", !connected);
      if (connected) refreshSoon();
    },
  });
}

/** An error that no form shows. */
function complain(error) {
  if (error.name === "AbortError") return;
  byId("connection").textContent = error.message;
  byId("connection").classList.add("bad");
}

async function list() {
  const { runs } = await api("/runs");
  showRuns(runs, shown?.id);
  const mine = runs.find(({ id }) => id === shown?.id);
  // A process that died tells nothing; the list knows.
  if (mine && mine.state !== shown.state()) shown.refreshSoon();
  else if (mine?.state === "going") await shown.lookForFiles();
}

function route() {
  const id = decodeURIComponent(location.hash.slice(1));
  if (id === "run" || id === "") return;
  if (id !== shown?.id) show(id).catch(complain);
}

function openTheme() {
  const root = document.documentElement;
  const saved = localStorage.getItem("keel-theme");
  if (saved) root.dataset.theme = saved;
  byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("keel-theme", root.dataset.theme);
    shown?.redraw();
  });
}

openTheme();
openNewRun((id) => {
  location.hash = id;
  list().catch(complain);
});
addEventListener("hashchange", route);
api("/system").then(({ adapter, keel, runs_dir: dir }) => {
  byId("adapter").textContent = [`version ${keel}`, adapter, dir].filter(Boolean).join(" · ");
}).catch(complain);
list().then(() => {
  if (!location.hash) document.querySelector("#runs a")?.click();
  route();
}).catch(complain);
setInterval(() => list().catch(complain), LIST_EVERY);
