import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { chromium, devices, firefox } from "playwright-core";

export const patience = 60_000; // a loaded machine is slow, and only that

// Where the locale knows ASCII alone, as in a bare container, a browser saves all other names as
// "download".
const env = { ...process.env, LC_ALL: "C.UTF-8" };

export const options = {
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  env,
  // Chromium's sandbox refuses to run as root, which a container's tests are.
  args: ["--disable-gpu", "--disable-background-networking"].concat(process.getuid() === 0 ? "--no-sandbox" : []),
};

const inFirefox = process.argv[2] === "firefox";

// launch starts the system's own Chromium, or Firefox if the script is told so by an argument. The
// channel says that it is spoken to by WebDriver BiDi, and is no build of playwright's own.
export function launch() {
  if (!inFirefox) return chromium.launch(options);
  return firefox.launch({ channel: "moz-firefox", executablePath: process.env.FIREFOX || "/usr/bin/firefox-esr", env });
}

// views are the screens. Firefox on a computer can be as small as a phone, but not be one.
export const views = {
  desktop: { viewport: { width: 1280, height: 800 } },
  phone: inFirefox ? { viewport: { width: 390, height: 844 } } : devices["Pixel 7"],
  narrow: { viewport: { width: 320, height: 640 } },
};

// For a screenshot playwright makes Firefox draw the page anew, by a style that the page's policy
// forbids.
const playwrights = createHash("sha256").update("body {}").digest("base64");

// listen notes what the browser complains of.
export function listen(page, complaints) {
  const note = (text) => text.includes(playwrights) || complaints.push(text);
  page.on("console", (message) => message.type() === "error" && note(message.text()));
  page.on("pageerror", (error) => note(String(error)));
}

// told is what comes in as JSON on stdin.
export const told = async () => JSON.parse(await readFile("/dev/stdin", "utf8"));
