// Charts of one integration: what became of its last events, and how long events took in the last day.

import * as api from "./api";
import type { EventFate, Stretch } from "./api";
import { useLoaded } from "./load";
import { href } from "./route";
import { Empty, Refused, span, Time } from "./ui";

const LOOKS_EVERY = 5_000;
const BARS = 24;
const HEIGHT = 64;
const WIDTH = 20;

const KINDS = [
  ["done", "Delivered", ["delivered", "exported"]],
  ["open", "On their way", ["sending", "waiting"]],
  ["failed", "Failed or rejected", ["retrying", "rejected"]],
] as const;

interface Bar {
  from: number;
  counts: number[];
}

/** Counts events in bars of equal length, the last of which ends now. */
export function bars(events: EventFate[], now: number): { length: number; bars: Bar[] } {
  const oldest = Math.min(...events.map((it) => Date.parse(it.published_at)), now - 1);
  // Lengths that can be said in a word.
  const steps = [5, 15, 60, 300, 900, 3_600, 14_400, 86_400, 7 * 86_400];
  const length = (steps.find((it) => it * 1_000 * BARS > now - oldest) ?? steps[steps.length - 1]) * 1_000;
  const begin = Math.floor(now / length) * length + length - BARS * length;
  const made = Array.from({ length: BARS }, (_, at) => ({ from: begin + at * length, counts: KINDS.map(() => 0) }));
  for (const event of events) {
    const bar = made[Math.floor((Date.parse(event.published_at) - begin) / length)];
    const kind = KINDS.findIndex(([, , statuses]) => (statuses as readonly string[]).includes(event.status));
    if (bar && kind >= 0) bar.counts[kind]++;
  }
  return { length: length / 1_000, bars: made };
}

export function Activity({ id, isWebhook }: { id: string; isWebhook: boolean }) {
  const loaded = useLoaded((signal) => api.events(id, { limit: "100" }, signal), [id], LOOKS_EVERY);
  const events = loaded.value?.events;
  if (loaded.refusal) return <Refused refusal={loaded.refusal} />;
  if (!events) return <div class="chart" aria-busy="true" />;
  if (events.length === 0) {
    return (
      <div class="chart">
        <Empty>
          <p>
            No events yet. <a href={href(["publish"])}>Publish a sample event</a>, or wait for the platform's.
          </p>
        </Empty>
      </div>
    );
  }
  const drawn = bars(events, Date.parse(loaded.value!.as_of));
  const most = Math.max(...drawn.bars.map((bar) => bar.counts.reduce((sum, it) => sum + it, 0)), 1);
  const totals = KINDS.map((_, kind) => drawn.bars.reduce((sum, bar) => sum + bar.counts[kind], 0));
  const said = KINDS.map(([, name], kind) => `${name.toLowerCase()}: ${totals[kind]}`).join(", ");
  return (
    <figure class="chart">
      <svg viewBox={`0 0 ${BARS * WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`The last ${events.length} events: ${said}`}>
        {drawn.bars.map((bar, at) => {
          let top = HEIGHT;
          return bar.counts.map((count, kind) => {
            const height = (count / most) * (HEIGHT - 2);
            top -= height;
            return count > 0 && <rect key={`${at}-${kind}`} class={KINDS[kind][0]} x={at * WIDTH + 2} y={top} width={WIDTH - 4} height={height} rx="1" />;
          });
        })}
      </svg>
      <figcaption>
        <span>
          <Time at={new Date(drawn.bars[0].from).toISOString()} />
        </span>
        <span class="legend">
          {KINDS.map(([kind, name], at) => (
            <span key={kind} class={`key ${kind}`}>
              {isWebhook || kind !== "failed" ? `${kind === "done" && !isWebhook ? "In files" : name} ${totals[at]}` : ""}
            </span>
          ))}
        </span>
        <span>{span(drawn.length)} a bar</span>
      </figcaption>
    </figure>
  );
}

const DAY = 86_400_000;
const STRETCH = 300_000;
/** The heights of latencies: equal steps for ten times as long each, from 10 ms to an hour. */
const level = (milliseconds: number) => Math.min(Math.max(Math.log10(milliseconds / 10) / Math.log10(360_000), 0), 1);
const said = (milliseconds: number) => (milliseconds < 1_000 ? `${milliseconds} ms` : span(milliseconds / 1_000));

/** How long events took, from their publication until they were taken, and how many attempts failed. */
export function Latency({ id }: { id: string }) {
  const loaded = useLoaded((signal) => api.activity(id, signal), [id], LOOKS_EVERY);
  const stretches = loaded.value?.activity;
  if (loaded.refusal) return <Refused refusal={loaded.refusal} />;
  if (!stretches) return <div class="chart" aria-busy="true" />;
  if (stretches.length === 0) {
    return (
      <div class="chart">
        <Empty>
          <p>It was sent nothing in the last 24 hours. How long events take is shown here once it has been.</p>
        </Empty>
      </div>
    );
  }
  const until = Math.ceil(Date.parse(loaded.value!.as_of) / STRETCH) * STRETCH;
  const x = (at: string) => ((Date.parse(at) - until + DAY) / DAY) * BARS * WIDTH;
  const points = (of: (stretch: Stretch) => number | undefined) =>
    stretches.map((it) => ({ x: x(it.from), y: of(it) })).filter((it): it is { x: number; y: number } => it.y !== undefined);
  const dots = (kind: string, of: (stretch: Stretch) => number | undefined) =>
    points(of).map((it) => <rect key={`${kind}-${it.x}`} class={kind} x={it.x} y={(1 - level(it.y)) * (HEIGHT - 4)} width="3" height="4" />);
  const last = stretches.findLast((it) => it.latency_p50_ms !== undefined);
  const total = (of: (stretch: Stretch) => number) => stretches.reduce((sum, it) => sum + of(it), 0);
  const sums = `${total((it) => it.delivered)} delivered, ${total((it) => it.failed)} attempts failed, ${total((it) => it.rejected)} rejected`;
  const latest = last ? `half within ${said(last.latency_p50_ms!)}${last.latency_p99_ms ? `, 99 in a hundred within ${said(last.latency_p99_ms)}` : ""}` : "none was taken";
  return (
    <figure class="chart">
      <svg viewBox={`0 0 ${BARS * WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`The last 24 hours: ${sums}; last, ${latest}`}>
        {stretches.map((it) => it.failed > 0 && <rect key={`failed-${it.from}`} class="failed" x={x(it.from)} y={HEIGHT - 2} width="3" height="2" />)}
        {dots("open", (it) => it.latency_p99_ms)}
        {dots("done", (it) => it.latency_p50_ms)}
      </svg>
      <figcaption>
        <span>24 hours: {sums}</span>
        <span class="legend">
          <span class="key done">Half taken within</span>
          <span class="key open">99 in a hundred</span>
          <span class="key failed">Failures</span>
        </span>
        <span>Last: {latest}</span>
      </figcaption>
    </figure>
  );
}
