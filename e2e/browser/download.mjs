// Opens links as a recipient does, in the system's own Chromium or, with the argument firefox, Firefox:
// reads the page, clicks Download, keeps the file. The input is a list of visits as JSON on stdin, the
// output a list of what was seen as JSON on stdout.
//
//   visit:  {link, name (or "", any), device: "desktop" | "phone", javascript: true | false, here: true | false, screenshot: "path.png" | ""}
//   seen:   {shown, text, after, file, size, sha256, failure, requests, complaints, error}
//
// With javascript false the recipient pastes the link into the page's field, as the page then asks. With
// here true the recipient decrypts in the browser.

import { answerIn, hashed, ready, views } from "./browser.mjs";

// contexts are like fresh browsers, one for each kind of recipient: making one takes longer than a
// visit.
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
    page = ready(await (await contextFor(browser, device, javascript)).newPage(), seen.complaints);
    page.on("request", (request) => seen.requests.push(request.method() + " " + request.url()));
    await page.goto(link);
    const button = page.getByRole("button", { name: here ? /decrypt and download/i : /^download$/i });
    if (!javascript) await page.getByRole("textbox").first().fill(link);
    else if (name) await page.getByText(name, { exact: false }).first().waitFor({ state: "visible" });
    else await page.locator("html[data-state=ready]").waitFor();
    seen.shown = javascript;
    if (here) await page.getByText(/decrypt in this browser/i).click();
    if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
    seen.text = await page.locator("body").innerText();

    const [download] = await Promise.all([page.waitForEvent("download"), button.click()]);
    seen.file = download.suggestedFilename();
    seen.failure = (await download.failure()) || "";
    if (!seen.failure) Object.assign(seen, await hashed(await download.path()));
    if (here) await page.locator("#decrypt:enabled").waitFor(); // the page knows how the download ended
    seen.after = await page.locator("body").innerText();
    if (screenshot) await page.screenshot({ path: screenshot.replace(/\.png$/, "-after.png"), fullPage: true });
  } catch (error) {
    seen.error = String(error);
  } finally {
    await page?.close();
  }
  return seen;
}

await answerIn(async (visits, browser) => {
  const seen = [];
  let next = 0;
  const work = async () => {
    for (let i; (i = next++) < visits.length; ) seen[i] = await visit(browser, visits[i]);
  };
  await Promise.all([work(), work()]);
  return seen;
});
