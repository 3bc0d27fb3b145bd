// Numbers, spans and times as people read them. Pure.

import type { Cost, Usage } from "./api";

const NONE = "–";

export function span(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return NONE;
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${ms.toFixed(0)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)}m ${String(Math.floor((ms % 60_000) / 1_000)).padStart(2, "0")}s`;
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)}h ${String(Math.floor((ms % 3_600_000) / 60_000)).padStart(2, "0")}m`;
  return `${Math.floor(ms / 86_400_000)}d ${Math.floor((ms % 86_400_000) / 3_600_000)}h`;
}

export function count(n: number | null | undefined): string {
  if (n === null || n === undefined) return NONE;
  if (n < 10_000) return n.toLocaleString("en-US");
  if (n < 1_000_000) return `${(n / 1_000).toFixed(n < 100_000 ? 1 : 0)}k`;
  if (n < 1_000_000_000) return `${(n / 1_000_000).toFixed(1)}M`;
  return `${(n / 1_000_000_000).toFixed(1)}G`;
}

/** Dollars at list price; "from" when a part is not known. */
export function dollars(cost: Cost | null | undefined): string {
  if (!cost) return NONE;
  const n = cost.total;
  const text = n >= 100 ? n.toFixed(0) : n >= 0.1 || n === 0 ? n.toFixed(2) : n.toPrecision(2);
  return `${cost.complete ? "" : "from "}$${Number(text) < 1e-6 && n > 0 ? "0.000001" : text}`;
}

/** What cost the most, in words for a tile's note. */
export function mostly(cost: Cost | null | undefined): string | undefined {
  if (!cost || cost.total === 0) return undefined;
  const classes: [string, number | null][] = [
    ["fresh input", cost.input_uncached],
    ["cache reads", cost.cache_read],
    ["cache writes", (cost.cache_write_5m ?? 0) + (cost.cache_write_1h ?? 0)],
    ["output", cost.output_text],
    ["reasoning", cost.output_reasoning],
  ];
  const [name, most] = classes.reduce((a, b) => ((b[1] ?? 0) > (a[1] ?? 0) ? b : a));
  return `${((100 * (most ?? 0)) / cost.total).toFixed(0)}% ${name}`;
}

export function bytes(n: number | null | undefined): string {
  if (n === null || n === undefined) return NONE;
  if (n < 1_024) return `${n} B`;
  if (n < 1_048_576) return `${(n / 1_024).toFixed(n < 10_240 ? 1 : 0)} KiB`;
  if (n < 1_073_741_824) return `${(n / 1_048_576).toFixed(1)} MiB`;
  return `${(n / 1_073_741_824).toFixed(2)} GiB`;
}

export function millis(at: string): number {
  return Date.parse(at);
}

/// Milliseconds with their fraction: Date drops what is below a millisecond.
export function preciseMillis(at: string): number {
  const fraction = /\.(\d+)Z$/.exec(at)?.[1] ?? "0";
  const whole = Date.parse(at.replace(/\.\d+Z$/, "Z"));
  return whole + Number(`0.${fraction}`) * 1_000;
}

export function clock(at: string): string {
  const date = new Date(millis(at));
  return date.toLocaleTimeString("en-GB", { hour12: false });
}

export function day(at: string, now: number): string {
  const date = new Date(millis(at));
  const today = new Date(now);
  if (date.toDateString() === today.toDateString()) return "today";
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

export function ago(at: string, now: number): string {
  const seconds = Math.max(0, Math.round((now - millis(at)) / 1_000));
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds}s ago`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)}h ago`;
  if (seconds < 7 * 86_400) return `${Math.floor(seconds / 86_400)}d ago`;
  return day(at, now);
}

/// The last path segment, which is what people call a program.
export function program(exe: string, comm: string): string {
  const name = exe.replace(/ \(deleted\)$/, "").split("/").pop() ?? "";
  return name || comm || "unknown";
}

export type Bucket = { key: string; label: string; tokens: number };

/// Token buckets that do not overlap, the unknown and empty ones left out.
export function buckets(usage: Usage): Bucket[] {
  const all: [string, string, number | null][] = [
    ["uncached", "input", usage.input_uncached],
    ["read", "cache read", usage.cache_read],
    ["write5m", "cache write, 5 min", usage.cache_write_5m],
    ["write1h", "cache write, 1 h", usage.cache_write_1h],
    ["output", "output", usage.output_text],
    ["reasoning", "reasoning", usage.output_reasoning],
  ];
  return all.flatMap(([key, label, tokens]) => (tokens ? [{ key, label, tokens }] : []));
}

export function pretty(value: unknown): string {
  if (typeof value === "string") return value;
  return value === undefined ? "" : JSON.stringify(value, null, 2);
}

/// One line that tells what a tool was asked, e.g. `ls -la` for a shell.
export function toolHint(args: unknown): string {
  if (typeof args === "string") return args;
  if (typeof args !== "object" || args === null) return "";
  const object = args as Record<string, unknown>;
  for (const name of ["command", "cmd", "file_path", "path", "pattern", "query", "url", "description", "prompt"]) {
    const value = object[name];
    if (typeof value === "string") return value;
    if (Array.isArray(value)) return value.join(" ");
  }
  const first = Object.values(object).find((value) => typeof value === "string");
  return typeof first === "string" ? first : Object.keys(object).length ? JSON.stringify(object) : "";
}
