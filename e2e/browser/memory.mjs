// Opens links in the system's own Chromium, each in a browser of its own, decrypts there, and
// weighs the browser meanwhile. A list of visits comes in as JSON on stdin, a list of what was seen
// goes out as JSON on stdout:
//
//   visit:  {link}
//   seen:   {says (the page, at the end), sha256, size, before, peak (bytes of memory of all the browser's processes), samples, seconds,
//           complaints, error}

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { launch, listen, patience, told } from "./browser.mjs";

// What all processes below this one have in memory: of what they share, each has its share (Pss).
async function weigh() {
  const children = new Map();
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ""); // one that has ended meanwhile
    const parent = Number(stat.slice(stat.lastIndexOf(")")).split(" ")[2]);
    children.set(parent, [...(children.get(parent) || []), Number(pid)]);
  }
  let sum = 0;
  for (const below = [...(children.get(process.pid) || [])]; below.length; ) {
    const pid = below.pop();
    below.push(...(children.get(pid) || []));
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => "");
    sum += Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] || 0) * 1024;
  }
  return sum;
}

async function hashed(path) {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { size, sha256: hash.digest("hex") };
}

async function visit({ link }) {
  const seen = { says: "", sha256: "", size: 0, before: 0, peak: 0, samples: 0, seconds: 0, complaints: [], error: "" };
  const browser = await launch();
  try {
    const page = await (await browser.newContext({ locale: "en-GB" })).newPage();
    page.setDefaultTimeout(patience);
    listen(page, seen.complaints);
    await page.goto(link);
    await page.locator("#here summary").click();
    seen.before = await weigh();
    const began = Date.now();
    const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#decrypt").click()]);
    let ended = false;
    const end = page.locator("#decrypt:enabled").waitFor({ timeout: 15 * patience }).finally(() => { ended = true; });
    while (!ended) {
      seen.peak = Math.max(seen.peak, await weigh());
      seen.samples++;
      await Promise.race([end, new Promise((resolve) => setTimeout(resolve, 200))]);
    }
    await end;
    const path = await download.path();
    seen.seconds = (Date.now() - began) / 1000;
    seen.says = await page.locator("#progress").innerText();
    Object.assign(seen, await hashed(path));
  } catch (error) {
    seen.error = String(error);
  } finally {
    await browser.close();
  }
  return seen;
}

const seen = [];
for (const v of await told()) seen.push(await visit(v));
process.stdout.write(JSON.stringify(seen));
