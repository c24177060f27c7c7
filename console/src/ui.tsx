// The pieces that pages are made of.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import type { Refusal } from "./api";
import { useAct } from "./load";

const near = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const far = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** An instant in the reader's zone; in UTC where the pointer rests on it. */
export function Time({ at }: { at: string }) {
  const date = new Date(at);
  const isToday = date.toDateString() === new Date().toDateString();
  return (
    <time dateTime={at} title={`${at.replace("T", " ").replace("Z", "")} UTC`}>
      {isToday ? near.format(date) : far.format(date)}
    </time>
  );
}

const UNITS: [number, string][] = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
  [1, "s"],
];

/** A length of time, as in `2 h 5 min`. */
export function span(seconds: number): string {
  const parts: string[] = [];
  let rest = Math.round(seconds);
  for (const [unit, name] of UNITS) {
    if (rest >= unit && parts.length < 2) parts.push(`${Math.floor(rest / unit)} ${name}`);
    rest %= unit;
  }
  return parts.join(" ") || "0 s";
}

/** A number of bytes, as in `1.5 MiB`. */
export function size(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  const at = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), 3);
  return at === 0 ? `${bytes} bytes` : `${(bytes / 1024 ** at).toFixed(1)} ${units[at]}`;
}

const GOOD = ["healthy", "delivered", "exported", "running"];
const BAD = ["interrupted", "rejected", "retrying", "failed"];
const SLOW = ["paced", "waiting", "sending"];

/** A state: a word, and a colour that says no more than the word. */
export function Badge({ state, note }: { state: string; note?: string }) {
  const kind = GOOD.includes(state) ? "good" : BAD.includes(state) ? "bad" : SLOW.includes(state) ? "slow" : "plain";
  return (
    <span class={`badge ${kind}`} title={note}>
      {state}
    </span>
  );
}

/** What the API refused, in its own words. */
export function Refused({ refusal }: { refusal?: Refusal }) {
  if (!refusal) return null;
  return (
    <p class="refused" role="alert">
      {refusal.message}
      {refusal.status >= 500 && refusal.requestId && <small> Request {refusal.requestId}</small>}
    </p>
  );
}

/** What is shown where there is nothing: what it means, and what to do next. */
export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="empty">{children}</div>;
}

interface ButtonProps {
  onAct: () => Promise<void>;
  children: ComponentChildren;
  kind?: "primary" | "danger";
  disabled?: boolean;
  label?: string;
}

/** A button that is busy until what it does has ended, and shows a refusal behind it. */
export function Act({ onAct, children, kind, disabled, label }: ButtonProps) {
  const act = useAct();
  return (
    <>
      <button type="button" class={kind} disabled={disabled || act.isBusy} aria-busy={act.isBusy} aria-label={label} onClick={() => act.run(onAct)}>
        {children}
      </button>
      <Refused refusal={act.refusal} />
    </>
  );
}

/** A button for what cannot be undone: it asks first. */
export function Confirmed({ onAct, children, question, label }: ButtonProps & { question: string }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  return (
    <>
      <button type="button" class="danger" aria-label={label} onClick={() => dialog.current?.showModal()}>
        {children}
      </button>
      <dialog ref={dialog} aria-labelledby={id}>
        <p id={id}>{question}</p>
        <div class="row">
          <button type="button" onClick={() => dialog.current?.close()}>
            Cancel
          </button>
          <Act
            kind="danger"
            onAct={async () => {
              await onAct();
              dialog.current?.close();
            }}
          >
            {children}
          </Act>
        </div>
      </dialog>
    </>
  );
}

interface SwitchProps {
  isOn: boolean;
  label: string;
  onSwitch: (on: boolean) => Promise<void>;
}

/** A switch that shows the new state once the API has answered that it is so. */
export function Switch({ isOn, label, onSwitch }: SwitchProps) {
  const act = useAct();
  return (
    <span class="switch">
      <button
        type="button"
        role="switch"
        aria-checked={isOn}
        aria-label={label}
        aria-busy={act.isBusy}
        disabled={act.isBusy}
        onClick={() => act.run(() => onSwitch(!isOn))}
      >
        <span aria-hidden="true" />
      </button>
      <span aria-hidden="true">{act.isBusy ? "…" : isOn ? "Running" : "Stopped"}</span>
      <Refused refusal={act.refusal} />
    </span>
  );
}

interface FieldProps {
  label: string;
  hint?: string;
  value: string;
  onValue: (value: string) => void;
  type?: "text" | "url" | "number" | "password" | "datetime-local";
  required?: boolean;
  placeholder?: string;
  autocomplete?: "off";
  min?: string;
  max?: string;
  maxLength?: number;
  pattern?: string;
}

/** A field of a form. */
export function Field({ label, hint, value, onValue, type, ...rest }: FieldProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} type={type as "text"} value={value} aria-describedby={hint ? `${id}-hint` : undefined} onInput={(it) => onValue(it.currentTarget.value)} {...rest} />
      {hint && <small id={`${id}-hint`}>{hint}</small>}
    </div>
  );
}

interface ChoiceProps<T extends string> {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  onValue: (value: T) => void;
}

/** One of several. */
export function Choice<T extends string>({ label, value, options, onValue }: ChoiceProps<T>) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} onChange={(it) => onValue(it.currentTarget.value as T)}>
        {options.map(([option, text]) => (
          <option key={option} value={option} selected={option === value}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

interface CellProps {
  head: string;
  children?: ComponentChildren;
  isLong?: boolean;
}

/** A cell of a table. Where the page is narrow, the head of its column is in front of it. */
export function Cell({ head, children, isLong }: CellProps) {
  return (
    <td role="cell" data-head={head} class={isLong ? "long" : undefined}>
      {children}
    </td>
  );
}

/** A table, which becomes a list of its rows where the page is narrow. Its roles are said, since they would be lost there. */
export function Table({ caption, heads, children }: { caption: string; heads: string[]; children: ComponentChildren }) {
  return (
    <div class="table" role="region" aria-label={caption} tabIndex={0}>
      <table role="table">
        <caption class="unseen">{caption}</caption>
        <thead role="rowgroup">
          <tr role="row">
            {heads.map((head) => (
              <th key={head} scope="col" role="columnheader">
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">{children}</tbody>
      </table>
    </div>
  );
}

/** JSON to be read. */
export function Json({ value, label }: { value: unknown; label: string }) {
  return (
    <pre class="json" tabIndex={0} aria-label={label}>
      {JSON.stringify(value, null, 2)}
    </pre>
  );
}

/** A text to be copied. */
export function Copied({ text, label }: { text: string; label: string }) {
  const [isCopied, set] = useState(false);
  useEffect(() => {
    const timer = isCopied ? setTimeout(() => set(false), 2_000) : undefined;
    return () => clearTimeout(timer);
  }, [isCopied]);
  const copy = () => navigator.clipboard.writeText(text).then(() => set(true));
  return (
    <span class="copied">
      <code>{text}</code>
      <button type="button" onClick={copy} aria-label={`Copy ${label}`}>
        {isCopied ? "Copied" : "Copy"}
      </button>
    </span>
  );
}
