// The console: a page for people, over the public API.

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";

import { List } from "./list";
import { One } from "./one";
import { Publish } from "./publish";
import { Change, Register } from "./register";
import { Replay } from "./replay";
import { follow, href, useRoute, type Route } from "./route";
import * as session from "./session";
import { SignIn } from "./sign-in";
import { Empty } from "./ui";

function Page({ route }: { route: Route }) {
  const [place, id, tab] = route.parts;
  switch (place) {
    case undefined:
      return <List route={route} />;
    case "integrations":
      if (id && tab === "change") return <Change id={id} key={id} />;
      if (id) return <One id={id} route={route} key={id} />;
      break;
    case "register":
      return <Register />;
    case "replay":
      return <Replay route={route} />;
    case "publish":
      return <Publish />;
  }
  return (
    <Empty>
      <p>
        There is nothing at this address. <a href={href([])}>All integrations</a>
      </p>
    </Empty>
  );
}

const PLACES: [string, string][] = [
  ["", "Integrations"],
  ["register", "Register"],
  ["replay", "Replay"],
  ["publish", "Publish"],
];

function App() {
  const route = useRoute();
  const [token, setToken] = useState(session.current());
  useEffect(() => {
    const out = () => setToken(null);
    addEventListener("signed-out", out);
    return () => removeEventListener("signed-out", out);
  }, []);
  const place = route.parts[0] === "integrations" ? "" : (route.parts[0] ?? "");
  useEffect(() => {
    const name = route.parts[1] ?? PLACES.find(([it]) => it === place)?.[1] ?? "";
    document.title = `${name} · Event Stream`;
  }, [route]);
  return (
    <div onClick={follow}>
      <a class="skip" href="#main">
        To the content
      </a>
      <header>
        <span class="brand">Event Stream</span>
        {token && (
          <nav aria-label="Console">
            {PLACES.map(([it, text]) => (
              <a key={it} href={href(it ? [it] : [])} aria-current={it === place ? "page" : undefined}>
                {text}
              </a>
            ))}
          </nav>
        )}
        {token && (
          <span class="who">
            <span>{session.tenantOf(token)}</span>
            <button
              type="button"
              onClick={() => {
                session.signOut();
                setToken(null);
              }}
            >
              Sign out
            </button>
          </span>
        )}
      </header>
      <main id="main" tabIndex={-1}>
        {token ? <Page route={route} /> : <SignIn onToken={() => setToken(session.current())} />}
      </main>
    </div>
  );
}

session.begin();
render(<App />, document.getElementById("console")!);
