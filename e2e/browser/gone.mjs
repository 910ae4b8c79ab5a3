// Opens links in the system's own Chromium and decrypts there, and has the browser end its service
// workers in the middle, as it does when it is short of memory. A list of visits comes in as JSON
// on stdin, a list of what was seen goes out as JSON on stdout:
//
//   visit:  {link, locale, screenshot}
//   seen:   {before, after (what the page says of how it goes), failure (what the browser says of the download), complaints, error}

import { launch, listen, patience, told } from "./browser.mjs";

async function visit(browser, { link, locale, screenshot }) {
  const seen = { before: "", after: "", failure: "", complaints: [], error: "" };
  const context = await browser.newContext({ locale, viewport: { width: 390, height: 844 } });
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(patience);
    listen(page, seen.complaints);
    await page.goto(link);
    await page.locator("#here summary").click();
    const progress = page.locator("#progress");
    const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#decrypt").click()]);
    await page.waitForFunction(() => /[1-9]\d* ?%/.test(document.getElementById("progress").textContent));
    seen.before = await progress.innerText();

    const devtools = await context.newCDPSession(page);
    await devtools.send("ServiceWorker.enable");
    await devtools.send("ServiceWorker.stopAllWorkers");
    await page.locator("#decrypt:enabled").waitFor(); // the page has noticed
    seen.after = await progress.innerText();
    seen.failure = (await download.failure()) || "";
    await page.screenshot({ path: screenshot, fullPage: true });
  } catch (error) {
    seen.error = String(error);
  } finally {
    await context.close();
  }
  return seen;
}

const visits = await told();
const browser = await launch();
let seen;
try {
  seen = await Promise.all(visits.map((v) => visit(browser, v)));
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(seen));
