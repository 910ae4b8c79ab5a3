// Looks at pages as recipients see them, in the system's own Chromium or, with the argument firefox,
// Firefox: their text, whether they fit the screen, their size, and axe's findings for people who cannot
// see them well. The input is a list of looks as JSON on stdin, the output a list of what was seen.
//
//   look:  {url, state (of the html element, or ""), device: "desktop" | "phone" | "narrow", dark, locale,
//           forwarded (X-Forwarded-For), paste (a text for the page's field), view (open the frame),
//           slow (milliseconds before the share is asked for), share (the status of its answer, if it is
//           refused), listed (wait for the list of files), late (milliseconds before its content is asked
//           for), screenshot}
//   seen:  {status, retry, lang, title, text, bytes, requests, cookies, wide, small, violations, complaints, icon, viewed,
//           origin, shift (how far the page moved while it was read: the browser's layout shift), wait
//           (milliseconds from the page to the share), error}

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { answerIn, inTurn, ready, views } from "./browser.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// drawnPages returns what the viewer of PDF files shows: the number of pages, the text of the first and
// the last and whether something is drawn on them, and how many take memory. Without pages it returns
// the viewer's message.
async function drawnPages() {
  const until = async (seen) => {
    for (const end = Date.now() + 20_000; !seen() && Date.now() < end; ) await new Promise((r) => setTimeout(r, 50));
  };
  const state = document.getElementById("state");
  await until(() => document.querySelector("section") || state.textContent === document.body.dataset.failed);
  const pages = [...document.querySelectorAll("section")];
  if (!pages.length) return state.textContent;
  const looked = [];
  for (const page of [pages[0], pages.at(-1)]) {
    page.scrollIntoView();
    await until(() => page.querySelector("canvas + .text"));
    const canvas = page.querySelector("canvas");
    const dark = canvas?.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((v, i) => i % 4 === 0 && v < 128);
    looked.push(`${page.ariaLabel}: ${page.innerText.trim()}${dark ? "" : ", blank"}`);
  }
  pages[0].scrollIntoView();
  await until(() => pages[0].querySelector("canvas") && document.querySelectorAll("canvas").length < 6);
  if (!pages[0].querySelector("canvas")) looked.push("the first is gone");
  return looked.join("; ") + `; ${document.querySelectorAll("canvas").length < 6 ? "few" : "many"} in memory`;
}

// inFrame returns what the page's frame shows once it is loaded, and the frame's origin.
async function inFrame(page) {
  await page.locator("#view summary").click();
  const frame = await (await page.locator("iframe[name=view]").elementHandle()).contentFrame();
  await frame.waitForURL(/\/v\//);
  const isPDF = await frame.locator("[data-library]").count();
  const viewed = await frame.waitForFunction(isPDF ? drawnPages : () => {
    const e = document.querySelector("img, audio, video");
    if (!e) return document.readyState === "complete" && document.body.innerText;
    return e.naturalWidth ? `img ${e.naturalWidth}` : e.duration ? `${e.localName} ${e.duration}` : false;
  });
  return { viewed: String(await viewed.jsonValue()), origin: await frame.evaluate(() => self.origin) };
}

// watchShift adds up the layout shifts of a page (https://web.dev/articles/cls). Firefox has none.
function watchShift() {
  window.shift = 0;
  if (!PerformanceObserver.supportedEntryTypes.includes("layout-shift")) return;
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => (window.shift += entry.value))).observe({ type: "layout-shift", buffered: true });
}

// waited returns how far the page moved, and how long it waited for the share.
function waited() {
  const [own] = performance.getEntriesByType("navigation");
  const share = performance.getEntriesByType("resource").find(({ name }) => name.endsWith("/share"));
  return { shift: window.shift, wait: share ? share.responseEnd - own.domInteractive : 0 };
}

// drawn returns the icon of the page's file: its kind, its drawing, whether that stays on its sheet, and
// whether it is hidden from screen readers.
function drawn() {
  const icon = document.querySelector(".icon");
  if (!icon) return null;
  const [sheet, , kind, text] = icon.children;
  const [outer, ...inner] = [sheet, kind, text].map((e) => e.getBBox());
  const fits = inner.every((b) => b.x >= outer.x && b.y >= outer.y && b.x + b.width <= outer.x + outer.width && b.y + b.height <= outer.y + outer.height || b.width === 0);
  return { kind: icon.dataset.kind || "", drawing: kind.getAttribute("d") + text.textContent, fits, hidden: icon.getAttribute("aria-hidden") === "true" };
}

// paste puts a text into the page's field. Without a script, it presses the button too, and returns
// the answer.
async function paste(page, text) {
  await page.locator("#key").fill(text);
  if (await page.locator("html[data-state]").count()) return null;
  const [response] = await Promise.all([page.waitForNavigation(), page.locator("form:has(#key) button").click()]);
  return response;
}

async function look(browser, { url, state, device, dark, locale, forwarded, paste: text, view, slow, share, listed, late, screenshot }) {
  const seen = { status: 0, retry: "", lang: "", title: "", text: "", bytes: 0, requests: [], cookies: 0, wide: false, small: [], violations: [], complaints: [], icon: null, viewed: "", origin: "", shift: 0, wait: 0, error: "" };
  const context = await browser.newContext({
    ...views[device], colorScheme: dark ? "dark" : "light", locale, extraHTTPHeaders: forwarded ? { "X-Forwarded-For": forwarded } : {},
  });
  try {
    const complaints = [];
    const page = ready(await context.newPage(), complaints);
    await page.addInitScript(watchShift);
    if (slow) await page.route("**/share", async (route) => {
      await new Promise((resolve) => setTimeout(resolve, slow));
      await route.continue();
    });
    if (late) await page.route("**/data", async (route) => {
      await new Promise((resolve) => setTimeout(resolve, late));
      await route.continue();
    });
    if (share) await page.route("**/share", (route) => route.fulfill({ status: share }));
    page.on("request", (request) => request.url().startsWith("data:") || seen.requests.push(request.method() + " " + request.url()));
    let response = await page.goto(url);
    // Some requests are allowed even from an address that makes too many.
    for (let tries = 0; forwarded && response.status() === 200 && tries < 50; tries++) {
      seen.requests.length = 0;
      response = await page.reload();
    }
    if (text) {
      seen.requests.length = 0;
      response = await paste(page, text) || response;
    }
    seen.status = response.status();
    seen.retry = (await response.allHeaders())["retry-after"] || "";
    if (!share) seen.bytes = (await response.body()).length; // the page may be fetched again
    if (state) await page.locator(`html[data-state=${state}]`).waitFor();
    if (slow) await page.locator("#go").waitFor();
    if (listed) await page.locator("#files li").first().waitFor();
    if (view) Object.assign(seen, await inFrame(page));
    Object.assign(seen, await page.evaluate(waited));
    seen.title = await page.title();
    seen.text = await page.locator("body").innerText();
    seen.lang = await page.locator("html").getAttribute("lang");
    seen.icon = await page.evaluate(drawn);
    seen.cookies = (await context.cookies()).length;
    seen.wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
    seen.small = await page.evaluate(() => [...document.querySelectorAll("button, input, summary, a")].filter((e) => e.offsetParent && e.getBoundingClientRect().height < 24).map((e) => e.textContent));
    if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
    seen.complaints = complaints.slice(); // axe causes more: it speaks to the frame, which has no origin
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    seen.violations = found.violations.map((v) => v.id + ": " + v.nodes.map((n) => n.html).join(" | ").slice(0, 300));
  } catch (error) {
    seen.error = String(error);
  } finally {
    await context.close();
  }
  return seen;
}

await answerIn((looks, browser) => inTurn(looks, (l) => look(browser, l)));
