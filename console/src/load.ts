// Loads what a part of the page shows, again from time to time while the page is looked at.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import { Refusal } from "./api";

export interface Loaded<T> {
  value?: T;
  refusal?: Refusal;
  /** Loads it again, now. */
  again: () => Promise<void>;
  /** Shows this until it is loaded again. */
  set: (value: T) => void;
}

const asRefusal = (error: unknown) => (error instanceof Refusal ? error : new Refusal(0, String(error)));

/** Loads by `load`, whenever one of `of` changes, and every `every` milliseconds if that is given. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, of: unknown[], every?: number): Loaded<T> {
  const [state, setState] = useState<{ value?: T; refusal?: Refusal }>({});
  const aborted = useRef<AbortController>(undefined);
  const again = useCallback(async () => {
    aborted.current?.abort();
    const controller = (aborted.current = new AbortController());
    try {
      const value = await load(controller.signal);
      if (!controller.signal.aborted) setState({ value });
    } catch (error) {
      if (!controller.signal.aborted) setState((before) => ({ value: before.value, refusal: asRefusal(error) }));
    }
  }, of);
  useEffect(() => {
    setState({});
    void again();
    const timer = every && setInterval(() => document.visibilityState === "visible" && void again(), every);
    return () => {
      aborted.current?.abort();
      if (timer) clearInterval(timer);
    };
  }, [again]);
  return { ...state, again, set: (value) => setState({ value }) };
}

/** What is being filled in, kept for this session, so that a reload does not lose it; `kept` leaves out what is secret. */
export function useDraft<T>(key: string, blank: T, kept: (draft: T) => T): [T, (draft: T) => void, () => void] {
  const name = `event-stream-draft-${key}`;
  const [draft, set] = useState<T>(() => {
    const stored = sessionStorage.getItem(name);
    return stored ? { ...blank, ...JSON.parse(stored) } : blank;
  });
  const change = (next: T) => {
    set(next);
    sessionStorage.setItem(name, JSON.stringify(kept(next)));
  };
  return [draft, change, () => sessionStorage.removeItem(name)];
}

export interface Act {
  isBusy: boolean;
  refusal?: Refusal;
  run: (what: () => Promise<void>) => Promise<void>;
}

/** Something that the reader has asked for: whether it is under way, and why it was refused. */
export function useAct(): Act {
  const [state, setState] = useState<{ isBusy: boolean; refusal?: Refusal }>({ isBusy: false });
  const run = async (what: () => Promise<void>) => {
    setState({ isBusy: true });
    try {
      await what();
      setState({ isBusy: false });
    } catch (error) {
      setState({ isBusy: false, refusal: asRefusal(error) });
    }
  };
  return { ...state, run };
}
