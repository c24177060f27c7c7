// The pages of the console as pictures, with something on them to be seen: into the folder CONSOLE_PICTURES.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { address, call, Receiver, start } from "./browser.ts";

const THERE = "/integrations/eventstream";
const FOLDER = process.env.CONSOLE_PICTURES!;
const NAMES = ["order.created", "order.paid", "order.shipped", "return.processed", "stock.changed"];
const IDS = ["erp-netsuite", "warehouse", "loyalty-app", "returns-desk"];

mkdirSync(FOLDER, { recursive: true });
const receivers = await Promise.all(IDS.map(() => new Receiver().start()));
const publish = (count: number) =>
  call(
    "POST",
    "/events",
    Array.from({ length: count }, (_, n) => ({ name: NAMES[n % NAMES.length], payload: { id: `R${1000 + n}`, number: `R${1000 + n}`, total: 49.9 + n, currency: "EUR" } })),
  );
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const browser = await start();
try {
  for (const id of IDS) await call("DELETE", `${THERE}/${id}`);
  for (const [at, id] of IDS.entries()) {
    const filter = at === 3 ? { entity_filter: ["return"] } : at === 1 ? { event_filter: ["order.paid", "order.shipped"] } : undefined;
    await call("POST", THERE, {
      id,
      integration_type: "permanent",
      callback_parameters: { callback_url: receivers[at].url, api_key: "k-example-1234" },
      filter_conditions: filter,
    });
  }
  // Until they are live.
  for (let catching = true; catching; await pause(1_000)) {
    const { integrations } = await call("GET", THERE);
    catching = integrations.some((it: any) => IDS.includes(it.id) && it.pending.catching_up);
  }
  receivers[3].status = 400;
  for (let n = 0; n < 10; n++) {
    await publish(3 + (n % 4) * 2);
    await pause(4_000);
  }
  receivers[2].status = 503;
  await publish(10);
  await pause(6_000);
  await call("POST", `${THERE}/warehouse/_stop`, {});
  const places = ["", "/register", "/replay?of=erp-netsuite", "/publish", "/integrations/erp-netsuite", "/integrations/loyalty-app/events"];
  places.push("/integrations/returns-desk/rejected", "/integrations/loyalty-app/log");
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [360, 1200]) {
      const context = await browser.newContext({ colorScheme, viewport: { width, height: 760 }, deviceScaleFactor: width < 500 ? 2 : 1 });
      const page = await context.newPage();
      for (const place of places) {
        await page.goto(address(place));
        await page.locator("main h1").waitFor();
        await page.waitForLoadState("networkidle");
        const name = place.split("?")[0].split("/").filter(Boolean).join("-") || "integrations";
        await page.screenshot({ path: join(FOLDER, `${name}-${colorScheme}-${width}.png`) });
      }
      await context.close();
    }
  }
  console.log(`screenshots: ${FOLDER}`);
} finally {
  await browser.close();
  for (const id of IDS) await call("DELETE", `${THERE}/${id}`).catch(() => undefined);
  for (const it of receivers) it.stop();
}
