import { describe, expect, it } from "vitest";
import { ago, buckets, bytes, count, dollars, mostly, preciseMillis, program, span, toolHint } from "./format";
import type { Cost, Usage } from "./api";

const NOTHING: Usage = {
  input_uncached: null,
  cache_read: null,
  cache_write_5m: null,
  cache_write_1h: null,
  output_text: null,
  output_reasoning: null,
  input_total: null,
  output_total: null,
};

describe("numbers", () => {
  it("shows what is not known as a dash and never as zero", () => {
    for (const show of [span, count, bytes]) expect(show(null)).toBe("–");
    expect(count(0)).toBe("0");
    expect(span(0)).toBe("0 µs");
  });
  it("chooses the unit that people would", () => {
    expect([0.5, 4.25, 250, 1_234, 61_000, 3_720_000, 90_000_000].map(span)).toEqual(["500 µs", "4.3 ms", "250 ms", "1.23 s", "1m 01s", "1h 02m", "1d 1h"]);
    expect([9_999, 12_345, 123_456, 1_500_000].map(count)).toEqual(["9,999", "12.3k", "123k", "1.5M"]);
    expect([10, 2_048, 5_242_880].map(bytes)).toEqual(["10 B", "2.0 KiB", "5.0 MiB"]);
  });
  it("keeps what is below a millisecond", () => {
    expect(preciseMillis("2026-11-28T13:34:54.120500000Z") - preciseMillis("2026-11-28T13:34:54.120000000Z")).toBeCloseTo(0.5, 3);
    expect(preciseMillis("2026-11-28T13:34:54Z")).toBe(Date.parse("2026-11-28T13:34:54Z"));
  });
  it("says how long ago", () => {
    const now = Date.parse("2026-11-28T13:00:00Z");
    expect(["2026-11-28T12:59:58Z", "2026-11-28T12:58:00Z", "2026-11-27T12:00:00Z"].map((at) => ago(at, now))).toEqual(["just now", "2m ago", "1d ago"]);
  });
});

describe("tokens", () => {
  it("leaves unknown and empty buckets out", () => {
    expect(buckets(NOTHING)).toEqual([]);
    expect(buckets({ ...NOTHING, input_uncached: 3, cache_read: 0, output_text: 5 }).map((bucket) => bucket.key)).toEqual(["uncached", "output"]);
  });
});

describe("names", () => {
  it("calls a program by its last path segment", () => {
    expect(program("/usr/bin/node (deleted)", "x")).toBe("node");
    expect(program("", "claude")).toBe("claude");
    expect(program("", "")).toBe("unknown");
  });
  it("tells what a tool was asked", () => {
    expect(toolHint({ command: "ls -la", timeout: 3 })).toBe("ls -la");
    expect(toolHint({ command: ["bash", "-lc", "ls"] })).toBe("bash -lc ls");
    expect(toolHint({ depth: 3 })).toBe('{"depth":3}');
    expect(toolHint(null)).toBe("");
  });
});

describe("costs", () => {
  const cost = (total: number, complete = true): Cost => ({
    input_uncached: total / 4,
    cache_read: null,
    cache_write_5m: null,
    cache_write_1h: null,
    output_text: (total * 3) / 4,
    output_reasoning: null,
    total,
    currency: "USD",
    complete,
  });

  it("shows dollars as far as they are known", () => {
    expect([null, cost(0.00641), cost(3.217), cost(321.7), cost(0.0000001), cost(0.5, false)].map(dollars)).toEqual([
      "–",
      "$0.0064",
      "$3.22",
      "$322",
      "$0.000001",
      "from $0.50",
    ]);
  });

  it("says what cost the most", () => {
    expect([mostly(cost(4)), mostly(cost(0)), mostly(null)]).toEqual(["75% output", undefined, undefined]);
  });
});
