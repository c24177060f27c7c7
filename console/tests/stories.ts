// What people do with the console, in a real browser, on the local stack: . target/local/env, then `console.py stories`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { address, call, DEADLINE, Issuer, OTHER, Receiver, serious, start, TOKEN, URL_OF } from "./browser.ts";

const MARK = Math.random().toString(36).slice(2, 8);
const HOOK = `hook-${MARK}`;
const FILES = `files-${MARK}`;
const NAME = `order.m${MARK}`;
const THERE = "/integrations/eventstream";

const browser = await start();
const receiver = await new Receiver().start();
const called = new Set<string>();
const faults: string[] = [];
let slowest = 0;

/** A page in a session of its own. */
async function page(options: object = {}, others: string[] = []): Promise<any> {
  const context = await browser.newContext({ permissions: ["clipboard-read", "clipboard-write"], ...options });
  context.setDefaultTimeout(DEADLINE);
  const page = await context.newPage();
  await page.addInitScript(() => {
    const shifts: unknown[] = ((globalThis as any).shifts = []);
    new PerformanceObserver((list) => shifts.push(...list.getEntries())).observe({ type: "layout-shift", buffered: true });
  });
  page.on("request", (request: any) => {
    const url = new URL(request.url());
    const path = url.pathname.slice(new URL(URL_OF).pathname.length);
    if (others.includes(url.origin)) return;
    if (url.origin !== new URL(URL_OF).origin) faults.push(`a request to another host: ${url.origin}`);
    if (url.href.includes(TOKEN)) faults.push(`a token in an address: ${path}`);
    if (!path.startsWith("/console")) called.add(`${request.method()} ${path}`);
  });
  page.on("pageerror", (error: Error) => faults.push(`an error of the page: ${error.message}`));
  page.on("console", (message: any) => {
    if (/Content Security Policy/.test(message.text())) faults.push(message.text());
  });
  return page;
}

const row = (page: any, name: string) => page.getByRole("row").filter({ hasText: name });

const stories: Record<string, () => Promise<void>> = {
  async "signs in with an address, keeps it on a reload, and forgets it"() {
    const it = await page();
    await it.goto(address());
    await it.getByRole("heading", { name: "Integrations" }).waitFor();
    assert.ok(!it.url().includes(TOKEN), "the token is out of the address");
    await it.reload();
    await it.getByRole("heading", { name: "Integrations" }).waitFor();
    await it.getByRole("button", { name: "Sign out" }).click();
    await it.getByLabel("Access token").fill("not.a.token");
    await it.getByRole("button", { name: "Use it" }).click();
    // The API does not accept it: the page asks again.
    await it.getByLabel("Access token").waitFor();
    await it.getByLabel("Access token").fill(TOKEN);
    await it.getByRole("button", { name: "Use it" }).click();
    await it.getByRole("heading", { name: "Integrations" }).waitFor();
    await it.context().close();
  },

  async "signs in at the issuer, and comes back to where it was"() {
    const issuer = await new Issuer().start();
    try {
      const there = await issuer.deployment();
      const it = await page({}, [issuer.origin, there]);
      await it.goto(`${there}/console/publish`);
      await it.getByRole("button", { name: "Sign in", exact: true }).click();
      await it.getByRole("heading", { name: "Publish a sample event" }).waitFor();
      assert.ok(it.url().endsWith("/console/publish"), it.url());
      const asked = issuer.asked[0];
      assert.deepEqual([asked.get("response_type"), asked.get("code_challenge_method")], ["code", "S256"]);
      await it.context().close();
      // A code that was not asked for in this session is not exchanged.
      const other = await page({}, [issuer.origin, there]);
      await other.goto(`${there}/console?code=stolen&state=x`);
      await other.getByLabel("Access token").waitFor();
      assert.equal(issuer.asked.length, 1);
      await other.context().close();
    } finally {
      issuer.stop();
    }
  },

  async "keeps what is filled in on a reload, but for secrets"() {
    const it = await page();
    await it.goto(address("/register"));
    await it.getByLabel("Id", { exact: true }).fill("half-done");
    await it.getByLabel("URL").fill("https://erp.example.com/");
    await it.getByLabel("API key").fill("k-secret-1234");
    await it.reload();
    assert.equal(await it.getByLabel("Id", { exact: true }).inputValue(), "half-done");
    assert.equal(await it.getByLabel("URL").inputValue(), "https://erp.example.com/");
    assert.equal(await it.getByLabel("API key").inputValue(), "");
    const kept = await it.evaluate(() => JSON.stringify(sessionStorage));
    assert.ok(!kept.includes("k-secret-1234"));
    await it.context().close();
  },

  async "registers a webhook with a preview and a test"() {
    // A name that fits in no line of a narrow page.
    const long = `fulfillment_request_${"of_long_names_".repeat(5)}.m${MARK}`;
    await call("POST", "/events", [NAME, long].map((name) => ({ name, payload: { n: 0 } })));
    const it = await page();
    await it.goto(address("/register"));
    await it.getByLabel("Id", { exact: true }).fill(HOOK);
    await it.getByLabel("URL").fill(receiver.url);
    await it.getByLabel("API key").fill("k-12345678");
    await it.getByLabel("Another name").fill(NAME);
    await it.getByLabel("Another name").press("Enter");
    await it.getByText(/\d+ of \d+ events of the last day pass/).waitFor();
    await it.getByRole("button", { name: "Test it" }).click();
    await it.getByText(/HTTP 204, \d+ ms/).waitFor();
    assert.equal(receiver.received[0].headers["webhook-test"], "1");
    assert.equal(receiver.received[0].headers.authorization, "Bearer k-12345678");
    assert.equal((await call("GET", `${THERE}/${HOOK}`)).error_code, "resource_not_found");
    await it.getByRole("button", { name: "Register" }).click();
    const secret = await it.locator("code").filter({ hasText: "whsec_" }).textContent();
    assert.match(secret, /^whsec_/);
    await it.getByRole("link", { name: `Go on to ${HOOK}` }).click();
    await it.getByRole("heading", { name: HOOK }).waitFor();
    assert.equal((await call("GET", `${THERE}/${HOOK}`)).filter_conditions.event_filter[0], NAME);
    await it.context().close();
  },

  async "says what the API refuses, in its words"() {
    const it = await page();
    await it.goto(address("/register"));
    await it.getByLabel("Id", { exact: true }).fill(HOOK);
    await it.getByLabel("URL").fill(receiver.url);
    await it.getByRole("button", { name: "Register" }).click();
    await it.getByRole("alert").filter({ hasText: `id "${HOOK}" is taken by another integration` }).waitFor();
    await it.context().close();
  },

  async "publishes, and watches it arrive"() {
    receiver.received = [];
    const it = await page();
    await it.goto(address("/publish"));
    await it.getByLabel("Name", { exact: true }).fill(NAME);
    await it.getByLabel("Payload").fill('{"id":"R1","n":1.10}');
    await it.getByRole("button", { name: "Publish" }).click();
    await row(it, HOOK).getByText("delivered").waitFor();
    assert.equal(receiver.received.at(-1)!.body.payload.id, "R1");
    await it.reload();
    await row(it, HOOK).getByText("delivered").waitFor();
    // With its payload, by a filter that is in the address.
    await row(it, HOOK).getByRole("link", { name: HOOK }).click();
    await it.getByLabel("Payload id").fill("R1");
    await it.getByRole("button", { name: "Filter" }).click();
    await it.waitForURL(/payload_id=R1/);
    await it.getByRole("link", { name: NAME }).click();
    await it.getByText('"n": 1.1').waitFor();
    await it.reload();
    await it.getByText('"n": 1.1').waitFor();
    await it.context().close();
  },

  async "rejects, reads, and sends again"() {
    receiver.status = 400;
    const { accepted } = await call("POST", "/events", { name: NAME, payload: { number: "R2" } });
    const id = accepted[0].id;
    const it = await page();
    await it.goto(address(`/integrations/${HOOK}/rejected`));
    await row(it, id).getByText("no such order").waitFor();
    await it.getByRole("button", { name: id, exact: true }).click();
    await it.getByText('"number": "R2"').waitFor();
    await it.getByRole("button", { name: `Retry ${id}` }).click();
    await it.getByRole("alert").filter({ hasText: "The receiver has not accepted the event" }).waitFor();
    receiver.status = 204;
    await it.getByRole("button", { name: "Retry all" }).click();
    await it.getByText("1 taken, 0 rejected again.").waitFor();
    await it.getByText("Nothing was rejected.").waitFor();
    await it.context().close();
  },

  async "sees a receiver break, and come back"() {
    const it = await page();
    await it.goto(address(`/integrations/${HOOK}`));
    await it.getByRole("heading", { name: HOOK }).waitFor();
    receiver.status = 503;
    const events = Array.from({ length: 8 }, (_, n) => ({ name: NAME, payload: { n } }));
    await call("POST", "/events", events);
    await it.locator(".facts").getByText("interrupted").waitFor();
    receiver.status = 204;
    await it.locator(".facts").getByText(/healthy|paced/).waitFor({ timeout: 60_000 });
    await it.getByText(/Last: half within \d+/).waitFor();
    await it.context().close();
  },

  async "stops and starts"() {
    const it = await page();
    await it.goto(address());
    const runs = it.getByRole("switch", { name: `${HOOK} runs` });
    await runs.click();
    await row(it, HOOK).getByText("Stopped").waitFor();
    assert.equal((await call("GET", `${THERE}/${HOOK}`)).status, "stopped");
    await it.getByRole("link", { name: /^Stopped/ }).click();
    await it.waitForURL(/show=stopped/);
    await runs.focus();
    await it.keyboard.press("Space");
    await it.getByText(/None is stopped|Show all/).or(it.getByRole("table")).first().waitFor();
    const deadline = Date.now() + DEADLINE;
    while ((await call("GET", `${THERE}/${HOOK}`)).status !== "running") assert.ok(Date.now() < deadline, "it is started");
    await it.context().close();
  },

  async "registers a bucket, and sees the file"() {
    const bucket = `console-${MARK}`;
    const put = await fetch(`${process.env.AWS_ENDPOINT_URL}/${bucket}`, { method: "PUT", headers: { authorization: "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x" } });
    assert.ok(put.ok, await put.text());
    const it = await page();
    await it.goto(address("/register"));
    await it.getByLabel("Id", { exact: true }).fill(FILES);
    await it.getByLabel("Kind").selectOption("s3");
    await it.getByLabel("Bucket").fill(bucket);
    await it.getByLabel("Region").fill("us-east-1");
    await it.getByLabel("Access", { exact: true }).selectOption("key");
    await it.getByLabel("Access key id").fill(process.env.EVENTSTREAM_BUCKET_ACCESS_KEY_ID!);
    await it.getByLabel("Secret access key").fill(process.env.EVENTSTREAM_BUCKET_SECRET_ACCESS_KEY!);
    await it.getByRole("button", { name: "Test it" }).click();
    await it.getByText(/Object .*-test-/).waitFor();
    await it.getByRole("button", { name: "Register" }).click();
    await it.getByRole("heading", { name: FILES }).waitFor();
    await call("POST", "/events", { name: NAME, payload: { n: 3 } });
    await it.getByRole("link", { name: "Files" }).click();
    // Files are written every minute on the local stack.
    await it.getByText(/-data-.*\.export/).waitFor({ timeout: 150_000 });
    await it.context().close();
  },

  async "replays a range of the past"() {
    const it = await page();
    await it.goto(address(`/replay?of=${HOOK}`));
    await it.getByText(/it takes .* with a receiver/).waitFor();
    const id = await it.getByLabel("Id", { exact: true }).inputValue();
    assert.match(id, new RegExp(`^${HOOK}-replay-`));
    await it.getByLabel("Begin, in hours of the last 30 days").press("ArrowLeft");
    await it.waitForURL(/from=/);
    await it.getByRole("button", { name: "Replay" }).click();
    await it.getByRole("heading", { name: id }).waitFor();
    await it.getByRole("button", { name: "Delete", exact: true }).click();
    await it.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await it.getByRole("heading", { name: "Integrations" }).waitFor();
    assert.equal((await call("GET", `${THERE}/${id}`)).error_code, "resource_not_found");
    await it.context().close();
  },

  async "shows another tenant nothing of it"() {
    const it = await page();
    await it.goto(address("", OTHER));
    await it.getByRole("heading", { name: "Integrations" }).waitFor();
    await it.locator("table, .empty").first().waitFor();
    assert.equal(await it.getByText(HOOK).count(), 0);
    await it.goto(address(`/integrations/${HOOK}`, OTHER));
    await it.getByRole("alert").filter({ hasText: `There is no integration "${HOOK}"` }).waitFor();
    await it.context().close();
  },

  async "can be read by everyone: axe finds nothing serious, and nothing is wider than the screen"() {
    const places = ["", "/register", "/publish", `/replay?of=${HOOK}`, `/integrations/${HOOK}`, `/integrations/${HOOK}/events`];
    places.push(`/integrations/${HOOK}/rejected`, `/integrations/${HOOK}/log`, `/integrations/${FILES}/files`);
    for (const colorScheme of ["light", "dark"]) {
      for (const width of [320, 1280]) {
        const it = await page({ colorScheme, viewport: { width, height: 800 } });
        for (const place of places) {
          await it.goto(address(place));
          await it.locator("main h1").waitFor();
          await it.waitForLoadState("networkidle");
          const { shift, own } = await it.evaluate(looked);
          assert.ok(shift < 0.1, `${place}, ${width}: what is shown moves by ${shift}`);
          slowest = Math.max(slowest, own);
          const found = await serious(it);
          assert.deepEqual(found, [], `${place}, ${colorScheme}, ${width}`);
          const overflow = await it.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          assert.ok(overflow <= 0, `${place} is ${overflow} pixels wider than ${width}`);
        }
        await it.context().close();
      }
    }
  },

  async "says what it needs where there is no JavaScript"() {
    const it = await page({ javaScriptEnabled: false });
    await it.goto(`${URL_OF}/console`);
    assert.match(await it.locator("body").innerText(), /it needs JavaScript/);
    await it.context().close();
  },
};

/** How much of a page has moved while it loaded, and how long it took without the API: until the first call, in milliseconds. */
function looked(): { shift: number; own: number } {
  const shifts = (globalThis as any).shifts as { value: number; hadRecentInput: boolean }[];
  const shift = shifts.reduce((sum, it) => sum + (it.hadRecentInput ? 0 : it.value), 0);
  const calls = performance.getEntriesByType("resource").filter((it) => it.name.includes("/api/v1/"));
  const [document] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
  return { shift, own: calls.length ? Math.min(...calls.map((it) => it.startTime)) - document.responseEnd : 0 };
}

/** Every call was one of the document. */
function documented(): string[] {
  const { paths } = JSON.parse(readFileSync(process.env.CONSOLE_DOCUMENT!, "utf8"));
  const patterns = Object.entries<any>(paths).flatMap(([path, item]) =>
    Object.keys(item).map((method) => new RegExp(`^${method.toUpperCase()} ${path.replaceAll(/\{\w+\}/g, "[^/]+")}$`)),
  );
  return [...called].filter((it) => !patterns.some((pattern) => pattern.test(it)));
}

let failed = false;
try {
  for (const [name, story] of Object.entries(stories)) {
    const began = performance.now();
    await story();
    assert.deepEqual(faults, []);
    console.log(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${name}`);
  }
  assert.deepEqual(documented(), [], "calls that the document does not have");
  console.log(`console: ${Math.round(slowest)} ms from a page's arrival to its first call, at the most`);
  console.log(`console: ${Object.keys(stories).length} stories, ${called.size} different calls, all of the public API`);
} catch (error) {
  failed = true;
  for (const context of browser.contexts()) {
    for (const it of context.pages()) console.error(it.url().replace(/#.*/, ""), "\n", (await it.locator("body").innerText()).slice(0, 2_000));
  }
  console.error(error);
} finally {
  await browser.close();
  receiver.stop();
  for (const id of [HOOK, FILES]) await call("DELETE", `${THERE}/${id}`).catch(() => undefined);
}
process.exit(failed ? 1 : 0);
