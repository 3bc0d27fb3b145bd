// What a call did when. Pure.

import type { Timing } from "./api";
import { preciseMillis } from "./format";

export type Phase = { key: string; label: string; ms: number; open: boolean };

/// The phases of a call: sending, waiting for the head, waiting for the first token, streaming.
export function phasesOf(timing: Timing, now: number | null): Phase[] {
  const points: [string, string, string | null][] = [
    ["send", "sending", timing.request_last],
    ["wait", "waiting for the answer", timing.response_head],
    ["think", "to the first token", timing.first_token],
    ["stream", "streaming", timing.last_byte],
  ];
  const phases: Phase[] = [];
  let from = preciseMillis(timing.request_first);
  for (const [key, label, at] of points) {
    if (at === null) {
      // What is not known yet is what the call is doing now.
      if (now !== null) {
        phases.push({ key, label, ms: Math.max(0, now - from), open: true });
        return phases;
      }
      continue;
    }
    const to = preciseMillis(at);
    if (to > from) phases.push({ key, label, ms: to - from, open: false });
    from = Math.max(from, to);
  }
  return phases;
}
