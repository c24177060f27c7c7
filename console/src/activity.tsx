// A chart of what became of the last events: from the list of events, since that is what the API knows of one integration.

import * as api from "./api";
import type { EventFate } from "./api";
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
