import { describe, expect, it } from "vitest";
import { splitReminders } from "./reminders";
import { sameModel } from "./models";
import { phasesOf } from "./phases";

describe("what agents add to the user's words", () => {
  it("is folded, and the words stay", () => {
    expect(splitReminders("<system-reminder>today</system-reminder>\nfix the bug")).toEqual([
      { tag: "system-reminder", text: "today" },
      { tag: null, text: "fix the bug" },
    ]);
    expect(splitReminders("a < b")).toEqual([{ tag: null, text: "a < b" }]);
    expect(splitReminders("")).toEqual([{ tag: null, text: "" }]);
  });
});

describe("model names", () => {
  it("are the same with a date, a vendor or a tag", () => {
    for (const [asked, answered] of [
      ["claude-opus-4-5", "claude-opus-4-5-20251101"],
      ["openai/gpt-5", "gpt-5"],
      ["llama3:latest", "llama3"],
      ["anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"],
    ] as const)
      expect(sameModel(asked, answered)).toBe(true);
    expect(sameModel("gpt-5", "gpt-4o-mini")).toBe(false);
    expect(sameModel("claude-opus-4-5", "claude-haiku-4-5")).toBe(false);
  });
});

describe("the phases of a call", () => {
  const at = (ms: number) => new Date(Date.parse("2026-11-28T13:00:00.000Z") + ms).toISOString();
  const timing = { request_first: at(0), request_last: at(10), response_head: at(200), first_token: at(250), last_byte: at(1_000), token_gaps_ms: { count: 0, p50: null, p90: null, p99: null, max: null } };
  it("add up to its duration", () => {
    expect(phasesOf(timing, null).map((phase) => [phase.key, phase.ms])).toEqual([
      ["send", 10],
      ["wait", 190],
      ["think", 50],
      ["stream", 750],
    ]);
  });
  it("end with what the call is doing now", () => {
    const waiting = { ...timing, first_token: null, last_byte: null };
    expect(phasesOf(waiting, Date.parse(at(900))).at(-1)).toMatchObject({ key: "think", ms: 700, open: true });
    expect(phasesOf(waiting, null).at(-1)).toMatchObject({ key: "wait", open: false });
  });
});
