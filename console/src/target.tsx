// The form of an integration's settings: where events go, and which.

import type { Filter, Integration, Preview } from "./api";
import * as api from "./api";
import { useLoaded } from "./load";
import { Cell, Choice, Field, Refused, size, Table, Time } from "./ui";

/** The fields of the form, as texts. */
export interface Draft {
  kind: "webhook" | "s3";
  url: string;
  apiKey: string;
  limit: string;
  headers: [string, string][];
  bucket: string;
  region: string;
  prefix: string;
  access: "role" | "key";
  role: string;
  keyId: string;
  secret: string;
  names: string[];
  entities: string[];
}

export const BLANK: Draft = {
  kind: "webhook",
  url: "",
  apiKey: "",
  limit: "",
  headers: [],
  bucket: "",
  region: "eu-west-1",
  prefix: "",
  access: "role",
  role: "",
  keyId: "",
  secret: "",
  names: [],
  entities: [],
};

/** What of a form may be kept while it is filled in: no secrets. */
export const open = (draft: Draft): Draft => ({ ...draft, apiKey: "", secret: "", headers: draft.headers.map(([name]) => [name, ""]) });

/** The form of an integration as it is. Masked secrets keep what is stored. */
export function draftOf(it: Integration): Draft {
  const { callback_parameters: callback, s3_parameters: s3, filter_conditions: filter } = it;
  return {
    ...BLANK,
    kind: callback ? "webhook" : "s3",
    url: callback?.callback_url ?? "",
    apiKey: callback?.api_key ?? "",
    limit: callback?.max_in_flight?.toString() ?? "",
    headers: Object.entries(callback?.headers ?? {}),
    bucket: s3?.bucket ?? "",
    region: s3?.aws_region ?? BLANK.region,
    prefix: s3?.key_prefix ?? "",
    access: s3?.aws_access_key_id ? "key" : "role",
    role: s3?.role_arn ?? "",
    keyId: s3?.aws_access_key_id ?? "",
    names: filter?.event_filter ?? [],
    entities: filter?.entity_filter ?? [],
  };
}

/** The filter of a form; none where everything passes. */
export function filterOf(draft: Draft): Filter | undefined {
  if (!draft.names.length && !draft.entities.length) return undefined;
  return { event_filter: draft.names, entity_filter: draft.entities };
}

/** The settings of a form as the API takes them; `isNew` leaves out what is blank, an update removes it. */
export function settings(draft: Draft, isNew: boolean): Record<string, unknown> {
  const blank = isNew ? undefined : null;
  const filter = filterOf(draft);
  const filters = filter || !isNew ? { filter_conditions: filter ?? null } : {};
  if (draft.kind === "webhook") {
    const headers = Object.fromEntries(draft.headers.filter(([name]) => name));
    return {
      callback_parameters: {
        callback_url: draft.url,
        api_key: draft.apiKey || blank,
        max_in_flight: draft.limit ? Number(draft.limit) : blank,
        headers: draft.headers.length ? headers : blank,
      },
      ...filters,
    };
  }
  const access =
    draft.access === "role" ? { role_arn: draft.role } : { aws_access_key_id: draft.keyId, aws_secret_access_key: draft.secret || undefined };
  return { s3_parameters: { bucket: draft.bucket, aws_region: draft.region, key_prefix: draft.prefix || blank, ...access }, ...filters };
}

interface Props {
  draft: Draft;
  onDraft: (draft: Draft) => void;
}

/** Where events go. */
export function TargetFields({ draft, onDraft, isKindFixed }: Props & { isKindFixed?: boolean }) {
  const change = (part: Partial<Draft>) => onDraft({ ...draft, ...part });
  return (
    <fieldset>
      <legend>Where events go</legend>
      {!isKindFixed && (
        <Choice
          label="Kind"
          value={draft.kind}
          options={[
            ["webhook", "Webhook: a POST for each event, as it happens"],
            ["s3", "S3: a file every five minutes"],
          ]}
          onValue={(kind) => change({ kind })}
        />
      )}
      {draft.kind === "webhook" ? (
        <>
          <Field label="URL" type="url" required value={draft.url} placeholder="https://erp.example.com/events" onValue={(url) => change({ url })} />
          <Field
            label="API key"
            autocomplete="off"
            hint="Optional: sent as Authorization: Bearer. It is stored encrypted, and shown masked."
            value={draft.apiKey}
            onValue={(apiKey) => change({ apiKey })}
          />
          <Field
            label="Most requests at a time"
            type="number"
            min="1"
            max="1000"
            hint="Optional: as many as the receiver takes, otherwise."
            value={draft.limit}
            onValue={(limit) => change({ limit })}
          />
          {draft.headers.map(([name, value], at) => {
            const set = (pair: [string, string]) => change({ headers: draft.headers.map((it, number) => (number === at ? pair : it)) });
            return (
              <div class="row" key={at}>
                <Field label={`Header ${at + 1}`} value={name} onValue={(it) => set([it, value])} />
                <Field label={`Value ${at + 1}`} autocomplete="off" value={value} onValue={(it) => set([name, it])} />
                <button type="button" aria-label={`Remove header ${at + 1}`} onClick={() => change({ headers: draft.headers.filter((_, number) => number !== at) })}>
                  Remove
                </button>
              </div>
            );
          })}
          {draft.headers.length < 10 && (
            <button type="button" onClick={() => change({ headers: [...draft.headers, ["", ""]] })}>
              Add a header
            </button>
          )}
        </>
      ) : (
        <>
          <Field label="Bucket" required value={draft.bucket} onValue={(bucket) => change({ bucket })} />
          <Field label="Region" required value={draft.region} onValue={(region) => change({ region })} />
          <Field label="Key prefix" hint="Optional: the first part of every key." value={draft.prefix} onValue={(prefix) => change({ prefix })} />
          <Choice
            label="Access"
            value={draft.access}
            options={[
              ["role", "A role of your account"],
              ["key", "An access key"],
            ]}
            onValue={(access) => change({ access })}
          />
          {draft.access === "role" ? (
            <Field label="Role ARN" required value={draft.role} placeholder="arn:aws:iam::123456789012:role/exports" onValue={(role) => change({ role })} />
          ) : (
            <>
              <Field label="Access key id" required autocomplete="off" value={draft.keyId} onValue={(keyId) => change({ keyId })} />
              <Field
                label="Secret access key"
                type="password"
                autocomplete="off"
                hint={isKindFixed ? "Blank keeps the one that is stored." : "It is stored encrypted, and shown masked."}
                required={!isKindFixed}
                value={draft.secret}
                onValue={(secret) => change({ secret })}
              />
            </>
          )}
        </>
      )}
    </fieldset>
  );
}

/** Which events: chosen from the names of the last day, or typed, with a preview of what they would be. */
export function FilterFields({ draft, onDraft, range }: Props & { range?: { starts_at: string; ends_at?: string } }) {
  const seen = useLoaded((signal) => api.preview({}, signal), []);
  const filter = filterOf(draft);
  const body = JSON.stringify({ filter_conditions: filter, ...range });
  const counted = useLoaded((signal) => wait(300, signal).then(() => api.preview(JSON.parse(body), signal)), [body]);
  const names = [...new Set([...Object.keys(seen.value?.names ?? {}), ...draft.names])].sort();
  const entities = [...new Set([...names.map((it) => it.split(".")[0]), ...draft.entities])].sort();
  const toggle = (list: string[], it: string) => (list.includes(it) ? list.filter((other) => other !== it) : [...list, it]);
  const add = (input: HTMLInputElement) => {
    const name = input.value.trim();
    if (!name) return;
    const isEntity = !name.includes(".") || name.endsWith(".*");
    const part = isEntity ? { entities: [...new Set([...draft.entities, name.replace(/\.\*$/, "")])] } : { names: [...new Set([...draft.names, name])] };
    onDraft({ ...draft, ...part });
    input.value = "";
  };
  return (
    <fieldset>
      <legend>Which events</legend>
      <p class="quiet">{filter ? "Those that are chosen:" : "All of them, unless some are chosen:"}</p>
      <div class="choices">
        {entities.map((it) => (
          <label key={it} class="choice">
            <input type="checkbox" checked={draft.entities.includes(it)} onChange={() => onDraft({ ...draft, entities: toggle(draft.entities, it) })} />
            {it}.*
          </label>
        ))}
        {names.map((it) => (
          <label key={it} class="choice">
            <input
              type="checkbox"
              checked={draft.names.includes(it) || draft.entities.includes(it.split(".")[0])}
              disabled={draft.entities.includes(it.split(".")[0])}
              onChange={() => onDraft({ ...draft, names: toggle(draft.names, it) })}
            />
            {it} {seen.value?.names[it] !== undefined && <small>{seen.value.names[it]}</small>}
          </label>
        ))}
      </div>
      <div class="field">
        <label for="another-name">Another name</label>
        <input
          id="another-name"
          placeholder="order.created, or order.*"
          onKeyDown={(it) => {
            if (it.key !== "Enter") return;
            it.preventDefault();
            add(it.currentTarget);
          }}
          onBlur={(it) => add(it.currentTarget)}
        />
      </div>
      <Refused refusal={counted.refusal} />
      {counted.value && <Counted preview={counted.value} isRange={!!range} />}
    </fieldset>
  );
}

/** What a preview has counted. */
export function Counted({ preview, isRange }: { preview: Preview; isRange: boolean }) {
  return (
    <div class="counted" role="status">
      <p>
        {preview.matching} of {preview.events} events {isRange ? "of this range" : "of the last day"} pass, {size(preview.bytes)} in all.
        {!preview.is_complete && (
          <>
            {" "}
            Counted until <Time at={preview.counted_until} /> only.
          </>
        )}
      </p>
      {preview.first.length > 0 && (
        <Table caption="The first events that pass" heads={["First events", "Published"]}>
          {preview.first.map((it) => (
            <tr role="row" key={it.id}>
              <Cell head="Event">{it.name}</Cell>
              <Cell head="Published">
                <Time at={it.published_at} />
              </Cell>
            </tr>
          ))}
        </Table>
      )}
    </div>
  );
}

/** Waits, unless what it waits for is not wanted any more. */
function wait(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
