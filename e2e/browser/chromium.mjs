import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

export const patience = 60_000; // a loaded machine is slow, and only that

export const options = {
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  // Where the locale knows ASCII alone, as in a bare container, it saves all other names as "download".
  env: { ...process.env, LC_ALL: "C.UTF-8" },
  // Chromium's sandbox refuses to run as root, which a container's tests are.
  args: ["--disable-gpu", "--disable-background-networking"].concat(process.getuid() === 0 ? "--no-sandbox" : []),
};

// launch starts the system's own Chromium.
export const launch = () => chromium.launch(options);

// told is what comes in as JSON on stdin.
export const told = async () => JSON.parse(await readFile("/dev/stdin", "utf8"));
