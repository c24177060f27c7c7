// The state of the page is its address: a path below the console's own, and a query. What is in it survives a reload, and can be
// sent to someone else.

import { useEffect, useState } from "preact/hooks";

/** Where the console is: `/console`, behind whatever a custom domain maps it to. */
export const ROOT = /^(.*?\/console)(\/|$)/.exec(location.pathname)?.[1] ?? "/console";

export interface Route {
  /** The parts of the path behind the console's own, decoded. */
  parts: string[];
  query: URLSearchParams;
}

function read(): Route {
  const parts = location.pathname.slice(ROOT.length).split("/").filter(Boolean).map(decodeURIComponent);
  return { parts, query: new URLSearchParams(location.search) };
}

/** The address of a place of the console. */
export function href(parts: string[], query: Record<string, string | undefined> = {}): string {
  const given = Object.entries(query).filter((pair): pair is [string, string] => !!pair[1]);
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  return [ROOT, ...parts.map(encodeURIComponent)].join("/") + search;
}

/** Goes to a place of the console; with `replace` in place of the one before. */
export function go(address: string, replace = false): void {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  dispatchEvent(new Event("moved"));
}

/** The place where the page is, kept up to date. */
export function useRoute(): Route {
  const [route, set] = useState(read);
  useEffect(() => {
    const move = () => set(read());
    addEventListener("popstate", move);
    addEventListener("moved", move);
    return () => {
      removeEventListener("popstate", move);
      removeEventListener("moved", move);
    };
  }, []);
  return route;
}

/** Follows links of the console without loading the page again. */
export function follow(event: MouseEvent): void {
  const link = (event.target as Element).closest?.("a[href]") as HTMLAnchorElement | null;
  const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !isPlain || link.target || link.origin !== location.origin || !link.pathname.startsWith(ROOT)) return;
  event.preventDefault();
  go(link.pathname + link.search);
  scrollTo(0, 0);
}
