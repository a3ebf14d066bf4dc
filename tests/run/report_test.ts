import assert from "node:assert/strict";
import {
  figures,
  paragraph,
  reportPage,
  sampleBlock,
  section,
  settingsTable,
  table,
} from "../../src/run/report.ts";
import { linePlot } from "../../src/run/svg.ts";

const evil = `<script>alert("1")</script>&'`;

Deno.test("a page needs nothing from outside and runs nothing", () => {
  const page = reportPage({
    title: evil,
    subtitle: evil,
    sections: [
      section(
        evil,
        paragraph(evil),
        figures(
          linePlot({ title: evil, xLabel: evil, yLabel: evil, series: [{ name: evil, points: [[0, 1]] }] }),
        ),
        table({ caption: evil, head: [evil], rows: [[evil]] }),
        settingsTable({ [evil]: evil }),
        sampleBlock({ prompt: evil, answers: { [evil]: evil }, facts: evil }),
      ),
    ],
  });
  assert.doesNotMatch(page, /<script|\bsrc=|href=|url\(|@import|http/i);
  assert.match(page, /prefers-color-scheme: dark/);
  // Every element that is opened is closed, in order.
  const open: string[] = [];
  for (const [, slash, name, rest] of page.matchAll(/<(\/?)([a-z][a-z0-9]*)([^>]*)>/g)) {
    if (slash) assert.equal(open.pop(), name);
    else if (!rest.endsWith("/") && !["meta"].includes(name)) open.push(name);
  }
  assert.deepEqual(open, []);
});

Deno.test("numbers of a table are short and set to the right, settings are exact", () => {
  const html = table({ head: ["stage", "gold"], rows: [["SFT", 0.1823456], ["PPO", 12]] });
  assert.match(html, /<td class="number">0\.1823<\/td>/);
  assert.match(html, /<th>stage<\/th><th class="number">gold<\/th>/);
  assert.match(settingsTable({ a: 0.123456789, b: undefined, c: [1] }), /0\.123456789.*none.*\[1\]/s);
});
