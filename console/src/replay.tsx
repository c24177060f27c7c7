// A replay: a temporary integration that is sent a range of the past, and stops by itself.

import { useMemo } from "preact/hooks";

import * as api from "./api";
import type { Preview } from "./api";
import { useAct, useDraft, useLoaded } from "./load";
import { takes } from "./one";
import { go, href, type Route } from "./route";
import { BLANK, draftOf, FilterFields, filterOf, open, settings, TargetFields, type Draft } from "./target";
import { Field, Refused, size } from "./ui";

const HOUR = 3_600_000;
const DAYS = 30;

const local = (at: number) => new Date(at - new Date(at).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);

export function Replay({ route }: { route: Route }) {
  const of = route.query.get("of");
  const loaded = useLoaded((signal) => (of ? api.get(of, signal) : Promise.resolve(null)), [of]);
  return (
    <>
      <h1>Replay</h1>
      <p class="quiet">Sends a range of the past again, to any receiver or bucket, and stops by itself. What it is sent has the same ids as before.</p>
      <Refused refusal={loaded.refusal} />
      {(loaded.value !== undefined || loaded.refusal) && (
        <ReplayForm route={route} name={of ? `${of}-replay` : "replay"} begin={loaded.value ? draftOf(loaded.value) : BLANK} />
      )}
    </>
  );
}

function ReplayForm({ route, name, begin }: { route: Route; name: string; begin: Draft }) {
  const now = useMemo(() => Math.floor(Date.now() / 60_000) * 60_000, []);
  const blank = useMemo(() => ({ ...begin, apiKey: "", headers: [], secret: "", id: `${name}-${new Date(now).toISOString().slice(0, 10)}`.slice(0, 50) }), []);
  const [draft, setDraft, forget] = useDraft<Draft & { id: string }>(name, blank, (it) => ({ ...open(it), id: it.id }));
  const { id } = draft;
  const act = useAct();
  const from = route.query.get("from") ?? local(now - 24 * HOUR);
  const to = route.query.get("to") ?? local(now);
  const range = { starts_at: new Date(from).toISOString(), ends_at: new Date(to).toISOString() };
  const body = JSON.stringify({ filter_conditions: filterOf(draft), ...range });
  const counted = useLoaded((signal) => api.preview(JSON.parse(body), signal), [body]);
  const set = (part: { from?: string; to?: string }) =>
    go(href(["replay"], { of: route.query.get("of") ?? undefined, from, to, ...part }), true);
  return (
    <form
      onSubmit={(it) => {
        it.preventDefault();
        void act.run(async () => {
          const made = await api.register({ id, integration_type: "temporary", ...range, ...settings(draft, true) });
          forget();
          go(href(["integrations", made.id]));
        });
      }}
    >
      <fieldset>
        <legend>Range</legend>
        <TimeLine from={Date.parse(from)} to={Date.parse(to)} now={now} onRange={(a, b) => set({ from: local(a), to: local(b) })} />
        <div class="row">
          <Field label="From" type="datetime-local" required value={from} onValue={(it) => it && set({ from: it })} />
          <Field label="To" type="datetime-local" required value={to} onValue={(it) => it && set({ to: it })} />
        </div>
        <Refused refusal={counted.refusal} />
        {counted.value && <Estimate preview={counted.value} />}
      </fieldset>
      <fieldset>
        <legend>Name</legend>
        <Field label="Id" required maxLength={50} pattern="[a-z0-9\-]+" value={id} onValue={(it) => setDraft({ ...draft, id: it })} />
      </fieldset>
      <TargetFields draft={draft} onDraft={(it) => setDraft({ ...it, id })} />
      <FilterFields draft={draft} onDraft={(it) => setDraft({ ...it, id })} range={range} />
      <button type="submit" class="primary" disabled={act.isBusy} aria-busy={act.isBusy}>
        Replay
      </button>
      <Refused refusal={act.refusal} />
    </form>
  );
}

/** What a replay of the range would send, in a sentence. */
function Estimate({ preview }: { preview: Preview }) {
  return (
    <p>
      {preview.matching} events, {size(preview.bytes)}: it takes {takes(preview.replay_seconds)} with a receiver that takes 500 a second.
    </p>
  );
}

interface LineProps {
  from: number;
  to: number;
  now: number;
  onRange: (from: number, to: number) => void;
}

/** The last thirty days as a line, and the range on it: two sliders, which the keyboard moves by an hour. */
function TimeLine({ from, to, now, onRange }: LineProps) {
  const begin = now - DAYS * 24 * HOUR;
  const hours = (at: number) => Math.min(Math.max(Math.round((at - begin) / HOUR), 0), DAYS * 24);
  const at = (hour: string) => begin + Number(hour) * HOUR;
  const far = DAYS * 24;
  return (
    <div class="line">
      <svg viewBox={`0 0 ${far} 8`} preserveAspectRatio="none" aria-hidden="true">
        <rect class="all" x="0" y="0" width={far} height="8" />
        <rect class="done" x={hours(from)} y="0" width={Math.max(hours(to) - hours(from), 2)} height="8" />
      </svg>
      <label>
        <span class="unseen">Begin, in hours of the last {DAYS} days</span>
        <input type="range" min="0" max={far - 1} value={hours(from)} onInput={(it) => onRange(at(it.currentTarget.value), Math.max(to, at(it.currentTarget.value) + HOUR))} />
      </label>
      <label>
        <span class="unseen">End, in hours of the last {DAYS} days</span>
        <input type="range" min="1" max={far} value={hours(to)} onInput={(it) => onRange(Math.min(from, at(it.currentTarget.value) - HOUR), at(it.currentTarget.value))} />
      </label>
    </div>
  );
}
