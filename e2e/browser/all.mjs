// Opens the link to all of a mail's files as a recipient does, in the system's own Chromium, and goes
// from page to page. The input is JSON on stdin, the output JSON on stdout:
//
//   told:  {all, single (the link to one of the files), device: "desktop" | "phone", dark: true | false, zip, again (where to
//          save what is downloaded), screenshots (the beginning of their paths)}
//   seen:  {title, button, files: [{name, size, kind, href}] on the page to all; file: {address, title, up, files, program} on the page
//          of the last file, come to by a click; reloaded, other, tab: the same after a reload, from there to the first file, and
//          in a tab of its own; menu: the address that the menu would copy; alone: {all, text} of the single file's page;
//          requests, complaints}

import { answerIn, ready, views } from "./browser.mjs";

const seen = { requests: [], complaints: [] };

function watch(page) {
  page.on("request", (request) => seen.requests.push(request.method() + " " + request.url()));
  return ready(page, seen.complaints);
}

const listed = (page) => page.locator("html[data-state=ready] #all:not([hidden])").waitFor();

const files = (page) =>
  page.locator("#files li").evaluateAll((lines) =>
    lines.map((line) => ({
      name: line.querySelector("bdi").textContent,
      size: line.querySelector("small").textContent,
      kind: line.querySelector(".icon").dataset.kind,
      href: line.querySelector("a")?.href ?? "",
    })),
  );

async function filePage(page) {
  await listed(page);
  return {
    address: page.url(),
    title: await page.title(),
    up: await page.locator("#up").evaluate((a) => a.href),
    files: await files(page),
  };
}

async function save(page, button, path) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator(button).click()]);
  await download.saveAs(path);
  return download.suggestedFilename();
}

async function walk({ all, single, device, dark, zip, again, screenshots }, browser) {
  const context = await browser.newContext({ ...views[device], locale: "en-GB", colorScheme: dark ? "dark" : "light" });
  const page = watch(await context.newPage());
  await page.goto(all);
  await listed(page);
  seen.title = await page.title();
  seen.button = await page.locator("#go").innerText();
  seen.files = await files(page);
  await page.screenshot({ path: screenshots + "-all.png", fullPage: true });
  seen.saved = await save(page, "#go", zip);

  await page.locator("#files a").last().click({ button: "right" });
  seen.menu = (await files(page)).at(-1).href;
  await page.keyboard.press("Escape");
  const [tab] = await Promise.all([context.waitForEvent("page"), page.locator("#files a").last().click({ button: "middle" })]);
  seen.tab = await filePage(watch(tab));
  await tab.close();

  await page.locator("#files a").last().click();
  seen.file = await filePage(page);
  await page.screenshot({ path: screenshots + "-file.png", fullPage: true });
  seen.savedAgain = await save(page, "#pack", again);
  await page.reload();
  seen.reloaded = await filePage(page);
  await page.locator("#files a").first().click();
  await page.waitForURL((url) => url.href !== seen.file.address);
  seen.other = await filePage(page);
  await page.locator("#up").click();
  await page.waitForURL(all);
  await listed(page);

  await page.goto(single);
  await page.locator("html[data-state=ready]").waitFor();
  seen.alone = { all: await page.locator("#all").isVisible(), text: await page.content() };
}

await answerIn(async (told, browser) => {
  await walk(told, browser).catch((error) => (seen.error = String(error)));
  return seen;
});
