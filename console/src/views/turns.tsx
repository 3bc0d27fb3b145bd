// Turns, newest first: what was asked, what came of it, where the time went.

import { useState } from "react";
import { ask, type Turn } from "../api";
import { ago, count, day, dollars, span } from "../format";
import { useLive } from "../live";
import { merge } from "../list";
import { AgentName, Empty, Failure, TokenBar, TurnTag } from "../parts/bits";
import * as Icon from "../parts/icons";
import { go, usePath } from "../router";
import { useAsk, useKeys, useNow } from "../use";

type Answer = { traces: Turn[]; next: string | null };
const PAGE = 40;

export function TurnsView() {
  const { query } = usePath();
  const status = query.get("status") ?? "";
  const path = `/api/traces?limit=${PAGE}${status ? `&status=${status}` : ""}`;
  const asked = useAsk<Answer>(path);
  const [extra, setExtra] = useState<{ path: string; fresh: Turn[]; next: string | null | undefined }>({ path, fresh: [], next: undefined });
  const own = extra.path === path ? extra : { path, fresh: [], next: undefined };
  useLive("turn", (turn) => {
    if (!status || turn.status === status) setExtra({ ...own, fresh: merge(own.fresh, [turn]) });
  });
  useLive("reload", asked.reload);
  const turns = merge(asked.data?.traces ?? [], own.fresh);
  const next = own.next === undefined ? asked.data?.next : own.next;
  const more = () => {
    if (!next) return;
    void ask<Answer>(`${path}&before=${next}`).then((answer) => setExtra({ path, fresh: merge(own.fresh, answer.traces), next: answer.next }));
  };
  return (
    <>
      <div className="bar">
        <h1>Turns</h1>
        <span className="dim narrow-off">from a prompt to its answer, through every tool call</span>
        <span className="grow" />
        <select className="btn" aria-label="status" value={status} onChange={(event) => go(event.target.value ? `/turns?status=${event.target.value}` : "/turns", true)}>
          <option value="">Any status</option>
          <option value="in_progress">In progress</option>
          <option value="complete">Complete</option>
          <option value="interrupted">Interrupted</option>
          <option value="failed">Failed</option>
          <option value="cut">Cut</option>
        </select>
      </div>
      <div className="scroll">
        {asked.error ? (
          <Failure sentence={asked.error} retry={asked.reload} />
        ) : asked.data && turns.length === 0 ? (
          <Empty title={status ? "No turn has this status" : "No turns yet"} icon={<Icon.Turns />}>
            <p>A turn begins with a user's prompt and ends with the model's final answer. Give a watched agent something to do:</p>
            <pre>{'sudo heron exec -- claude -p "what is in this folder?"'}</pre>
          </Empty>
        ) : (
          <TurnCards turns={turns} />
        )}
        {next && (
          <div className="more">
            <button type="button" className="btn" onClick={more}>
              Older turns
            </button>
          </div>
        )}
      </div>
    </>
  );
}

export function TurnCards({ turns }: { turns: Turn[] }) {
  const now = useNow(5_000);
  const [cursor, setCursor] = useState(-1);
  const move = (by: number) => {
    const next = Math.min(turns.length - 1, Math.max(0, cursor + by));
    setCursor(next);
    document.querySelectorAll(".turn-card")[next]?.scrollIntoView({ block: "nearest" });
  };
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    Enter: () => {
      const turn = turns[cursor];
      if (turn) go(`/turns/${turn.id}`);
    },
  });
  return (
    <div className="page" style={{ gap: 10 }}>
      {turns.map((turn, index) => (
        <TurnCard key={turn.id} turn={turn} now={now} cursor={index === cursor} />
      ))}
    </div>
  );
}

export function TurnCard({ turn, now, cursor }: { turn: Turn; now: number; cursor: boolean }) {
  const path = `/turns/${turn.id}`;
  return (
    <a
      href={path}
      className={`card turn-card${cursor ? " cursor" : ""}`}
      data-turn={turn.id}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        go(path);
      }}
    >
      <div className="top">
        <TurnTag status={turn.status} />
        <AgentName agent={turn.agent} process={turn.process} />
        {turn.parent_turn_id && <span className="tag">sub-agent</span>}
        <span className="clip">{turn.models.join(", ")}</span>
        <span style={{ marginLeft: "auto", whiteSpace: "nowrap" }} title={turn.started_at}>
          {day(turn.started_at, now) === "today" ? ago(turn.started_at, now) : day(turn.started_at, now)}
        </span>
      </div>
      <div className="say">
        <Icon.User />
        <span className="p lines">{turn.prompt || "(no prompt seen)"}</span>
        {(turn.answer || turn.status !== "in_progress") && (
          <>
            <Icon.Model />
            <span className="dim lines">{turn.answer || "(no answer)"}</span>
          </>
        )}
      </div>
      <div className="bottom">
        <span>
          {turn.call_ids.length} {turn.call_ids.length === 1 ? "call" : "calls"}
        </span>
        <span>
          {turn.tool_calls} {turn.tool_calls === 1 ? "tool call" : "tool calls"}
        </span>
        <span>{span(turn.duration_ms)}</span>
        <span>
          {count(turn.usage.input_total)} in, {count(turn.usage.output_total)} out
        </span>
        {turn.cost && <span title="at list price">{dollars(turn.cost)}</span>}
        {turn.errors > 0 && <span className="bad">{turn.errors} failed</span>}
        <span style={{ flex: "1 1 120px", maxWidth: 260, marginLeft: "auto" }}>
          <TokenBar usage={turn.usage} />
        </span>
      </div>
    </a>
  );
}
