// One event stream for the whole page. Views subscribe to calls, turns, findings; health is kept as it comes.

import { useEffect, useRef, useSyncExternalStore } from "react";
import type { Call, Finding, Health, Turn } from "./api";

export type Events = { call: Call; turn: Turn; finding: Finding; reload: null };
type Listener<K extends keyof Events> = (value: Events[K]) => void;

export type Link = "connecting" | "live" | "lost";

class Live {
  health: Health | null = null;
  link: Link = "connecting";
  private readonly listeners: { [K in keyof Events]: Set<Listener<K>> } = {
    call: new Set(),
    turn: new Set(),
    finding: new Set(),
    reload: new Set(),
  };
  private readonly watchers = new Set<() => void>();
  private wasLive = false;

  start() {
    const source = new EventSource("/api/stream");
    source.addEventListener("open", () => {
      this.set("live");
      // What happened while the link was lost is only in the lists.
      if (this.wasLive) this.emit("reload", null);
      this.wasLive = true;
    });
    source.addEventListener("error", () => {
      this.set("lost");
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(() => this.start(), 2_000);
      }
    });
    source.addEventListener("call", (event) => this.emit("call", JSON.parse(event.data as string) as Call));
    source.addEventListener("turn", (event) => this.emit("turn", JSON.parse(event.data as string) as Turn));
    source.addEventListener("finding", (event) => this.emit("finding", JSON.parse(event.data as string) as Finding));
    source.addEventListener("lagged", () => this.emit("reload", null));
    source.addEventListener("health", (event) => {
      this.health = JSON.parse(event.data as string) as Health;
      this.tell();
    });
  }

  on<K extends keyof Events>(kind: K, listener: Listener<K>): () => void {
    this.listeners[kind].add(listener);
    return () => {
      this.listeners[kind].delete(listener);
    };
  }

  watch = (watcher: () => void): (() => void) => {
    this.watchers.add(watcher);
    return () => {
      this.watchers.delete(watcher);
    };
  };

  private set(link: Link) {
    if (this.link === link) return;
    this.link = link;
    this.tell();
  }

  private tell() {
    for (const watcher of this.watchers) watcher();
  }

  private emit<K extends keyof Events>(kind: K, value: Events[K]) {
    for (const listener of this.listeners[kind]) listener(value);
  }
}

export const live = new Live();

export function useLink(): Link {
  return useSyncExternalStore(live.watch, () => live.link);
}

export function useHealth(): Health | null {
  return useSyncExternalStore(live.watch, () => live.health);
}

/// Calls `listener` for each event of a kind; the newest listener is the one that is called.
export function useLive<K extends keyof Events>(kind: K, listener: Listener<K>) {
  const newest = useRef(listener);
  useEffect(() => {
    newest.current = listener;
  });
  useEffect(() => live.on(kind, (value) => newest.current(value)), [kind]);
}
