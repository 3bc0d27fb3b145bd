import { describe, expect, it } from "vitest";
import type { Step, TurnDetail } from "./api";
import { axisOf, barsOf, ticks } from "./timeline";

const at = (ms: number) => new Date(Date.parse("2026-11-28T13:00:00.000Z") + ms).toISOString();
const call = (from: number, ms: number | null): Step => ({ type: "call", call_id: `c${from}`, at: at(from), duration_ms: ms });

const turn = (steps: Step[], status: string, ms: number | null) => ({ started_at: at(0), duration_ms: ms, status, steps }) as unknown as TurnDetail;

describe("a turn on its axis", () => {
  it("places each step by its own time", () => {
    const done = turn([call(0, 250), call(500, 500)], "complete", 1_000);
    const bars = barsOf(done, axisOf(done, 0));
    expect(bars.map((bar) => [bar.left, bar.width])).toEqual([
      [0, 0.25],
      [0.5, 0.5],
    ]);
  });
  it("grows to now while it runs", () => {
    const running = turn([call(0, 250), call(500, null)], "in_progress", null);
    const bars = barsOf(running, axisOf(running, Date.parse(at(2_000))));
    expect(bars[1]).toMatchObject({ left: 0.25, width: 0.75, open: true });
  });
  it("never leaves the axis, whatever the times are", () => {
    const odd = turn([call(-100, 50), call(900, 5_000)], "complete", 1_000);
    for (const bar of barsOf(odd, axisOf(odd, 0))) {
      expect(bar.left).toBeGreaterThanOrEqual(0);
      expect(bar.left + bar.width).toBeLessThanOrEqual(1);
    }
  });
  it("marks round times", () => {
    expect(ticks(1_000)).toEqual([0, 200, 400, 600, 800, 1_000]);
    expect(ticks(0).length).toBeLessThan(51);
  });
});
