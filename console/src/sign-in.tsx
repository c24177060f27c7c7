// Signing in: at the deployment's issuer, by the authorization code with PKCE (RFC 7636), or with a token that is pasted.

import { useEffect, useState } from "preact/hooks";

import { useAct } from "./load";
import { ROOT } from "./route";
import * as session from "./session";
import { Field, Refused } from "./ui";

const PENDING = "event-stream-sign-in";

interface Issuer {
  issuer: string;
  client_id: string;
  scope: string;
}

interface Endpoints {
  authorization_endpoint: string;
  token_endpoint: string;
}

/** Where this deployment lets people sign in; none where it does not. */
function issuer(): Issuer | null {
  const value = (name: string) => document.querySelector<HTMLMetaElement>(`meta[name="${name}"]`)?.content ?? "";
  const found = { issuer: value("issuer"), client_id: value("client-id"), scope: value("scope") };
  return found.issuer && found.client_id ? found : null;
}

const base64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const random = () => base64(crypto.getRandomValues(new Uint8Array(32)));
const redirect = () => `${location.origin}${ROOT}`;

async function endpoints(of: Issuer): Promise<Endpoints> {
  const response = await fetch(`${of.issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  if (!response.ok) throw new Error(`The issuer does not say how to sign in (HTTP status code ${response.status}).`);
  return response.json();
}

/** Goes to the issuer; what is needed to come back waits in the session's storage. */
async function goToIssuer(of: Issuer): Promise<void> {
  const [state, verifier] = [random(), random()];
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const { authorization_endpoint: address } = await endpoints(of);
  const back = location.pathname + location.search;
  sessionStorage.setItem(PENDING, JSON.stringify({ state, verifier, back }));
  const parameters = new URLSearchParams({
    response_type: "code",
    client_id: of.client_id,
    redirect_uri: redirect(),
    scope: of.scope,
    state,
    code_challenge: base64(new Uint8Array(digest)),
    code_challenge_method: "S256",
  });
  location.assign(`${address}?${parameters}`);
}

/** Comes back from the issuer, and exchanges the code for a token; `false` where this is no way back. */
async function comeBack(of: Issuer): Promise<boolean> {
  const given = new URLSearchParams(location.search);
  const kept = sessionStorage.getItem(PENDING);
  if (!kept || !(given.has("code") || given.has("error"))) return false;
  sessionStorage.removeItem(PENDING);
  const { state, verifier, back } = JSON.parse(kept);
  history.replaceState(null, "", back);
  if (given.get("state") !== state) throw new Error("The answer of the issuer is not to this sign-in. Sign in again.");
  if (given.has("error")) throw new Error(`The issuer refuses: ${given.get("error_description") ?? given.get("error")}`);
  const { token_endpoint: address } = await endpoints(of);
  const response = await fetch(address, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({
      grant_type: "authorization_code",
      client_id: of.client_id,
      code: given.get("code") ?? "",
      redirect_uri: redirect(),
      code_verifier: verifier,
    }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`The issuer refuses the code: ${answer.error_description ?? answer.error}`);
  session.signIn(answer.access_token);
  dispatchEvent(new Event("moved"));
  return true;
}

export function SignIn({ onToken }: { onToken: () => void }) {
  const [token, setToken] = useState("");
  const act = useAct();
  const of = issuer();
  useEffect(() => {
    if (of) {
      void act.run(async () => {
        if (await comeBack(of)) onToken();
      });
    }
  }, []);
  return (
    <div class="sign-in">
      <h1>Sign in</h1>
      {of && (
        <>
          <button type="button" class="primary" disabled={act.isBusy} onClick={() => act.run(() => goToIssuer(of))}>
            Sign in
          </button>
          <p class="quiet">or</p>
        </>
      )}
      <form
        onSubmit={(it) => {
          it.preventDefault();
          session.signIn(token);
          onToken();
        }}
      >
        <Field
          label="Access token"
          required
          autocomplete="off"
          hint="It stays in this tab. On a local stack, make console prints an address that has one."
          value={token}
          onValue={setToken}
        />
        <button type="submit">Use it</button>
      </form>
      <Refused refusal={act.refusal} />
    </div>
  );
}
