// How long a person waits for a view: from the click to the browser's load event.
//
//   node load.mjs MODULES CHROMIUM INSTRUCTIONS.json
//
// Prints one JSON object: for each view the milliseconds of each load.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [modules, chromium, file] = process.argv.slice(2);
const { base, token, views, times } = JSON.parse(readFileSync(file, "utf8"));
const require = createRequire(path.join(modules, "package.json"));
const browser = await require("playwright-core").chromium.launch({ executablePath: chromium, args: ["--no-sandbox"] });

try {
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 } })).newPage();
  await page.goto(`${base}/login#${token}`);
  await page.waitForURL(`${base}/`);
  const loads = {};
  // Once more than is counted: style sheet and scripts are in the browser's cache then, as on a day of work.
  for (let at = 0; at <= times; at++) for (const view of views) {
    const answer = await page.goto(base + view, { waitUntil: "load" });
    if (answer.status() !== 200) throw new Error(`${view}: ${answer.status()}`);
    const ms = await page.evaluate(() => performance.getEntriesByType("navigation")[0].loadEventEnd);
    if (at > 0) (loads[view] ??= []).push(ms);
  }
  console.log(JSON.stringify(loads));
} finally {
  await browser.close();
}
