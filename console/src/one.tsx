// One integration: its state and settings, and what becomes of its events.

import { useState } from "preact/hooks";

import * as api from "./api";
import type { Integration, Verdict } from "./api";
import { Activity, Latency } from "./activity";
import { EventList } from "./events";
import { Backlog, kind, switched, target } from "./list";
import { useLoaded } from "./load";
import { RejectedList } from "./rejected";
import { go, href, type Route } from "./route";
import { Act, Badge, Cell, Confirmed, Copied, Empty, Refused, size, span, Switch, Table, Time } from "./ui";

const LOOKS_EVERY = 3_000;

export function One({ id, route }: { id: string; route: Route }) {
  const loaded = useLoaded((signal) => api.get(id, signal), [id], LOOKS_EVERY);
  const integration = loaded.value;
  const tab = route.parts[2] ?? "";
  const isWebhook = !!integration?.callback_parameters;
  const tabs: [string, string][] = [
    ["", "Overview"],
    ["events", "Events"],
    ...(isWebhook ? ([["rejected", "Rejected"]] as [string, string][]) : []),
    ...(integration?.s3_parameters ? ([["files", "Files"]] as [string, string][]) : []),
    ["log", "Log"],
  ];
  return (
    <>
      <p class="back">
        <a href={href([])}>Integrations</a>
      </p>
      <div class="head">
        <h1>{id}</h1>
        {integration && (
          <Switch
            isOn={integration.status === "running"}
            label={`${id} runs`}
            onSwitch={async (on) => loaded.set(await switched(integration, on))}
          />
        )}
      </div>
      <Refused refusal={loaded.refusal} />
      {!integration && !loaded.refusal && <p class="loading">Loading…</p>}
      {integration && (
        <>
          <nav class="tabs" aria-label={`Of ${id}`}>
            {tabs.map(([name, text]) => (
              <a key={name} href={href(["integrations", id, ...(name ? [name] : [])])} aria-current={tab === name ? "page" : undefined}>
                {text}
              </a>
            ))}
          </nav>
          {tab === "" && <Overview integration={integration} onChange={loaded.set} />}
          {tab === "events" && <EventList id={id} route={route} />}
          {tab === "rejected" && <RejectedList id={id} />}
          {tab === "files" && <Files id={id} route={route} />}
          {tab === "log" && <Log id={id} />}
        </>
      )}
    </>
  );
}

function Overview({ integration, onChange }: { integration: Integration; onChange: (it: Integration) => void }) {
  const { id, callback_parameters: callback, s3_parameters: s3, filter_conditions: filter, pending, signing } = integration;
  const [secret, setSecret] = useState<string>();
  const [verdict, setVerdict] = useState<Verdict>();
  const names = [...(filter?.event_filter ?? []), ...(filter?.entity_filter ?? []).map((it) => `${it}.*`)];
  const facts: [string, preact.ComponentChildren][] = [
    ["State", <>{integration.status === "running" ? <Badge state={integration.health ?? "running"} /> : <Badge state="stopped" />}</>],
    ["Backlog", <Backlog integration={integration} />],
  ];
  if (integration.failing_since) facts.push(["Failing since", <Time at={integration.failing_since} />]);
  if (integration.next_attempt_at) facts.push(["Next attempt", <Time at={integration.next_attempt_at} />]);
  if (integration.last_success_at) facts.push(["Last success", <Time at={integration.last_success_at} />]);
  if (pending.window) facts.push(["Pace", `${pending.window} requests at a time`]);
  facts.push([kind(integration), target(integration)]);
  facts.push(["Events", names.length ? names.join(", ") : "all"]);
  facts.push(["From", <Time at={integration.starts_at} />]);
  if (integration.ends_at) facts.push(["Until", <Time at={integration.ends_at} />]);
  if (callback?.api_key) facts.push(["API key", <code>{callback.api_key}</code>]);
  for (const [name, value] of Object.entries(callback?.headers ?? {})) facts.push([name, <code>{value}</code>]);
  if (callback?.max_in_flight) facts.push(["Most requests at a time", callback.max_in_flight]);
  if (signing) {
    facts.push([
      "Signed since",
      <>
        <Time at={signing.created_at} />
        {signing.overlap_ends_at && (
          <>
            , by the secret before until <Time at={signing.overlap_ends_at} />
          </>
        )}
      </>,
    ]);
  }
  if (s3) facts.push(["Region", s3.aws_region], [s3.role_arn ? "Role" : "Access key", <code>{s3.role_arn ?? s3.aws_access_key_id}</code>]);
  if (integration.role_trust) facts.push(["External id", <Copied text={integration.role_trust.external_id} label="external id" />]);
  return (
    <>
      <Activity id={id} isWebhook={!!callback} />
      {callback && <Latency id={id} />}
      <dl class="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <section class="acts" aria-label="What can be done">
        <div>
          <Act onAct={async () => setVerdict(await api.test(id, {}))}>Send a test</Act>
          {verdict && <Judged verdict={verdict} />}
        </div>
        {callback && (
          <div>
            <Act
              onAct={async () => {
                setSecret((await api.rotate(id)).signing_secret);
                onChange(await api.get(id, undefined));
              }}
            >
              New signing secret
            </Act>
            {secret && (
              <p role="status">
                It is shown this once: <Copied text={secret} label="signing secret" />
              </p>
            )}
          </div>
        )}
        {integration.integration_type === "permanent" && (
          <a class="button" href={href(["integrations", id, "change"])}>
            Change settings
          </a>
        )}
        <a class="button" href={href(["replay"], { of: id })}>
          Replay
        </a>
        <Confirmed
          question={`Delete ${id}, with its log, its rejected events and what it has not been sent yet?`}
          onAct={async () => {
            await api.remove(id);
            go(href([]));
          }}
        >
          Delete
        </Confirmed>
      </section>
    </>
  );
}

/** What came of a test. */
export function Judged({ verdict }: { verdict: Verdict }) {
  const { tls } = verdict;
  return (
    <div class="verdict" role="status">
      <p>
        <Badge state={verdict.is_delivered ? "delivered" : "failed"} /> {verdict.event_name}
        {verdict.status_code && `, HTTP ${verdict.status_code}`}, {verdict.latency_ms} ms
        {tls && `, ${tls.version}`}
        {tls?.certificate_expires_at && (
          <>
            , certificate until <Time at={tls.certificate_expires_at} />
          </>
        )}
      </p>
      {verdict.reason && <p>{verdict.reason}</p>}
      {verdict.response && <pre tabIndex={0}>{verdict.response}</pre>}
      {verdict.key && (
        <p>
          Object <code>{verdict.key}</code>
        </p>
      )}
    </div>
  );
}

function Files({ id, route }: { id: string; route: Route }) {
  const cursor = route.query.get("cursor") ?? undefined;
  const loaded = useLoaded((signal) => api.files(id, cursor, signal), [id, cursor], cursor ? undefined : LOOKS_EVERY);
  const files = loaded.value?.files;
  return (
    <>
      <Refused refusal={loaded.refusal} />
      {files?.length === 0 && (
        <Empty>
          <p>There are no files yet. One is written every five minutes if something has been published.</p>
        </Empty>
      )}
      {files && files.length > 0 && (
        <Table caption="Files" heads={["File", "Written", "Lines", "Size", "Meets the one before"]}>
          {files.map((file, at) => (
            <tr role="row" key={file.key}>
              <th scope="row" role="rowheader">
                <code>{file.key}</code>
                <small>CRC-64 {file.crc64}</small>
              </th>
              <Cell head="Written">
                <Time at={file.created_at} />
              </Cell>
              <Cell head="Lines">{file.lines}</Cell>
              <Cell head="Size">{size(file.bytes)}</Cell>
              <Cell head="Meets the one before">{at + 1 < files.length ? (files[at + 1].until === file.from ? "yes" : "no: see the log") : "–"}</Cell>
            </tr>
          ))}
        </Table>
      )}
      {loaded.value?.cursor && (
        <p class="pages">
          <a href={href(["integrations", id, "files"], { cursor: loaded.value.cursor })}>Older files</a>
        </p>
      )}
    </>
  );
}

function Log({ id }: { id: string }) {
  const loaded = useLoaded((signal) => api.log(id, signal), [id], LOOKS_EVERY);
  const entries = loaded.value?.entries;
  return (
    <>
      <Refused refusal={loaded.refusal} />
      {entries && (
        <Table caption="Log" heads={["When", "What", "Why"]}>
          {entries.map((entry) => (
            <tr role="row" key={entry.created_at + entry.action}>
              <Cell head="When">
                <Time at={entry.created_at} />
              </Cell>
              <Cell head="What">{entry.action.replaceAll("_", " ")}</Cell>
              <Cell head="Why" isLong>{entry.reason}</Cell>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}

/** How long a replay takes, in words. */
export function takes(seconds: number): string {
  return seconds < 1 ? "no time" : `about ${span(seconds)}`;
}
