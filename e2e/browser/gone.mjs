// Opens links in the system's own Chromium, decrypts there, and ends the browser's service workers in
// the middle, as the browser does when memory is short. The input is a list of visits as JSON on stdin,
// the output a list of what was seen as JSON on stdout:
//
//   visit:  {link, locale, screenshot}
//   seen:   {before, after (what the page says of how it goes), failure (what the browser says of the download), complaints, error}

import { answerIn, ready } from "./browser.mjs";

async function visit(browser, { link, locale, screenshot }) {
  const seen = { before: "", after: "", failure: "", complaints: [], error: "" };
  const context = await browser.newContext({ locale, viewport: { width: 390, height: 844 } });
  try {
    const page = ready(await context.newPage(), seen.complaints);
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

await answerIn((visits, browser) => Promise.all(visits.map((v) => visit(browser, v))));
