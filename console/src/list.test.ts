import { describe, expect, it } from "vitest";
import type { Call } from "./api";
import { apiQuery, filterFrom, filterQuery, matches, merge, newestFirst, NO_FILTER, type Row, scrollTo, windowOf } from "./list";

const row = (id: string, second: number): Row => ({ id, started_at: `2026-11-28T13:00:${String(second).padStart(2, "0")}.000000000Z` });

const call = {
  id: "a",
  prompt: "List the Files",
  preview: "there are three",
  request_model: "claude-opus-4-5",
  response_model: "claude-opus-4-5-20251101",
  wire_api: "anthropic.messages",
  error: null,
  auxiliary: false,
  session_id: "s",
  turn_id: "t",
  process: { pid: 7, exe: "/usr/bin/claude", comm: "claude", cmdline: ["claude", "-p"] },
} as unknown as Call;

describe("a list of rows", () => {
  it("replaces what it knows in place and inserts the rest in order", () => {
    const list = [row("c", 3), row("a", 1)];
    const merged = merge(list, [{ ...row("a", 1), more: 1 } as Row, row("b", 2), row("d", 4)]);
    expect(merged.map((row) => row.id)).toEqual(["d", "c", "b", "a"]);
    expect(merged[3]).toHaveProperty("more", 1);
    expect(merge(list, [])).toBe(list);
  });
  it("orders equal times by id, as the API does", () => {
    expect([row("a", 1), row("c", 1), row("b", 2)].sort(newestFirst).map((row) => row.id)).toEqual(["b", "c", "a"]);
  });
});

describe("a filter", () => {
  it("survives the address bar", () => {
    const filter = { ...NO_FILTER, q: "a b&c", model: "gpt-5", errors: true, auxiliary: true, pid: "7" };
    expect(filterFrom(new URLSearchParams(filterQuery(filter)))).toEqual(filter);
    expect(filterQuery(NO_FILTER)).toBe("");
  });
  it("leaves housekeeping out unless it is asked for", () => {
    expect(apiQuery(NO_FILTER, 50, null)).toBe("limit=50&auxiliary=0");
    expect(apiQuery({ ...NO_FILTER, auxiliary: true }, 50, "x")).toBe("limit=50&before=x");
  });
  it("judges a live call as the API would", () => {
    expect(matches(NO_FILTER, call)).toBe(true);
    expect(matches(NO_FILTER, { ...call, auxiliary: true })).toBe(false);
    expect(matches({ ...NO_FILTER, q: "the files" }, call)).toBe(true);
    expect(matches({ ...NO_FILTER, q: "BIN/claude" }, call)).toBe(true);
    expect(matches({ ...NO_FILTER, q: "nowhere" }, call)).toBe(false);
    expect(matches({ ...NO_FILTER, model: "claude-opus-4-5" }, call)).toBe(true);
    expect(matches({ ...NO_FILTER, errors: true }, call)).toBe(false);
    expect(matches({ ...NO_FILTER, pid: "8" }, call)).toBe(false);
  });
});

describe("a long list", () => {
  it("renders what is seen and a margin, whatever the position", () => {
    expect(windowOf(0, 580, 58, 1)).toEqual({ first: 0, last: 0 });
    expect(windowOf(0, 580, 58, 0)).toEqual({ first: 0, last: -1 });
    expect(windowOf(5_800, 580, 58, 10_000)).toEqual({ first: 88, last: 122 });
    expect(windowOf(1_000_000, 580, 58, 20)).toEqual({ first: 19, last: 19 });
  });
  it("scrolls no more than needed", () => {
    expect(scrollTo(0, 100, 580, 58)).toBe(0);
    expect(scrollTo(3, 100, 580, 58)).toBe(100);
    expect(scrollTo(20, 100, 580, 58)).toBe(638);
  });
});
