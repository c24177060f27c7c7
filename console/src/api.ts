// Calls of the public API: the types of what it answers, and its errors in its own words.

import { ROOT } from "./route";
import { current, signOut } from "./session";

/** What a custom domain maps the API to. */
const PREFIX = ROOT.slice(0, -"/console".length);
const BASE = `${PREFIX}/api/v1/org/integrations/eventstream`;

export interface Pending {
  catching_up: boolean;
  backlog_seconds?: number;
  waiting_events?: number;
  oldest_published_at?: string;
  progress?: number;
  rate_per_second?: number;
  window?: number;
}

export interface Filter {
  event_filter?: string[] | null;
  entity_filter?: string[] | null;
}

export interface Integration {
  id: string;
  status: "running" | "stopped";
  integration_type: "permanent" | "temporary";
  starts_at: string;
  ends_at?: string;
  callback_parameters?: { callback_url: string; api_key?: string; max_in_flight?: number; headers?: Record<string, string> };
  s3_parameters?: { bucket: string; aws_region: string; key_prefix?: string; aws_access_key_id?: string; role_arn?: string };
  filter_conditions?: Filter;
  role_trust?: { principal: string; external_id: string };
  signing_secret?: string;
  signing?: { created_at: string; overlap_ends_at?: string };
  health?: "healthy" | "retrying" | "paced" | "interrupted";
  failing_since?: string;
  next_attempt_at?: string;
  last_success_at?: string;
  pending: Pending;
}

export interface EventFate {
  id: string;
  name: string;
  published_at: string;
  status: string;
  is_certain: boolean;
  attempts?: number;
  next_attempt_at?: string;
  reason?: string;
  file?: string;
}

export interface Events {
  events: EventFate[];
  as_of: string;
  read_from: string;
  cursor?: string;
}

export interface EventDetails extends EventFate {
  as_of: string;
  payload: unknown;
}

export interface Entry {
  action: string;
  reason: string;
  created_at: string;
}

export interface Rejected {
  id: string;
  created_at: string;
  answer: string;
}

export interface File {
  bucket: string;
  key: string;
  created_at: string;
  lines: number;
  bytes: number;
  crc64: string;
  from: string;
  until: string;
}

export interface Preview {
  matching: number;
  events: number;
  bytes: number;
  names: Record<string, number>;
  first: { id: string; name: string; published_at: string }[];
  counted_from: string;
  counted_until: string;
  is_complete: boolean;
  replay_seconds: number;
}

export interface Verdict {
  is_delivered: boolean;
  reason?: string;
  event_id: string;
  event_name: string;
  latency_ms: number;
  status_code?: number;
  response?: string;
  tls?: { version: string; certificate_expires_at?: string };
  key?: string;
}

export interface Stretch {
  from: string;
  until: string;
  delivered: number;
  failed: number;
  rejected: number;
  latency_p50_ms?: number;
  latency_p99_ms?: number;
}

/** A refusal: what the API says of it. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly requestId?: string,
  ) {
    super(message);
  }
}

/** Calls the API. A token that is not accepted any more ends the session. */
export async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers: { authorization: `Bearer ${current()}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0, "The API cannot be reached. Is there a connection?");
  }
  const text = await response.text();
  const answer = text ? JSON.parse(text) : undefined;
  if (response.ok) return answer;
  if (response.status === 401) {
    signOut();
    dispatchEvent(new Event("signed-out"));
  }
  throw new Refusal(response.status, answer?.message ?? `HTTP status code ${response.status}`, answer?.request_id);
}

const of = (id: string, rest = "") => `${BASE}/${encodeURIComponent(id)}${rest}`;
const query = (parameters: Record<string, string | undefined>) => {
  const given = Object.entries(parameters).filter((pair): pair is [string, string] => !!pair[1]);
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

type Signal = AbortSignal | undefined;

export const list = (signal: Signal) => call<{ integrations: Integration[] }>("GET", BASE, undefined, signal);
export const get = (id: string, signal: Signal) => call<Integration>("GET", of(id), undefined, signal);
export const register = (body: unknown) => call<Integration>("POST", BASE, body);
export const update = (id: string, body: unknown) => call<Integration>("PATCH", of(id), body);
export const remove = (id: string) => call<void>("DELETE", of(id));
export const start = (id: string) => call<Integration>("POST", of(id, "/_start"), {});
export const stop = (id: string) => call<Integration>("POST", of(id, "/_stop"), {});
export const rotate = (id: string) => call<{ signing_secret: string }>("POST", of(id, "/_rotate_signing_secret"), {});
export const activity = (id: string, signal: Signal) =>
  call<{ activity: Stretch[]; as_of: string }>("GET", of(id, "/activity"), undefined, signal);
export const log = (id: string, signal: Signal) => call<{ entries: Entry[] }>("GET", of(id, "/log"), undefined, signal);
export const files = (id: string, cursor: string | undefined, signal: Signal) =>
  call<{ files: File[]; cursor?: string }>("GET", of(id, "/files") + query({ cursor }), undefined, signal);
export const events = (id: string, parameters: Record<string, string | undefined>, signal: Signal) =>
  call<Events>("GET", of(id, "/events") + query(parameters), undefined, signal);
export const event = (id: string, eventId: string, publishedAt: string, signal: Signal) =>
  call<EventDetails>("GET", of(id, `/events/${encodeURIComponent(eventId)}`) + query({ published_at: publishedAt }), undefined, signal);
export const rejected = (id: string, signal: Signal) =>
  call<{ rejected_events: Rejected[] }>("GET", of(id, "/rejected_events"), undefined, signal);
export const rejectedOne = (id: string, eventId: string, signal: Signal) =>
  call<unknown>("GET", of(id, `/rejected_events/${encodeURIComponent(eventId)}`), undefined, signal);
export const retry = (id: string, eventId: string) => call<void>("POST", of(id, `/rejected_events/${encodeURIComponent(eventId)}/_retry`), {});
export const retryAll = (id: string) =>
  call<{ retried: number; delivered: number; rejected: number; left: number; reason?: string }>("POST", of(id, "/rejected_events/_retry"), {});
export const forget = (id: string, eventId: string) => call<void>("DELETE", of(id, `/rejected_events/${encodeURIComponent(eventId)}`));
export const forgetAll = (id: string) => call<void>("DELETE", of(id, "/rejected_events"));
export const preview = (body: unknown, signal?: AbortSignal) => call<Preview>("POST", `${BASE}/_preview`, body, signal);
export const testNew = (body: unknown) => call<Verdict>("POST", `${BASE}/_test`, body);
export const test = (id: string, body: unknown) => call<Verdict>("POST", of(id, "/_test"), body);
export const publish = (body: unknown) => call<{ accepted: { id: string }[] }>("POST", `${PREFIX}/api/v1/org/events`, body);
