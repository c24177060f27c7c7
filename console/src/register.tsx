// Registering an integration, and changing the settings of one.

import { useState } from "preact/hooks";

import * as api from "./api";
import type { Integration, Verdict } from "./api";
import { useAct, useDraft, useLoaded } from "./load";
import { Judged } from "./one";
import { go, href } from "./route";
import { BLANK, draftOf, FilterFields, open, settings, TargetFields, type Draft } from "./target";
import { Act, Copied, Field, Refused } from "./ui";

/** What a draft would be registered as. */
function registration(id: string, from: string, draft: Draft): Record<string, unknown> {
  const starts_at = from ? new Date(from).toISOString() : undefined;
  return { id, integration_type: "permanent", starts_at, ...settings(draft, true) };
}

export function Register() {
  const [named, setNamed, forgetName] = useDraft("name", { id: "", from: "" }, (it) => it);
  const [draft, setDraft, forgetDraft] = useDraft<Draft>("target", BLANK, open);
  const { id, from } = named;
  const [verdict, setVerdict] = useState<Verdict>();
  const [made, setMade] = useState<Integration>();
  const act = useAct();
  if (made) return <Registered integration={made} />;
  return (
    <>
      <h1>Register an integration</h1>
      <form
        onSubmit={(it) => {
          it.preventDefault();
          void act.run(async () => {
            const integration = await api.register(registration(id, from, draft));
            forgetName();
            forgetDraft();
            if (integration.signing_secret || integration.role_trust) setMade(integration);
            else go(href(["integrations", integration.id]));
          });
        }}
      >
        <fieldset>
          <legend>Name</legend>
          <Field
            label="Id"
            required
            maxLength={50}
            pattern="[a-z0-9\-]+"
            hint="Lower-case letters, digits and dashes, such as erp-1. It cannot be changed."
            value={id}
            onValue={(it) => setNamed({ ...named, id: it })}
          />
          <Field label="Events from" type="datetime-local" hint="Blank for what is published from now on." value={from} onValue={(it) => setNamed({ ...named, from: it })} />
        </fieldset>
        <TargetFields draft={draft} onDraft={setDraft} />
        <FilterFields draft={draft} onDraft={setDraft} />
        <div class="row">
          <Act onAct={async () => setVerdict(await api.testNew(registration(id || "test", from, draft)))}>Test it</Act>
          <button type="submit" class="primary" disabled={act.isBusy} aria-busy={act.isBusy}>
            Register
          </button>
        </div>
        <Refused refusal={act.refusal} />
        {verdict && <Judged verdict={verdict} />}
      </form>
    </>
  );
}

/** What its owner has to see now, or never. */
function Registered({ integration }: { integration: Integration }) {
  const { id, signing_secret: secret, role_trust: trust } = integration;
  return (
    <>
      <h1>{id} is registered</h1>
      {secret && (
        <section>
          <p>Its webhooks are signed with this secret, which is shown this once. Your receiver needs it to know that they are genuine.</p>
          <p>
            <Copied text={secret} label="signing secret" />
          </p>
        </section>
      )}
      {trust && (
        <section>
          <p>The trust policy of the role has to let this principal assume it, on condition of this external id:</p>
          <p>
            <Copied text={trust.principal} label="principal" />
          </p>
          <p>
            <Copied text={trust.external_id} label="external id" />
          </p>
        </section>
      )}
      <p>
        <a class="button primary" href={href(["integrations", id])}>
          Go on to {id}
        </a>
      </p>
    </>
  );
}

export function Change({ id }: { id: string }) {
  const loaded = useLoaded((signal) => api.get(id, signal), [id]);
  return (
    <>
      <p class="back">
        <a href={href(["integrations", id])}>{id}</a>
      </p>
      <h1>Change {id}</h1>
      <Refused refusal={loaded.refusal} />
      {loaded.value && <ChangeForm integration={loaded.value} onChange={loaded.set} />}
    </>
  );
}

function ChangeForm({ integration, onChange }: { integration: Integration; onChange: (it: Integration) => void }) {
  const { id } = integration;
  const [draft, setDraft] = useState(() => draftOf(integration));
  const act = useAct();
  const isRunning = integration.status === "running";
  return (
    <form
      onSubmit={(it) => {
        it.preventDefault();
        void act.run(async () => {
          await api.update(id, settings(draft, false));
          go(href(["integrations", id]));
        });
      }}
    >
      {isRunning && (
        <div class="note" role="status">
          <p>It runs. It has to be stopped to be changed; what is published meanwhile is sent when it is started again.</p>
          <Act onAct={async () => onChange(await api.stop(id))}>Stop it</Act>
        </div>
      )}
      <TargetFields draft={draft} onDraft={setDraft} isKindFixed />
      <FilterFields draft={draft} onDraft={setDraft} />
      <button type="submit" class="primary" disabled={isRunning || act.isBusy} aria-busy={act.isBusy}>
        Save
      </button>
      <Refused refusal={act.refusal} />
    </form>
  );
}
