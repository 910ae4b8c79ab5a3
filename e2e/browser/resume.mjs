// Opens links in the system's own Chromium, clicks Download, and resumes a download that breaks off as
// people do: by the button of the browser's own list of downloads, unless the browser resumes it. The
// input is a list of visits as JSON on stdin, the output a list of what was seen as JSON on stdout:
//
//   visit:  {link, name, device: "desktop" | "phone", screenshot}
//   seen:   {shown (the name, in the page), broken (what the list says of it when it has broken off, or ""), file, besides (what else was
//           saved), sha256, complaints, error}

import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { answer, hashed, inTurn, options, ready } from "./browser.mjs";

const views = {
  desktop: { viewport: { width: 1280, height: 800 } },
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 },
};

async function visit({ link, name, device, screenshot }) {
  const seen = { shown: false, broken: "", file: "", besides: [], sha256: "", complaints: [], error: "" };
  const folder = await mkdtemp(join(tmpdir(), "detach-browser"));
  const saved = join(folder, "saved");
  // A profile keeps its downloads; a private window would forget them.
  const context = await chromium.launchPersistentContext(join(folder, "profile"), { ...options, ...views[device], locale: "en-GB" });
  try {
    const page = ready(await context.newPage(), seen.complaints);
    await page.goto(link);
    await page.getByText(name).waitFor();
    seen.shown = true;
    const devtools = await context.newCDPSession(page);
    // playwright would save the file under another name.
    await devtools.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: saved });
    await page.locator("#go").click();

    const list = ready(await context.newPage(), []);
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
    seen.sha256 = (await hashed(join(saved, seen.file))).sha256;
  } catch (error) {
    seen.error = String(error);
  } finally {
    await context.close();
    await rm(folder, { recursive: true, force: true });
  }
  return seen;
}

await answer((visits) => inTurn(visits, visit));
