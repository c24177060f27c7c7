// A real browser for the console: Chromium out of an npm package, which needs nothing of the system, driven by Playwright.

import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const packages = join(process.env.CONSOLE_PACKAGES!, "..", "package.json");
const load = createRequire(packages);
const { chromium } = load("playwright-core");
const { default: sparticuz, inflate, setupLambdaEnvironment } = await import(load.resolve("@sparticuz/chromium"));
const axeSource: string = load("axe-core").source;

export const URL_OF = process.env.EVENTSTREAM_URL!;
export const TOKEN = process.env.EVENTSTREAM_TOKEN!;
export const OTHER = process.env.EVENTSTREAM_TOKEN_OTHER!;

/** How long a story waits for anything. */
export const DEADLINE = 30_000;

/** Starts the browser. */
export async function start() {
  sparticuz.setGraphicsMode = false;
  // The libraries that it links come with it, too, but for the C library: a new machine has none of them.
  await inflate(join(dirname(load.resolve("@sparticuz/chromium")), "..", "bin", "al2023.tar.br"));
  setupLambdaEnvironment(join(tmpdir(), "al2023", "lib"));
  // Not the package's own arguments, which are for one page in a process without a sandbox, and switch off what browsers check.
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic"];
  const browser = await chromium.launch({ executablePath: await sparticuz.executablePath(), args, headless: true });
  // Without a font text has no size, and all that is waited for counts as hidden.
  const page = await browser.newPage();
  await page.setContent("<span>Integrations</span>");
  const box = await page.locator("span").boundingBox();
  await page.close();
  if (!box || box.width < 20) throw new Error(`The browser has no font: ${process.env.FONTCONFIG_FILE} names a folder without any.`);
  return browser;
}

/** The address at which the console signs in by itself. */
export function address(place = "", token = TOKEN): string {
  return `${URL_OF}/console${place}#token=${token}`;
}

/** Calls the API as a program does. */
export async function call(method: string, path: string, body?: unknown, token = TOKEN): Promise<any> {
  const response = await fetch(`${URL_OF}/api/v1/org${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok && response.status !== 404) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text ? JSON.parse(text) : undefined;
}

/** What axe finds serious or critical on a page. */
export async function serious(page: any): Promise<string[]> {
  // The page's policy forbids scripts of others; this one is the test's own.
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => (globalThis as any).axe.run({ resultTypes: ["violations"] }));
  return violations
    .filter((it: any) => ["serious", "critical"].includes(it.impact))
    .map((it: any) => `${it.id}: ${it.nodes.map((node: any) => node.html.slice(0, 160)).join(" | ")}`);
}

/** An issuer of tokens that signs everyone in at once, by the authorization code with PKCE. */
export class Issuer {
  asked: URLSearchParams[] = [];
  #codes = new Map<string, { challenge: string; redirect: string }>();
  #server: Server;
  #front?: Server;

  constructor() {
    this.#server = createServer((request, response) => {
      const url = new URL(request.url!, this.origin);
      const answer = (status: number, body: unknown) =>
        response.writeHead(status, { "content-type": "application/json", "access-control-allow-origin": "*" }).end(JSON.stringify(body));
      if (url.pathname === "/.well-known/openid-configuration") {
        answer(200, { authorization_endpoint: `${this.origin}/authorize`, token_endpoint: `${this.origin}/token` });
      } else if (url.pathname === "/authorize") {
        this.asked.push(url.searchParams);
        const [code, redirect] = [`code-${this.#codes.size}`, url.searchParams.get("redirect_uri")!];
        this.#codes.set(code, { challenge: url.searchParams.get("code_challenge")!, redirect });
        response.writeHead(302, { location: `${redirect}?${new URLSearchParams({ code, state: url.searchParams.get("state")! })}` }).end();
      } else {
        let text = "";
        request.on("data", (part) => (text += part));
        request.on("end", () => {
          const given = new URLSearchParams(text);
          const known = this.#codes.get(given.get("code") ?? "");
          this.#codes.delete(given.get("code") ?? "");
          const challenge = createHash("sha256").update(given.get("code_verifier") ?? "").digest("base64url");
          const isRight = known?.challenge === challenge && known.redirect === given.get("redirect_uri") && given.get("client_id") === "console-1";
          answer(isRight ? 200 : 400, isRight ? { access_token: TOKEN, token_type: "Bearer" } : { error: "invalid_grant" });
        });
      }
    });
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return this;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Serves the stack as a deployment with this issuer does; returns its address. */
  async deployment(): Promise<string> {
    this.#front = createServer(async (request, response) => {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part);
      const { authorization } = request.headers;
      const answer = await fetch(URL_OF + request.url, {
        method: request.method,
        headers: authorization ? { authorization, "content-type": "application/json" } : {},
        body: parts.length ? Buffer.concat(parts) : undefined,
      });
      const headers = Object.fromEntries(answer.headers);
      delete headers["content-length"];
      const policy = headers["content-security-policy"];
      if (policy) headers["content-security-policy"] = policy.replace("connect-src 'self'", `connect-src 'self' ${this.origin}`);
      const named = (name: string, value: string) => [`name="${name}" content=""`, `name="${name}" content="${value}"`] as const;
      const text = (await answer.text()).replace(...named("issuer", this.origin)).replace(...named("client-id", "console-1"));
      response.writeHead(answer.status, headers).end(text);
    });
    await new Promise<void>((resolve) => this.#front!.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#front!.address() as AddressInfo).port}`;
  }

  stop(): void {
    for (const server of [this.#server, this.#front]) {
      server?.close();
      server?.closeAllConnections();
    }
  }
}

/** A receiver of webhooks that says what it is told to. */
export class Receiver {
  status = 204;
  received: { headers: IncomingMessage["headers"]; body: any }[] = [];
  #server: Server;

  constructor() {
    this.#server = createServer((request, response) => {
      let text = "";
      request.on("data", (part) => (text += part));
      request.on("end", () => {
        if (this.status < 300) this.received.push({ headers: request.headers, body: JSON.parse(text) });
        response.writeHead(this.status).end(this.status === 400 ? "no such order" : "");
      });
    });
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/events`;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
