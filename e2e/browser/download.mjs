// Opens links as a recipient does, in the system's own Chromium or, with the argument firefox,
// Firefox: reads what the page shows, clicks Download, keeps the file. A list of visits comes in as
// JSON on stdin, a list of what was seen goes out as JSON on stdout.
//
//   visit:  {link, name (or "", any), device: "desktop" | "phone", javascript: true | false, here: true | false, screenshot: "path.png" | ""}
//   seen:   {shown, text, after, file, size, sha256, failure, requests, complaints, error}
//
// With javascript false the recipient does what the page then asks for: pastes the link into its
// field. With here true the recipient decrypts in the browser.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { launch, listen, patience, told, views } from "./browser.mjs";

async function sha256(path) {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest("hex");
}

// contexts are as fresh browsers are. One for each kind of recipient: to make one takes longer than
// a visit.
const contexts = new Map();

function contextFor(browser, device, javascript) {
  const kind = device + javascript;
  if (!contexts.has(kind)) {
    const options = { ...views[device], javaScriptEnabled: javascript, locale: "en-GB", acceptDownloads: true };
    contexts.set(kind, browser.newContext(options));
  }
  return contexts.get(kind);
}

async function visit(browser, { link, name, device, javascript, here, screenshot }) {
  const seen = { shown: false, text: "", after: "", file: "", size: 0, sha256: "", failure: "", requests: [], complaints: [], error: "" };
  let page;
  try {
    page = await (await contextFor(browser, device, javascript)).newPage();
    page.setDefaultTimeout(patience);
    page.on("request", (request) => seen.requests.push(request.method() + " " + request.url()));
    listen(page, seen.complaints);

    await page.goto(link);
    const button = page.getByRole("button", { name: here ? /decrypt and download/i : /^download$/i });
    if (javascript && !name) {
      await page.locator("html[data-state=ready]").waitFor();
      seen.shown = true;
    } else if (javascript) {
      await page.getByText(name, { exact: false }).first().waitFor({ state: "visible" });
      seen.shown = true;
    } else {
      await page.getByRole("textbox").first().fill(link);
    }
    if (here) await page.getByText(/decrypt in this browser/i).click();
    if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
    seen.text = await page.locator("body").innerText();

    const [download] = await Promise.all([page.waitForEvent("download"), button.click()]);
    seen.file = download.suggestedFilename();
    seen.failure = (await download.failure()) || "";
    if (!seen.failure) {
      const path = await download.path();
      seen.size = (await stat(path)).size;
      seen.sha256 = await sha256(path);
    }
    if (here) await page.locator("#decrypt:enabled").waitFor(); // the page has heard how it ended
    seen.after = await page.locator("body").innerText();
    if (screenshot) await page.screenshot({ path: screenshot.replace(/\.png$/, "-after.png"), fullPage: true });
  } catch (error) {
    seen.error = String(error);
  } finally {
    await page?.close();
  }
  return seen;
}

const visits = await told();
const browser = await launch();
const seen = [];
let next = 0;
const work = async () => {
  for (let i; (i = next++) < visits.length; ) seen[i] = await visit(browser, visits[i]);
};
try {
  await Promise.all([work(), work()]);
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(seen));
