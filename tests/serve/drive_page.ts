/**
 * Drives the page in headless Chromium as a person would: `drive_page.ts URL FOLDER`. Prints what was seen as JSON and leaves
 * screenshots in the folder. Runs as a process of its own, because browser and driver are no packages of the project.
 */
const PLAYWRIGHT = "npm:playwright-core@1.65.1", CHROMIUM = "npm:@sparticuz/chromium@153.0.0";

const [url, folder] = Deno.args;
// The package then unpacks the libraries that a bare machine lacks, too.
Deno.env.set("AWS_EXECUTION_ENV", "AWS_Lambda_nodejs22.x");
const { default: packed } = await import(CHROMIUM);
const { chromium } = await import(PLAYWRIGHT);
const browser = await chromium.launch({
  executablePath: await packed.executablePath(),
  args: [...packed.args, "--no-sandbox"],
  headless: true,
});
const page = await browser.newPage({ locale: "en-US", viewport: { width: 1280, height: 900 } });
page.setDefaultTimeout(60_000);
const errors: string[] = [];
page.on("console", (message: { type(): string; text(): string }) => {
  if (message.type() === "error") errors.push(message.text());
});
page.on("pageerror", (error: Error) => errors.push(String(error)));
const shot = (name: string, whole = true) =>
  page.screenshot({ path: `${folder}/${name}.png`, fullPage: whole });
const chart = (title: string) => page.locator(`.chart[aria-label^="${title}:"]`);
const state = (name: string) => page.locator(`#head .state.${name}`).waitFor();
const button = (name: string | RegExp) => page.getByRole("button", { name });
/** The number that a chart shows last. */
const latest = async (title: string) =>
  Number(/ ([-\d.e]+)$/.exec(await chart(title).getAttribute("aria-label"))?.[1]);

// Whatever fails, one sees the page as it was.
addEventListener("unhandledrejection", async (event) => {
  event.preventDefault();
  console.error(event.reason, errors, await page.locator("#connection").textContent());
  await shot("failed");
  Deno.exit(1);
});
await page.goto(url);
await page.getByText("No run is selected").waitFor();

// A run is made with the form; a wrong option is told beside it.
await page.click("#new-run");
await page.fill("#run-name", "from-the-page");
await page.getByText("All options").click();
const options = {
  demonstrations: "96",
  sft_batch_size: "16",
  pairs: "96",
  reward_batch_size: "8",
  ppo_steps: "zero",
  ppo_batch_size: "8",
  eval_steps: "10",
  eval_prompts: "16",
  best_of_n: "0",
  save_steps: "10",
  save_total_limit: "30",
};
for (const [name, value] of Object.entries(options)) await page.fill(`[name="${name}"]`, value);
await page.click("#start");
const refusal = page.locator("#new-dialog .error");
await refusal.filter({ hasText: "ppo_steps" }).waitFor();
const refused = await refusal.textContent();
await shot("form", false);
await page.fill('[name="ppo_steps"]', "90");
await page.click("#start");

// Points arrive while it goes.
await state("going");
await chart("Reward").waitFor();
await button("Pause").click();
await state("paused");
const before = await latest("β");
await page.fill("#knob-kl_coef", "-1");
await button("Set kl_coef").click();
await page.locator("#said-kl_coef.bad").waitFor();
const wrong = await page.textContent("#said-kl_coef");
await page.fill("#knob-kl_coef", "0.3");
await page.keyboard.press("Enter");
const said = page.locator("#said-kl_coef", { hasText: "Holds from step" });
await said.waitFor();
const holds = Number(/step (\d+)/.exec(await said.textContent())![1]);
await shot("paused");
await button("Go on").click();
await page.locator('.chart[aria-label^="β:"][aria-label$=" 0.3"]').waitFor();
const after = await latest("β");

// Back to a checkpoint, and on to the end.
await button(/^Roll back to ppo step 10$/).waitFor();
await button("Pause").click();
await state("paused");
await button(/^Roll back to ppo step 10$/).click();
await button("Yes").click();
await page.locator("#events", { hasText: "rolled back" }).waitFor();
await button("Go on").click();
const events = await page.locator("#events li").allTextContents();
await state("finished");
await page.locator(".sample ins, .sample small").first().waitFor();
await page.locator("#files a", { hasText: "report.html" }).waitFor();
await shot("finished");
await shot("page", false);
const charts = await page.locator(".chart figcaption").allTextContents();

// Dark, and on a phone.
await page.click("#theme");
await shot("dark");
await page.setViewportSize({ width: 390, height: 844 });
await shot("phone");
const overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
// Loaded again, it shows what was; then with the keyboard alone.
await page.reload();
await chart("Reward").waitFor();
const again = await page.locator(".chart figcaption").allTextContents();
const focused: string[] = [];
for (let i = 0; i < 6; i++) {
  await page.keyboard.press("Tab");
  focused.push(
    await page.evaluate("document.activeElement.id || document.activeElement.textContent.slice(0, 20)"),
  );
}
await page.locator("#new-run").focus();
await page.keyboard.press("Enter");
await page.locator("#new-dialog[open] #method").waitFor();
await page.keyboard.press("Escape");
await page.locator("#new-dialog:not([open])").waitFor({ state: "attached" });
await browser.close();
console.log(
  JSON.stringify({ refused, wrong, before, after, holds, events, charts, again, overflow, focused, errors }),
);
