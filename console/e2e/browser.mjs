// A headless browser on a leash: takes one command per line (JSON) and answers each with one line. Every wait is for a state of the page.
//   node browser.mjs BASE_URL [light|dark]
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [base, colorScheme = "light"] = process.argv.slice(2);
const PATIENCE_MS = 90_000;
const browser = await chromium.launch({
  executablePath: process.env.HERON_CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
  ],
});
const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, colorScheme });
page.setDefaultTimeout(PATIENCE_MS);
const errors = [];
page.on("pageerror", (error) => errors.push(`error: ${error.message}`));
page.on("console", (message) => {
  if (message.type() === "error") errors.push(`console: ${message.text()}`);
});
page.on("request", (request) => {
  if (!request.url().startsWith(base) && !request.url().startsWith("data:")) errors.push(`a request elsewhere: ${request.url()}`);
});

const commands = {
  goto: async ({ path }) => void (await page.goto(base + path, { waitUntil: "load" })),
  /// Waits until an element that fits `selector` holds `text`; gives its whole text.
  see: async ({ selector, text }) => {
    const found = page.locator(selector).filter({ hasText: text ?? "" }).first();
    await found.waitFor({ state: "visible" });
    return found.innerText();
  },
  gone: async ({ selector }) => void (await page.locator(selector).first().waitFor({ state: "detached" })),
  click: async ({ selector }) => void (await page.locator(selector).first().click()),
  press: async ({ key }) => void (await page.keyboard.press(key)),
  type: async ({ text }) => void (await page.keyboard.type(text)),
  where: async () => new URL(page.url()).pathname,
  waitFor: async ({ path }) => void (await page.waitForURL((url) => url.pathname === path)),
  count: async ({ selector }) => page.locator(selector).count(),
  shot: async ({ file }) => void (await page.screenshot({ path: file })),
  errors: async () => errors,
};

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  try {
    console.log(JSON.stringify({ ok: (await commands[command.do](command)) ?? null }));
  } catch (error) {
    const body = await page.locator("body").innerText({ timeout: 1_000 }).catch(() => "");
    const rows = await page.locator(".rows").innerHTML({ timeout: 1_000 }).catch(() => "none");
    console.log(JSON.stringify({ failed: `${error.message}\nthe page: ${body.slice(0, 2_000)}\nrows: ${rows.slice(0, 1_500)}\n${errors.join("\n")}` }));
  }
}
await browser.close();
