// One turn: prompt, the waterfall of calls and tools, answer, where time and tokens went, findings.

import { useState } from "react";
import type { Call, Step, TurnDetail } from "../api";
import { bytes, clock, count, dollars, mostly, span, toolHint } from "../format";
import { useLive } from "../live";
import { AgentName, CopyButton, Failure, Go, modelOf, Notice, Tile, TokenBar, TokenLegend, TurnTag } from "../parts/bits";
import * as Icon from "../parts/icons";
import { ToolAnswered } from "../parts/talk";
import { Json, Prose } from "../parts/text";
import { go } from "../router";
import { type Axis, axisOf, type Bar, barsOf, ticks } from "../timeline";
import { useAsk, useKeys, useNow, useThrottled } from "../use";
import { FindingRow } from "./findings";

export function TurnView({ id }: { id: string }) {
  const asked = useAsk<TurnDetail>(`/api/traces/${id}`);
  const reload = useThrottled(asked.reload, 400);
  useLive("turn", (turn) => {
    if (turn.id === id || turn.parent_turn_id === id) reload();
  });
  useLive("call", (call) => {
    if (call.turn_id === id) reload();
  });
  useLive("reload", asked.reload);
  useKeys({ Escape: () => go("/turns") });
  const turn = asked.data;
  const running = turn?.status === "in_progress";
  const now = useNow(250, running);
  if (!turn) return asked.error ? <Failure sentence={asked.error} retry={asked.reload} /> : null;
  const axis = axisOf(turn, now);
  const others = turn.calls.filter((call) => !turn.call_ids.includes(call.id));
  return (
    <>
      <div className="bar">
        <Go to="/turns" className="btn ghost" title="all turns (Esc)">
          <Icon.Back />
        </Go>
        <h1>Turn</h1>
        <TurnTag status={turn.status} />
        <AgentName agent={turn.agent} process={turn.process} />
        <span className="dim clip">{turn.models.join(", ")}</span>
        <span className="grow" />
        {turn.parent_turn_id && <Go to={`/turns/${turn.parent_turn_id}`}>the turn that started it</Go>}
        <Go to={`/sessions/${turn.session_id}`}>its session</Go>
        <Go to={`/calls?turn=${turn.id}&auxiliary=all`}>its calls</Go>
        <CopyButton text={turn.id} label="the turn's id" />
      </div>
      <div className="scroll">
        <div className="page">
          <div className="tiles">
            <Tile label="Duration" value={span(running ? now - axis.start : turn.duration_ms)} note={`from ${clock(turn.started_at)}`} />
            <Tile label="Model calls" value={turn.call_ids.length} note={turn.errors ? `${turn.errors} failed` : "none failed"} />
            <Tile label="Tool calls" value={turn.tool_calls} />
            <Tile label="Input tokens" value={count(turn.usage.input_total)} />
            <Tile label="Output tokens" value={count(turn.usage.output_total)} />
            <Tile label="List price" value={dollars(turn.cost)} note={mostly(turn.cost)} />
          </div>
          <section className="card">
            <header>
              <Icon.User /> Prompt
            </header>
            <div className="body">
              <Prose text={turn.prompt || "(no prompt seen)"} />
            </div>
          </section>
          {turn.findings.length > 0 && (
            <section className="card">
              <header>Findings</header>
              {turn.findings.map((finding, index) => (
                <FindingRow key={index} finding={finding} />
              ))}
            </section>
          )}
          <section className="card">
            <header>
              What happened
              <span className="dim" style={{ fontWeight: 400 }}>
                {turn.steps.length} steps
              </span>
            </header>
            <WaterfallAxis axis={axis} />
            <Waterfall turn={turn} axis={axis} depth={0} />
            {others.length > 0 && <p className="more">{others.length} more calls belong to this turn (retries, proxy hops)</p>}
          </section>
          {(turn.answer || !running) && (
            <section className="card">
              <header>
                <Icon.Model /> Answer
              </header>
              <div className="body">{turn.answer ? <Prose text={turn.answer} /> : <span className="dim">{NO_ANSWER[turn.status] ?? ""}</span>}</div>
            </section>
          )}
          <div className="grid2">
            <section className="card">
              <header>Where the time went</header>
              <div className="body" style={{ display: "grid", gap: 10 }}>
                <TimeSplit time={turn.time} />
              </div>
            </section>
            <section className="card">
              <header>Tokens</header>
              <div className="body" style={{ display: "grid", gap: 10 }}>
                <TokenBar usage={turn.usage} />
                <TokenLegend usage={turn.usage} />
              </div>
            </section>
          </div>
        </div>
      </div>
    </>
  );
}

const NO_ANSWER: Record<string, string> = {
  interrupted: "There is no answer: a new prompt came, or the agent ended, before it.",
  failed: "There is no answer: the last call failed.",
  cut: "There is no answer: heron stopped seeing this conversation before it came.",
  complete: "The final answer carried no text.",
};

function TimeSplit({ time }: { time: TurnDetail["time"] }) {
  const parts: [string, string, number][] = [
    ["model", "model", time.model_ms],
    ["tool", "tools", time.tool_ms],
    ["user", "waiting for the user", time.user_ms],
    ["idle", "neither", time.idle_ms],
  ];
  const known = parts.filter(([, , ms]) => ms > 0);
  if (known.length === 0) return <span className="dim">Not known yet.</span>;
  return (
    <>
      <div className="split-bar">
        {known.map(([key, , ms]) => (
          <i key={key} className={`k-${key}`} style={{ flex: ms }} />
        ))}
      </div>
      <div className="legend">
        {known.map(([key, label, ms]) => (
          <span key={key}>
            <i className={`k-${key}`} /> {label} <b>{span(ms)}</b>
          </span>
        ))}
      </div>
    </>
  );
}

function WaterfallAxis({ axis }: { axis: Axis }) {
  const length = axis.end - axis.start;
  return (
    <div className="wf-axis">
      <span>step</span>
      <div className="marks">
        {ticks(length).map((at) => (
          <span key={at} style={{ left: `${(at / length) * 100}%` }}>
            {at === 0 ? "0" : span(at)}
          </span>
        ))}
      </div>
      <span className="num">took</span>
    </div>
  );
}

/// How deep sub-agents are opened in place; deeper ones are a link.
const DEPTH_MAX = 4;

function Waterfall({ turn, axis, depth }: { turn: TurnDetail; axis: Axis; depth: number }) {
  const calls = new Map(turn.calls.map((call) => [call.id, call]));
  if (turn.steps.length === 0) return <p className="more">Nothing has happened yet.</p>;
  return (
    <div className="waterfall">
      {barsOf(turn, axis).map((bar) => (
        <StepRow key={bar.key} bar={bar} call={calls.get(bar.step.call_id)} axis={axis} depth={depth} />
      ))}
    </div>
  );
}

function StepRow({ bar, call, axis, depth }: { bar: Bar; call: Call | undefined; axis: Axis; depth: number }) {
  const [open, setOpen] = useState(false);
  const step = bar.step;
  const isError = step.type === "tool" ? step.is_error : call?.error != null;
  const toggle = () => setOpen(!open);
  return (
    <div className={`wf-row${isError ? " error" : ""}`}>
      <div
        className="line"
        role="button"
        tabIndex={0}
        aria-expanded={open}
        onClick={toggle}
        onKeyDown={(event) => {
          if (event.key === "Enter" || event.key === " ") {
            event.preventDefault();
            toggle();
          }
        }}
      >
        <StepLabel step={step} call={call} />
        <Lane bar={bar} call={call} axis={axis} />
        <span className="took">{bar.open ? "…" : step.type === "tool" && step.result === null ? "no result" : span(step.duration_ms)}</span>
      </div>
      {open && (
        <div className="more-in">
          {step.type === "call" ? <CallStep call={call} id={step.call_id} /> : <ToolStep step={step} />}
        </div>
      )}
      {step.type === "tool" && step.sub_turn && <SubTurn id={step.sub_turn} axis={axis} depth={depth} />}
    </div>
  );
}

function StepLabel({ step, call }: { step: Step; call: Call | undefined }) {
  if (step.type === "call") {
    return (
      <span className="label">
        <Icon.Model />
        <span className="name clip">{call ? modelOf(call) : "model"}</span>
        {call && (
          <span className="hint clip">
            {call.error ? call.error.kind : call.usage.output_total !== null ? `${count(call.usage.output_total)} tokens out` : ""}
          </span>
        )}
      </span>
    );
  }
  return (
    <span className="label">
      <Icon.Tool />
      <span className="name">{step.name}</span>
      <span className="hint clip">{toolHint(step.arguments)}</span>
    </span>
  );
}

/// A call's bar is pale up to its first token, full while it streams.
function Lane({ bar, call, axis }: { bar: Bar; call: Call | undefined; axis: Axis }) {
  const percent = (share: number) => `${(share * 100).toFixed(3)}%`;
  const open = bar.open ? " open" : "";
  const kind = bar.step.type === "tool" ? "k-tool" : "k-model";
  const wait = call?.ttft_ms != null && bar.step.type === "call" ? Math.min(bar.width, call.ttft_ms / (axis.end - axis.start)) : 0;
  return (
    <span className="lane">
      {wait > 0 && <i className={`${kind} wait`} style={{ left: percent(bar.left), width: percent(wait) }} />}
      <i className={`${kind}${open}`} style={{ left: percent(bar.left + wait), width: percent(Math.max(0, bar.width - wait)) }} />
    </span>
  );
}

function CallStep({ call, id }: { call: Call | undefined; id: string }) {
  if (!call) return <span className="dim">This call is not stored (any more).</span>;
  return (
    <>
      {call.error && (
        <Notice title={call.error.kind} bad>
          {call.error.message}
        </Notice>
      )}
      {call.preview && <Prose text={call.preview} />}
      <div className="legend">
        <span>
          first token <b>{span(call.ttft_ms)}</b>
        </span>
        <span>
          in <b>{count(call.usage.input_total)}</b>
        </span>
        <span>
          out <b>{count(call.usage.output_total)}</b>
        </span>
        {call.tool_calls.length > 0 && <span>asked for {call.tool_calls.map((tool) => tool.name).join(", ")}</span>}
        <Go to={`/calls/${id}`}>open the call</Go>
      </div>
    </>
  );
}

function ToolStep({ step }: { step: Extract<Step, { type: "tool" }> }) {
  return (
    <>
      <div className="block">
        <div className="top">
          <Icon.Tool />
          <span className="name">Arguments</span>
          <span className="faint" style={{ marginLeft: "auto" }}>
            <Go to={`/calls/${step.call_id}`}>the call that asked</Go>
          </span>
        </div>
        <div className="in">
          <Json value={step.arguments} />
        </div>
      </div>
      {step.result !== null ? (
        <ToolAnswered name={step.result_bytes !== null ? bytes(step.result_bytes) : null} text={step.result} isError={step.is_error} />
      ) : (
        <span className="dim">No result was seen.</span>
      )}
    </>
  );
}

function SubTurn({ id, axis, depth }: { id: string; axis: Axis; depth: number }) {
  const [open, setOpen] = useState(true);
  const nested = depth < DEPTH_MAX;
  const asked = useAsk<TurnDetail>(nested ? `/api/traces/${id}` : null);
  const reload = useThrottled(asked.reload, 500);
  useLive("turn", (turn) => {
    if (turn.id === id) reload();
  });
  const sub = asked.data;
  return (
    <div className="wf-sub">
      <div className="finding" style={{ padding: "6px 16px" }}>
        <Icon.Agent />
        <span className="clip">
          <b>sub-agent</b> {sub ? sub.prompt.slice(0, 140) : (asked.error ?? "")}
        </span>
        <span style={{ display: "flex", gap: 8, alignItems: "center" }}>
          {sub && <TurnTag status={sub.status} />}
          {sub && (
            <button type="button" className="btn ghost" onClick={() => setOpen(!open)}>
              {open ? "Fold" : `${sub.steps.length} steps`}
            </button>
          )}
          <Go to={`/turns/${id}`}>open</Go>
        </span>
      </div>
      {sub && open && <Waterfall turn={sub} axis={axis} depth={depth + 1} />}
    </div>
  );
}
