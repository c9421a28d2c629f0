import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { chromium, type Browser, type Page } from "playwright-core";
import { expect } from "vitest";

/** Starts the browser that CHROMIUM names. */
export const launch = (program: string): Promise<Browser> =>
  chromium.launch({ executablePath: program, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** How long anything may take on a slow machine. */
export const patience = 300_000;

/** Holds a page to axe's rules: no serious finding. A page that is drawn anew meanwhile is looked at again. */
export async function accessible(page: Page, what: string): Promise<void> {
  await page.evaluate(axe);
  const serious = async (): Promise<unknown[]> => {
    const found = (await page.evaluate("axe.run()")) as { violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[] };
    return found.violations.filter((v) => ["serious", "critical"].includes(v.impact)).map((v) => [v.id, v.nodes.map((n) => `${n.html} ${n.failureSummary}`)]);
  };
  await expect.poll(serious, { message: what, timeout: patience, interval: 1000 }).toEqual([]);
}
