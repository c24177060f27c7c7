// Publishing a sample event, with what becomes of it at each integration beside it.

import { useId } from "preact/hooks";

import * as api from "./api";
import type { EventFate, Integration } from "./api";
import { useAct, useDraft, useLoaded } from "./load";
import { href } from "./route";
import { Badge, Cell, Field, Refused, Table } from "./ui";

const LOOKS_EVERY = 1_000;
const SAMPLE = `{
  "id": "R1001",
  "number": "R1001",
  "total": 49.90
}`;

interface Draft {
  name: string;
  text: string;
  /** What was published last. */
  sent?: { id: string; at: string };
}

export function Publish() {
  const [draft, setDraft] = useDraft<Draft>("publish", { name: "order.created", text: SAMPLE }, (it) => it);
  const { name, text, sent } = draft;
  const act = useAct();
  const field = useId();
  const run = () =>
    act.run(async () => {
      let payload: unknown;
      try {
        payload = JSON.parse(text);
      } catch (error) {
        throw new api.Refusal(0, `The payload is not JSON: ${(error as Error).message}`);
      }
      const at = new Date(Date.now() - 60_000).toISOString();
      const { accepted } = await api.publish({ name, payload });
      setDraft({ ...draft, sent: { id: accepted[0].id, at } });
    });
  return (
    <>
      <h1>Publish a sample event</h1>
      <form
        onSubmit={(it) => {
          it.preventDefault();
          void run();
        }}
      >
        <Field label="Name" required value={name} onValue={(it) => setDraft({ ...draft, name: it })} hint="Every integration whose filter lets it pass is sent it." />
        <div class="field">
          <label for={field}>Payload</label>
          <textarea id={field} rows={8} spellcheck={false} value={text} onInput={(it) => setDraft({ ...draft, text: it.currentTarget.value })} />
        </div>
        <button type="submit" class="primary" disabled={act.isBusy} aria-busy={act.isBusy}>
          Publish
        </button>
        <Refused refusal={act.refusal} />
      </form>
      {sent && <Results sent={sent} key={sent.id} />}
    </>
  );
}

interface Result {
  integration: Integration;
  fate?: EventFate;
}

/** What becomes of an event, until nothing changes any more. */
function Results({ sent }: { sent: { id: string; at: string } }) {
  const load = async (signal: AbortSignal): Promise<Result[]> => {
    const { integrations } = await api.list(signal);
    const running = integrations.filter((it) => it.integration_type === "permanent");
    return Promise.all(
      running.map(async (integration) => {
        const { events } = await api.events(integration.id, { from: sent.at, limit: "100" }, signal);
        return { integration, fate: events.find((it) => it.id === sent.id) };
      }),
    );
  };
  const loaded = useLoaded(load, [sent.id], LOOKS_EVERY);
  return (
    <section aria-live="polite">
      <h2>What becomes of it</h2>
      <p class="quiet">
        Its id is <code>{sent.id}</code>.
      </p>
      <Refused refusal={loaded.refusal} />
      {loaded.value?.length === 0 && (
        <p>
          There is no integration that could be sent it. <a href={href(["register"])}>Register one.</a>
        </p>
      )}
      {loaded.value && loaded.value.length > 0 && (
        <Table caption="What becomes of it" heads={["Integration", "Status", "Why"]}>
          {loaded.value.map(({ integration, fate }) => (
            <tr role="row" key={integration.id}>
              <th scope="row" role="rowheader">
                <a href={href(["integrations", integration.id, "events"])}>{integration.id}</a>
              </th>
              <Cell head="Status">{fate ? <Badge state={fate.status} /> : <span class="quiet">not for it, or on its way</span>}</Cell>
              <Cell head="Why" isLong>
                {fate?.reason} {fate?.file}
              </Cell>
            </tr>
          ))}
        </Table>
      )}
    </section>
  );
}
