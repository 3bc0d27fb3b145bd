// A turn's steps on one time axis. Pure.

import type { Step, TurnDetail } from "./api";
import { preciseMillis } from "./format";

export type Bar = {
  key: string;
  step: Step;
  /// Share of the axis, 0 to 1.
  left: number;
  width: number;
  /// Still growing.
  open: boolean;
};

export type Axis = { start: number; end: number };

/// From the turn's start to its end, or to now while it is in progress.
export function axisOf(turn: TurnDetail, now: number): Axis {
  const start = preciseMillis(turn.started_at);
  let end = turn.duration_ms === null ? start : start + turn.duration_ms;
  for (const step of turn.steps) {
    end = Math.max(end, preciseMillis(step.at) + (step.duration_ms ?? 0));
  }
  if (turn.status === "in_progress") end = Math.max(end, now);
  return { start, end: Math.max(end, start + 1) };
}

export function barsOf(turn: TurnDetail, axis: Axis): Bar[] {
  const length = axis.end - axis.start;
  return turn.steps.map((step, index) => {
    const from = preciseMillis(step.at) - axis.start;
    const open = step.duration_ms === null && turn.status === "in_progress";
    const to = step.duration_ms === null ? (open ? length : from) : from + step.duration_ms;
    const left = clamp(from / length);
    return { key: `${index}-${step.call_id}`, step, left, width: Math.max(clamp(to / length) - left, 0), open };
  });
}

function clamp(share: number): number {
  return Math.min(1, Math.max(0, share));
}

/// Round times along the axis, in milliseconds from its start.
export function ticks(lengthMs: number, wanted = 6): number[] {
  const rough = lengthMs / wanted;
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 0.001)));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? rough;
  const marks: number[] = [];
  for (let at = 0; at <= lengthMs && marks.length < 50; at += step) marks.push(at);
  return marks;
}
