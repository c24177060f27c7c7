// Events and what became of each. The filters are in the address.

import { useState } from "preact/hooks";

import * as api from "./api";
import type { EventFate } from "./api";
import { useLoaded } from "./load";
import { go, href, type Route } from "./route";
import { Badge, Cell, Choice, Empty, Field, Json, Refused, Table, Time } from "./ui";

const LOOKS_EVERY = 3_000;
const STATUSES = ["", "delivered", "sending", "retrying", "waiting", "rejected", "exported", "skipped"] as const;
const FILTERS = ["name", "status", "payload_id", "from", "to"] as const;

/** A time of the address as the reader's own, without its zone, and back. */
const local = (utc: string) => (utc ? new Date(new Date(utc).getTime() - new Date(utc).getTimezoneOffset() * 60_000).toISOString().slice(0, 16) : "");
const utc = (own: string) => (own ? new Date(own).toISOString() : "");

export function EventList({ id, route }: { id: string; route: Route }) {
  const { query } = route;
  const filters = Object.fromEntries(FILTERS.map((it) => [it, query.get(it) ?? undefined]));
  const cursor = query.get("cursor") ?? undefined;
  const loaded = useLoaded((signal) => api.events(id, { ...filters, cursor }, signal), [id, query.toString()], cursor ? undefined : LOOKS_EVERY);
  const [draft, setDraft] = useState(filters);
  const open = query.get("event");
  const events = loaded.value?.events;
  const at = (more: Record<string, string | undefined>) => href(["integrations", id, "events"], { ...filters, cursor, ...more });
  const isFiltered = FILTERS.some((it) => filters[it]);
  return (
    <>
      <form
        class="filters"
        onSubmit={(it) => {
          it.preventDefault();
          go(href(["integrations", id, "events"], draft));
        }}
      >
        <Field label="Name" value={draft.name ?? ""} placeholder="order.created" onValue={(name) => setDraft({ ...draft, name })} />
        <Choice
          label="Status"
          value={(draft.status ?? "") as (typeof STATUSES)[number]}
          options={STATUSES.map((it) => [it, it || "any"] as const)}
          onValue={(status) => setDraft({ ...draft, status })}
        />
        <Field label="Payload id" value={draft.payload_id ?? ""} onValue={(payload_id) => setDraft({ ...draft, payload_id })} />
        <Field label="From" type="datetime-local" value={local(draft.from ?? "")} onValue={(it) => setDraft({ ...draft, from: utc(it) })} />
        <Field label="To" type="datetime-local" value={local(draft.to ?? "")} onValue={(it) => setDraft({ ...draft, to: utc(it) })} />
        <button type="submit">Filter</button>
        {isFiltered && <a href={href(["integrations", id, "events"])}>Clear</a>}
      </form>
      <Refused refusal={loaded.refusal} />
      {!loaded.value && !loaded.refusal && <p class="loading">Loading…</p>}
      {events?.length === 0 && (
        <Empty>
          {loaded.value?.cursor ? (
            <p>
              None in what was read, back to <Time at={loaded.value.read_from} />. <a href={at({ cursor: loaded.value.cursor, event: undefined })}>Look further back</a>
            </p>
          ) : isFiltered ? (
            <p>No event is like that.</p>
          ) : (
            <p>
              Nothing was published for it yet. <a href={href(["publish"])}>Publish a sample event</a> to see what becomes of it.
            </p>
          )}
        </Empty>
      )}
      {events && events.length > 0 && (
        <Table caption="Events, newest first" heads={["Event", "Published", "Status", "Why"]}>
          {events.map((it) => (
            <Row key={it.id + it.published_at} id={id} event={it} isOpen={open === it.id} address={at({ event: open === it.id ? undefined : it.id })} />
          ))}
        </Table>
      )}
      {loaded.value && (
        <p class="pages">
          As of <Time at={loaded.value.as_of} />.{" "}
          {cursor && <a href={at({ cursor: undefined, event: undefined })}>Newest</a>}{" "}
          {events && events.length > 0 && loaded.value.cursor && <a href={at({ cursor: loaded.value.cursor, event: undefined })}>Older</a>}
        </p>
      )}
    </>
  );
}

function Row({ id, event, isOpen, address }: { id: string; event: EventFate; isOpen: boolean; address: string }) {
  return (
    <>
      <tr role="row">
        <th scope="row" role="rowheader">
          <a href={address} aria-expanded={isOpen}>
            {event.name}
          </a>
          <small>{event.id}</small>
        </th>
        <Cell head="Published">
          <Time at={event.published_at} />
        </Cell>
        <Cell head="Status">
          <Badge state={event.status} note={event.is_certain ? undefined : "Likely, but not certain yet"} />
          {!event.is_certain && event.status !== "sending" && <small>likely</small>}
        </Cell>
        <Cell head="Why" isLong>
          {event.attempts ? `${event.attempts} failed. ` : ""}
          {event.reason ?? ""}
          {event.file && <code>{event.file}</code>}
          {event.next_attempt_at && (
            <>
              {" "}
              Next attempt: <Time at={event.next_attempt_at} />
            </>
          )}
        </Cell>
      </tr>
      {isOpen && (
        <tr role="row" class="details">
          <td colSpan={4}>
            <Payload id={id} event={event} />
          </td>
        </tr>
      )}
    </>
  );
}

function Payload({ id, event }: { id: string; event: EventFate }) {
  const loaded = useLoaded((signal) => api.event(id, event.id, event.published_at, signal), [id, event.id]);
  return (
    <>
      <Refused refusal={loaded.refusal} />
      {loaded.value && <Json value={loaded.value.payload} label={`Payload of ${event.id}`} />}
    </>
  );
}
