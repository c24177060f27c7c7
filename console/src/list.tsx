// All integrations at a glance.

import * as api from "./api";
import type { Integration } from "./api";
import { useLoaded } from "./load";
import { href, type Route } from "./route";
import { Badge, Cell, Empty, Refused, span, Switch, Table, Time } from "./ui";

const SHOWN = ["all", "running", "stopped"] as const;
const LOOKS_EVERY = 5_000;

/** Where an integration sends its events. */
export function kind(integration: Integration): string {
  return integration.callback_parameters ? "Webhook" : "S3";
}

/** Where its events go, in short. */
export function target(integration: Integration): string {
  const { callback_parameters: callback, s3_parameters: s3 } = integration;
  return callback ? callback.callback_url : `s3://${[s3?.bucket, s3?.key_prefix].filter(Boolean).join("/")}`;
}

/** What is still to be sent. */
export function Backlog({ integration }: { integration: Integration }) {
  const { pending } = integration;
  if (pending.progress !== undefined && pending.catching_up) return <>{Math.floor(pending.progress * 100)} % sent</>;
  const waiting = pending.waiting_events ? `${pending.waiting_events} waiting` : "";
  const behind = pending.backlog_seconds ? `${span(pending.backlog_seconds)} behind` : "";
  return <>{[behind, waiting].filter(Boolean).join(", ") || (pending.catching_up ? "catching up" : "none")}</>;
}

/** Starts or stops an integration, and returns it as it is then. */
export async function switched(integration: Integration, on: boolean): Promise<Integration> {
  return on ? api.start(integration.id) : api.stop(integration.id);
}

export function List({ route }: { route: Route }) {
  const loaded = useLoaded((signal) => api.list(signal), [], LOOKS_EVERY);
  const show = route.query.get("show") ?? "all";
  const all = loaded.value?.integrations;
  const shown = all?.filter((it) => show === "all" || it.status === show);
  const change = (changed: Integration) =>
    loaded.set({ integrations: (all ?? []).map((it) => (it.id === changed.id ? changed : it)) });
  return (
    <>
      <div class="head">
        <h1>Integrations</h1>
        <a class="button primary" href={href(["register"])}>
          Register
        </a>
      </div>
      <nav class="tabs" aria-label="Which integrations">
        {SHOWN.map((it) => (
          <a key={it} href={href([], it === "all" ? {} : { show: it })} aria-current={it === show ? "page" : undefined}>
            {it[0].toUpperCase() + it.slice(1)}
            {all && <span class="count"> {it === "all" ? all.length : all.filter((one) => one.status === it).length}</span>}
          </a>
        ))}
      </nav>
      <Refused refusal={loaded.refusal} />
      {!loaded.value && !loaded.refusal && <p class="loading">Loading…</p>}
      {all?.length === 0 && (
        <Empty>
          <p>There are no integrations yet. One sends the events that it is registered for to a webhook, or into a bucket.</p>
          <p>
            <a href={href(["register"])}>Register the first one</a>, or <a href={href(["publish"])}>publish a sample event</a>.
          </p>
        </Empty>
      )}
      {all && all.length > 0 && shown?.length === 0 && (
        <Empty>
          <p>
            None is {show}. <a href={href([])}>Show all.</a>
          </p>
        </Empty>
      )}
      {shown && shown.length > 0 && (
        <Table caption="Integrations" heads={["Integration", "Kind", "Health", "Backlog", "Last success", "Runs"]}>
          {shown.map((it) => (
            <tr role="row" key={it.id}>
              <th scope="row" role="rowheader">
                <a href={href(["integrations", it.id])}>{it.id}</a>
                <small>{target(it)}</small>
              </th>
              <Cell head="Kind">
                {kind(it)}
                {it.integration_type === "temporary" && <small>replay</small>}
              </Cell>
              <Cell head="Health">{it.health ? <Badge state={it.health} /> : <span class="quiet">–</span>}</Cell>
              <Cell head="Backlog">
                <Backlog integration={it} />
              </Cell>
              <Cell head="Last success">{it.last_success_at ? <Time at={it.last_success_at} /> : <span class="quiet">–</span>}</Cell>
              <Cell head="Runs">
                <Switch isOn={it.status === "running"} label={`${it.id} runs`} onSwitch={async (on) => change(await switched(it, on))} />
              </Cell>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}
