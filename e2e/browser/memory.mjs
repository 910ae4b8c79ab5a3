// Opens links in the system's own Chromium, each in a browser of its own, decrypts there, and measures
// the browser's memory. The input is a list of visits as JSON on stdin, the output a list of what was
// seen as JSON on stdout:
//
//   visit:  {link}
//   seen:   {says (the page, at the end), sha256, size, before, peak (bytes of memory of all the browser's processes), samples, seconds,
//           complaints, error}

import { readdir, readFile } from "node:fs/promises";
import { answer, hashed, inTurn, launch, patience, ready } from "./browser.mjs";

// weigh returns the memory of all processes below this one. Shared memory counts once (Pss).
async function weigh() {
  const children = new Map();
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ""); // a process that has ended
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

async function visit({ link }) {
  const seen = { says: "", sha256: "", size: 0, before: 0, peak: 0, samples: 0, seconds: 0, complaints: [], error: "" };
  const browser = await launch();
  try {
    const page = ready(await (await browser.newContext({ locale: "en-GB" })).newPage(), seen.complaints);
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
      await Promise.race([end, new Promise((resolve) => setTimeout(resolve, 50))]);
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

await answer((visits) => inTurn(visits, visit));
