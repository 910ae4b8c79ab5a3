import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { chromium, devices, firefox } from "playwright-core";

export const patience = 60_000; // a busy machine is slow

// In a locale of ASCII, as in a bare container, a browser saves all other names as "download".
const env = { ...process.env, LC_ALL: "C.UTF-8" };

export const options = {
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  env,
  // Chromium's sandbox refuses to run as root, which a container's tests are.
  args: ["--disable-gpu", "--disable-background-networking"].concat(process.getuid() === 0 ? "--no-sandbox" : []),
};

const inFirefox = process.argv[2] === "firefox";

// launch starts the system's own Chromium, or with the argument firefox Firefox. The channel stands for
// WebDriver BiDi: the system's Firefox is not playwright's build.
export function launch() {
  if (!inFirefox) return chromium.launch(options);
  return firefox.launch({ channel: "moz-firefox", executablePath: process.env.FIREFOX || "/usr/bin/firefox-esr", env });
}

// views are the screens. Firefox cannot act as a phone, only be as small.
export const views = {
  desktop: { viewport: { width: 1280, height: 800 } },
  phone: inFirefox ? { viewport: { width: 390, height: 844 } } : devices["Pixel 7"],
  narrow: { viewport: { width: 320, height: 640 } },
};

// playwright's style for screenshots in Firefox is one that the page's policy forbids.
const playwrights = createHash("sha256").update("body {}").digest("base64");

// ready makes a page patient and notes the browser's complaints.
export function ready(page, complaints) {
  page.setDefaultTimeout(patience);
  const note = (text) => text.includes(playwrights) || complaints.push(text);
  page.on("console", (message) => message.type() === "error" && note(message.text()));
  page.on("pageerror", (error) => note(String(error)));
  return page;
}

// hashed returns the size and the SHA-256 of a file.
export async function hashed(path) {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { size, sha256: hash.digest("hex") };
}

// inTurn returns the results of visits one after the other.
export async function inTurn(visits, visit) {
  const seen = [];
  for (const v of visits) seen.push(await visit(v));
  return seen;
}

// answer reads JSON on stdin, and writes work's result as JSON on stdout.
export async function answer(work) {
  process.stdout.write(JSON.stringify(await work(JSON.parse(await readFile("/dev/stdin", "utf8")))));
}

// answerIn is answer with a browser for the whole work.
export async function answerIn(work) {
  const browser = await launch();
  try {
    await answer((told) => work(told, browser));
  } finally {
    await browser.close();
  }
}
