// The access token: in memory and in the session's storage, so that a reload keeps it and a closed tab forgets it. It reaches the page
// behind the `#` of its address, which browsers never send, or is pasted, or comes from the issuer (sign-in.ts).

const KEY = "event-stream-token";

/** The token; none before signing in. */
let token: string | null = null;

/** Takes a token that is in the fragment of the address, and removes it from there. */
export function begin(): void {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get("token");
  if (given) {
    fragment.delete("token");
    const rest = fragment.toString();
    history.replaceState(null, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
    signIn(given);
  } else {
    token = sessionStorage.getItem(KEY);
  }
}

/** Keeps a token. */
export function signIn(given: string): void {
  token = given.trim();
  sessionStorage.setItem(KEY, token);
}

/** Forgets the token. */
export function signOut(): void {
  token = null;
  sessionStorage.removeItem(KEY);
}

/** The token of this session. */
export function current(): string | null {
  return token;
}

/** What the token says of its bearer, to be shown; nothing is decided by it. */
export function tenantOf(given: string): string | null {
  try {
    const claims = JSON.parse(atob(given.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    const scope = /(?:^| )tenant\/(\S+)/.exec(claims.scope ?? "");
    return claims.tenant ?? scope?.[1] ?? null;
  } catch {
    return null;
  }
}
