// Opens links in the system's own Chromium, clicks Download, and when the download breaks off goes
// on with it as people do: by the button of the browser's own list of downloads, unless the browser
// does so by itself. A list of visits comes in as JSON on stdin, a list of what was seen goes out
// as JSON on stdout:
//
//   visit:  {link, name, device: "desktop" | "phone", screenshot}
//   seen:   {shown (the name, in the page), broken (what the list says of it when it has broken off, or ""), file, besides (what else was
//           saved), sha256, complaints, error}

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { listen, options, patience, told } from "./browser.mjs";

const views = {
  desktop: { viewport: { width: 1280, height: 800 } },
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 },
};

async function sha256(path) {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest("hex");
}

async function visit({ link, name, device, screenshot }) {
  const seen = { shown: false, broken: "", file: "", besides: [], sha256: "", complaints: [], error: "" };
  const folder = await mkdtemp(join(tmpdir(), "detach-browser"));
  const saved = join(folder, "saved");
  // A profile as people have one, and not a private window, which forgets its downloads.
  const context = await chromium.launchPersistentContext(join(folder, "profile"), { ...options, ...views[device], locale: "en-GB" });
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(patience);
    listen(page, seen.complaints);
    await page.goto(link);
    await page.getByText(name).waitFor();
    seen.shown = true;
    const devtools = await context.newCDPSession(page);
    // playwright would have the file saved under a name of its own.
    await devtools.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: saved });
    await page.locator("#go").click();

    const list = await context.newPage();
    list.setDefaultTimeout(patience);
    await list.goto("chrome://downloads");
    const item = list.locator("downloads-item");
    const complete = item.locator("#quick-show-in-folder:visible");
    const broken = item.locator("#tag:visible");
    await complete.or(broken).waitFor();
    if (await broken.isVisible()) {
      seen.broken = await broken.innerText();
      await list.screenshot({ path: screenshot });
      await item.locator("#more-actions").click();
      await item.locator("#pause-or-resume").click();
      await complete.waitFor();
    }
    [seen.file, ...seen.besides] = await readdir(saved);
    seen.sha256 = await sha256(join(saved, seen.file));
  } catch (error) {
    seen.error = String(error);
  } finally {
    await context.close();
    await rm(folder, { recursive: true, force: true });
  }
  return seen;
}

const seen = [];
for (const v of await told()) seen.push(await visit(v));
process.stdout.write(JSON.stringify(seen));
