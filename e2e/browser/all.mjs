// Opens the link to all of a mail's files as a recipient does, in the system's own Chromium, and
// goes from page to page. What it is told comes in as JSON on stdin, what was seen goes out as JSON
// on stdout:
//
//   told:  {all, single (the link to one of the files), device: "desktop" | "phone", dark: true | false, zip, again (where to
//          save what is downloaded), screenshots (the beginning of their paths)}
//   seen:  {title, button, files: [{name, size, kind, href}] on the page to all; file: {address, title, up, files, program} on the page
//          of the last file, come to by a click; reloaded, other, tab: the same after a reload, from there to the first file, and
//          in a tab of its own; menu: the address that the menu would copy; alone: {all, text} of the single file's page;
//          requests, complaints}

import { launch, listen, patience, told, views } from "./browser.mjs";

const { all, single, device, dark, zip, again, screenshots } = await told();
const seen = { requests: [], complaints: [] };

const browser = await launch();

function watch(page) {
  page.setDefaultTimeout(patience);
  page.on("request", (request) => seen.requests.push(request.method() + " " + request.url()));
  listen(page, seen.complaints);
  return page;
}

const ready = (page) => page.locator("html[data-state=ready] #all:not([hidden])").waitFor();

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
  await ready(page);
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

try {
  const context = await browser.newContext({ ...views[device], locale: "en-GB", colorScheme: dark ? "dark" : "light" });
  const page = watch(await context.newPage());
  await page.goto(all);
  await ready(page);
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
  await ready(page);

  await page.goto(single);
  await page.locator("html[data-state=ready]").waitFor();
  seen.alone = { all: await page.locator("#all").isVisible(), text: await page.content() };
} catch (error) {
  seen.error = String(error);
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(seen));
