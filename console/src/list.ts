// Lists that grow at both ends: live rows at the top, older pages at the bottom. Pure, so that it can be proved.

import type { Call } from "./api";

export type Row = { id: string; started_at: string };

/// Newest first; the id decides between equal times, as in the API.
export function newestFirst(a: Row, b: Row): number {
  if (a.started_at !== b.started_at) return a.started_at < b.started_at ? 1 : -1;
  return a.id < b.id ? 1 : a.id > b.id ? -1 : 0;
}

/// Puts rows into a sorted list: known ids are replaced in place, new ones inserted.
export function merge<T extends Row>(list: readonly T[], rows: readonly T[]): T[] {
  if (rows.length === 0) return list as T[];
  const fresh = new Map(rows.map((row) => [row.id, row]));
  const merged = list.map((row) => {
    const newer = fresh.get(row.id);
    if (newer) fresh.delete(row.id);
    return newer ?? row;
  });
  if (fresh.size === 0) return merged;
  return [...merged, ...fresh.values()].sort(newestFirst);
}

export type CallFilter = {
  q: string;
  model: string;
  wire_api: string;
  errors: boolean;
  auxiliary: boolean;
  session: string;
  turn: string;
  pid: string;
};

export const NO_FILTER: CallFilter = {
  q: "",
  model: "",
  wire_api: "",
  errors: false,
  auxiliary: false,
  session: "",
  turn: "",
  pid: "",
};

export function filterFrom(query: URLSearchParams): CallFilter {
  return {
    q: query.get("q") ?? "",
    model: query.get("model") ?? "",
    wire_api: query.get("wire_api") ?? "",
    errors: query.get("error") === "1",
    auxiliary: query.get("auxiliary") === "all",
    session: query.get("session") ?? "",
    turn: query.get("turn") ?? "",
    pid: query.get("pid") ?? "",
  };
}

/// The page's own query: only what differs from the default.
export function filterQuery(filter: CallFilter): string {
  const query = new URLSearchParams();
  for (const name of ["q", "model", "wire_api", "session", "turn", "pid"] as const) {
    if (filter[name]) query.set(name, filter[name]);
  }
  if (filter.errors) query.set("error", "1");
  if (filter.auxiliary) query.set("auxiliary", "all");
  const text = query.toString();
  return text ? `?${text}` : "";
}

/// The API's query. Housekeeping is left out unless asked for.
export function apiQuery(filter: CallFilter, limit: number, before: string | null): string {
  const query = new URLSearchParams({ limit: String(limit) });
  for (const name of ["q", "model", "wire_api", "session", "turn", "pid"] as const) {
    if (filter[name]) query.set(name, filter[name]);
  }
  if (filter.errors) query.set("error", "1");
  if (!filter.auxiliary) query.set("auxiliary", "0");
  if (before) query.set("before", before);
  return query.toString();
}

/// Does a call that just happened belong into the list? The same rule as the API's, as far as a summary allows.
export function matches(filter: CallFilter, call: Call): boolean {
  const words = filter.q.toLowerCase();
  const text = [call.prompt, call.preview, call.request_model, call.response_model, call.wire_api, call.process?.exe, call.process?.cmdline.join(" ")];
  return (
    (!words || text.some((field) => field?.toLowerCase().includes(words))) &&
    (!filter.model || call.request_model === filter.model || call.response_model === filter.model) &&
    (!filter.wire_api || call.wire_api === filter.wire_api) &&
    (!filter.errors || call.error !== null) &&
    (filter.auxiliary || !call.auxiliary) &&
    (!filter.session || call.session_id === filter.session) &&
    (!filter.turn || call.turn_id === filter.turn) &&
    (!filter.pid || String(call.process?.pid) === filter.pid)
  );
}

/// Rows rendered above and below what is seen.
const MARGIN = 12;

/// Which rows of equal height are worth rendering.
export function windowOf(top: number, height: number, rowHeight: number, count: number): { first: number; last: number } {
  const first = Math.floor(top / rowHeight) - MARGIN;
  const last = Math.ceil((top + height) / rowHeight) + MARGIN;
  return { first: Math.max(0, Math.min(first, count - 1)), last: Math.min(count - 1, Math.max(0, last)) };
}

/// The scroll position that shows a row, moved no more than needed.
export function scrollTo(index: number, top: number, height: number, rowHeight: number): number {
  const start = index * rowHeight;
  if (start < top) return start;
  return start + rowHeight > top + height ? start + rowHeight - height : top;
}
