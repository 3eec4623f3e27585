// A person with a browser: walks every view of the page, reads it, presses its buttons.
//
//   node walk.mjs MODULES CHROMIUM INSTRUCTIONS.json
//
// Fails with what was wrong. Prints one JSON object of figures.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [modules, chromium, file] = process.argv.slice(2);
const { base, operator, viewer, rollout, halted, device, out, hostile } = JSON.parse(readFileSync(file, "utf8"));
const require = createRequire(path.join(modules, "package.json"));
const playwright = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const FIRST_VIEW_BYTES_MAX = 100 * 1024;
const LIVE_MS_MAX = 4_000; // events come at once; asking every 30 s would not pass
const VIEWS = ["/", "/rollouts", "/rollouts/1", `/rollouts/${rollout}`, `/rollouts/${halted}`, "/rollouts/new",
  `/rollouts/new?release=digits%40v2&phases=1&soak_min=5`, "/devices", "/devices?q=nothing%3Dhere", "/devices?q=a%3D%3D%3D",
  `/devices/${device}`, "/models", "/drift", "/audit", "/keys", "/system", "/rollouts/999"];

const figures = { views: {}, first_view_bytes: 0 };
const browser = await playwright.chromium.launch({ executablePath: chromium, args: ["--no-sandbox"] });

const complaints = [];
async function context(options = {}) {
  const made = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  await made.addInitScript(() => {
    addEventListener("securitypolicyviolation", (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`));
  });
  made.on("console", (m) => { if (m.type() === "error" && !m.text().includes("status of 40")) complaints.push(m.text()); });
  made.on("weberror", (e) => complaints.push(e.error().message));
  return made;
}
const quiet = (where) => assert.deepEqual(complaints.splice(0), [], `the browser complained on ${where}`);

async function enter(made, token) {
  const page = await made.newPage();
  await page.goto(`${base}/login#${token}`);
  await page.waitForURL(`${base}/`);
  assert.ok(!(await page.evaluate(() => location.href)).includes(token), "the token stays in the address");
  return page;
}

/** No finding of axe-core that is serious or critical. */
async function accessible(page, where) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const bad = found.violations.filter((v) => ["serious", "critical"].includes(v.impact));
  assert.deepEqual(bad.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).slice(0, 3).join(" | ")}`), [], `axe on ${where}`);
}

const name = (view) => view === "/" ? "overview" : view.slice(1).replace(/[^a-z0-9]+/gi, "-");

async function walk() {
  for (const [look, options] of Object.entries({
    "wide-light": { colorScheme: "light" },
    "wide-dark": { colorScheme: "dark" },
    "narrow-light": { colorScheme: "light", viewport: { width: 390, height: 844 } },
    "narrow-dark": { colorScheme: "dark", viewport: { width: 390, height: 844 } },
  })) {
    const made = await context({ ...options, reducedMotion: "reduce" });
    const page = await enter(made, operator);
    for (const view of VIEWS) {
      const answer = await page.goto(base + view);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${view} is ${wide} px too wide (${look})`);
      if (look === "wide-light") {
        const policy = answer.headers()["content-security-policy"] ?? "";
        assert.ok(policy.includes("script-src 'self'") && policy.includes("style-src 'self'") && !policy.includes("unsafe"), policy);
        const timing = await page.evaluate(() => performance.getEntriesByType("navigation")[0].toJSON());
        figures.views[view] = Math.round(timing.loadEventEnd);
      }
      if (look.startsWith("wide")) await accessible(page, `${view} (${look})`);
      assert.equal(await page.locator("[style], script:not([src]), [onclick]").filter({ hasNot: page.locator(".uplot") }).count(), await page.locator(".uplot [style], .uplot[style]").count(), `inline style or script on ${view}`);
      await page.waitForTimeout(100);
      await page.screenshot({ path: path.join(out, `${look}-${name(view)}.png`), fullPage: true });
      quiet(`${view} (${look})`);
    }
    await made.close();
  }
}

/** What a cold browser fetches to see the first view. */
async function weigh() {
  const made = await context();
  const page = await enter(made, operator);
  const wire = await made.newCDPSession(page);
  let bytes = 0;
  await wire.send("Network.enable");
  await wire.send("Network.clearBrowserCache");
  wire.on("Network.loadingFinished", (e) => { bytes += e.encodedDataLength; });
  await page.goto(`${base}/`, { waitUntil: "load" });
  await page.waitForTimeout(300);
  figures.first_view_bytes = bytes;
  assert.ok(bytes > 5_000 && bytes < FIRST_VIEW_BYTES_MAX, `${bytes} bytes for the first view`);
  await made.close();
}

/** Without JavaScript everything can be read, and one gets in by the form. */
async function plain() {
  const made = await context({ javaScriptEnabled: false });
  const page = await made.newPage();
  await page.goto(`${base}/devices`);
  assert.ok(page.url().endsWith("/login"), "nobody in particular sees the devices");
  await page.fill("input[name=token]", "fw_nonsense");
  await page.click("text=Sign in");
  await page.locator("#refused").waitFor();
  await page.fill("input[name=token]", viewer);
  await page.click("button");
  await page.waitForURL(`${base}/`);
  await page.goto(`${base}/devices?q=${encodeURIComponent(`id=${device}`)}`);
  assert.equal(await page.locator("tbody tr").count(), 1);
  await page.click(`text=${device}`);
  assert.match(await page.textContent("h1"), new RegExp(device));
  await page.goto(`${base}/rollouts/${rollout}`);
  assert.equal(await page.locator("button:visible").count(), 0, "a viewer has a button");
  await made.close();
  quiet("pages without JavaScript");
}

/** What the canaries did beside the others is drawn, with its numbers, also without JavaScript. */
async function gates() {
  const made = await context({ javaScriptEnabled: false });
  const page = await made.newPage();
  await page.goto(`${base}/login`);
  await page.fill("input[name=token]", viewer);
  await page.click("button");
  await page.goto(`${base}/rollouts/1`);
  const errors = page.locator("section[aria-labelledby=gates] tr", { hasText: "error rate" });
  assert.match(await errors.innerText(), /inconclusive/, "three devices say too little");
  assert.match(await errors.innerText(), /canary\s+[\d–]/, "the canaries have their line");
  assert.equal(await errors.locator("svg.bar").count(), 2, "canary and control");
  await made.close();
}

async function api(method, where, token = operator) {
  const answer = await fetch(base + where, { method, headers: { authorization: `Bearer ${token}`, "content-type": "application/json" }, body: method === "GET" ? undefined : "null" });
  assert.ok(answer.ok, `${method} ${where}: ${answer.status} ${await answer.clone().text()}`);
  return answer.json();
}

/** What changes elsewhere arrives by itself, and buttons do what the command line does. */
async function live() {
  const made = await context();
  const page = await enter(made, operator);
  await page.goto(`${base}/rollouts/${rollout}`);
  await page.locator("#live[data-live=yes]").waitFor({ timeout: LIVE_MS_MAX });
  await page.evaluate(() => { window.sameDocument = true; });
  const began = Date.now();
  await api("POST", `/v1/rollouts/${rollout}/pause`);
  await page.locator(".top .state", { hasText: "paused" }).waitFor({ timeout: LIVE_MS_MAX });
  figures.live_ms = Date.now() - began;
  assert.ok(await page.evaluate(() => window.sameDocument), "it was loaded anew");
  await page.focus("#v-resume");
  await page.keyboard.press("Enter");
  await page.locator("#v-pause").waitFor({ timeout: LIVE_MS_MAX });
  assert.equal((await api("GET", `/v1/rollouts/${rollout}`)).state, "running");

  const watcher = await enter(await context(), viewer);
  await watcher.goto(`${base}/rollouts/${rollout}`);
  assert.equal(await watcher.locator("main button:visible").count(), 0, "a viewer has a button");
  const refused = await watcher.evaluate(async (where) => (await fetch(where, { method: "POST", body: "null" })).status, `/v1/rollouts/${rollout}/abort`);
  assert.equal(refused, 403, "a viewer without the session's proof");
  complaints.length = 0;
  await watcher.context().close();
  await made.close();
}

/** Without a mouse. */
async function keys() {
  const made = await context();
  const page = await enter(made, operator);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the view");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await page.keyboard.press("g");
  await page.keyboard.press("d");
  await page.waitForURL(`${base}/devices`);
  await page.keyboard.press("/");
  await page.keyboard.type(`id=${device}`);
  await page.keyboard.press("Enter");
  await page.waitForURL(/q=/);
  assert.equal(await page.locator("tbody tr").count(), 1);
  await made.close();
}

/** A new rollout, as far as the plan; what is shown is what the API plans. */
async function plan() {
  const made = await context();
  const page = await enter(made, operator);
  await page.goto(`${base}/rollouts/new`);
  await page.selectOption("select[name=release]", "digits@v2");
  await page.fill("input[name=selector]", `id=${device}`);
  await page.click("text=See what it would do");
  await page.locator("#plan").waitFor();
  const body = await page.getAttribute("form[data-api='/v1/rollouts']", "data-body");
  const planned = await (await fetch(`${base}/v1/rollouts/plan`, { method: "POST", headers: { authorization: `Bearer ${operator}`, "content-type": "application/json" }, body })).json();
  // What is started is what is shown: the button names the plan, and another one starts nothing.
  assert.equal(JSON.parse(body).plan, planned.hash, "the button names another plan");
  const other = JSON.stringify({ ...JSON.parse(body), plan: "0".repeat(64) });
  const refused = await fetch(`${base}/v1/rollouts`, { method: "POST", headers: { authorization: `Bearer ${operator}`, "content-type": "application/json" }, body: other });
  assert.equal(refused.status, 409, "a plan that was not shown is started");
  const shown = await page.locator(".figures dd").first().textContent();
  const moves = planned.devices.filter((d) => d.phase !== null).length;
  assert.equal(shown.replace(/\s+/g, " ").trim(), `${moves} of ${planned.devices.length}`);
  await page.click("text=Start this rollout");
  await page.waitForURL(/\/rollouts\/\d+$/);
  figures.started = Number(page.url().split("/").pop());
  const state = await api("GET", `/v1/rollouts/${figures.started}`);
  assert.equal(state.selector, `id=${device}`);
  await made.close();
  quiet("a new rollout");
}

/** Text of others is text. */
async function escaped() {
  const made = await context();
  const page = await enter(made, operator);
  let seen = 0;
  for (const view of ["/models", `/rollouts/${halted}`]) {
    await page.goto(base + view);
    seen += (await page.locator("body").innerText()).includes(hostile) ? 1 : 0;
    assert.equal(await page.locator("img[src=x]").count(), 0, `markup of others on ${view}`);
  }
  assert.equal(seen, 2, "the hostile text is not shown where it should be");
  await made.close();
}

try {
  await weigh();
  await walk();
  await plain();
  await gates();
  await keys();
  await escaped();
  await live();
  await plan();
  console.log(JSON.stringify(figures));
} finally {
  await browser.close();
}
