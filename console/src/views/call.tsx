// One call: what it cost, when things happened, what was said, and the bytes as they were.

import * as Tabs from "@radix-ui/react-tabs";
import { useState } from "react";
import type { CallDetail, Half, Timing } from "../api";
import { bytes, clock, count, dollars, mostly, preciseMillis, program, span } from "../format";
import { FLAWS } from "../flaws";
import { useLive } from "../live";
import { sameModel } from "../models";
import { CallStatus, CopyButton, Failure, Go, modelOf, Notice, Tile, TokenBar, TokenLegend } from "../parts/bits";
import * as Icon from "../parts/icons";
import { RawBody } from "../parts/raw";
import { Talk } from "../parts/talk";
import { Json } from "../parts/text";
import { phasesOf } from "../phases";
import { useAsk, useNow, useThrottled } from "../use";

export function CallView({ id, close }: { id: string; close: () => void }) {
  const asked = useAsk<CallDetail>(`/api/calls/${id}`);
  const reload = useThrottled(asked.reload, 300);
  useLive("call", (call) => {
    if (call.id === id) reload();
  });
  useLive("reload", asked.reload);
  const call = asked.data;
  const [tab, setTab] = useState("talk");
  if (!call) {
    return asked.error ? <Failure sentence={asked.error} retry={asked.reload} /> : null;
  }
  return (
    <>
      <Head call={call} close={close} />
      <div className="scroll">
        <Tabs.Root value={tab} onValueChange={setTab}>
          <Tabs.List className="tabs" aria-label="parts of the call">
            <Tabs.Trigger value="talk">
              Conversation<span className="tally">{call.messages.length || ""}</span>
            </Tabs.Trigger>
            <Tabs.Trigger value="request">
              Request<span className="tally">{bytes(call.request.body_bytes)}</span>
            </Tabs.Trigger>
            <Tabs.Trigger value="response">
              Response<span className="tally">{bytes(call.response.body_bytes)}</span>
            </Tabs.Trigger>
            <Tabs.Trigger value="tools">
              Tools<span className="tally">{call.tools.length || ""}</span>
            </Tabs.Trigger>
            <Tabs.Trigger value="facts">Details</Tabs.Trigger>
          </Tabs.List>
          <Tabs.Content value="talk" className="detail-body">
            <Trouble call={call} />
            <Talk messages={call.messages} output={call.output} streaming={call.state === "in_progress"} />
          </Tabs.Content>
          <Tabs.Content value="request" className="detail-body">
            <HalfView call={call} side="request" half={call.request} />
          </Tabs.Content>
          <Tabs.Content value="response" className="detail-body">
            <HalfView call={call} side="response" half={call.response} />
          </Tabs.Content>
          <Tabs.Content value="tools" className="detail-body">
            <ToolsOffered call={call} />
          </Tabs.Content>
          <Tabs.Content value="facts" className="detail-body">
            <Facts call={call} />
          </Tabs.Content>
        </Tabs.Root>
      </div>
    </>
  );
}

function Head({ call, close }: { call: CallDetail; close: () => void }) {
  return (
    <div className="detail-head">
      <div className="title">
        <h2 className="clip">{modelOf(call)}</h2>
        <CallStatus call={call} />
        {call.auxiliary && <span className="tag">housekeeping</span>}
        {call.hop_of && <span className="tag">proxy hop</span>}
        <span className="right">
          <button type="button" className="btn ghost" aria-label="close" title="close (Esc)" onClick={close}>
            <Icon.Close />
          </button>
        </span>
      </div>
      <div className="sub">
        <span>{clock(call.started_at)}</span>
        <span>{call.wire_api}</span>
        {call.process && (
          <Go to={`/calls?pid=${call.process.pid}`} className="link">
            {program(call.process.exe, call.process.comm)} · {call.process.pid}
          </Go>
        )}
        {call.turn_id && <Go to={`/turns/${call.turn_id}`}>its turn</Go>}
        {call.session_id && <Go to={`/sessions/${call.session_id}`}>its session</Go>}
        <span className="mono faint">
          {call.id.slice(0, 12)} <CopyButton text={call.id} label="the call's id" />
        </span>
      </div>
      <div className="tiles">
        <Tile label="First token" value={span(call.ttft_ms)} />
        <Tile label="Duration" value={call.state === "in_progress" ? <Running since={call.timing.request_first} /> : span(call.duration_ms)} />
        <Tile label="Input tokens" value={count(call.usage.input_total)} />
        <Tile label="Output tokens" value={count(call.usage.output_total)} note={speed(call)} />
        <Tile label="List price" value={dollars(call.cost)} note={mostly(call.cost)} />
        <Tile label="Finish" value={<span style={{ fontSize: 15 }}>{call.finish_reason ?? "–"}</span>} />
      </div>
      <TokenBar usage={call.usage} />
      <TokenLegend usage={call.usage} />
      <TimingBar timing={call.timing} running={call.state === "in_progress"} />
    </div>
  );
}

/// Output tokens a second while it streamed.
function speed(call: CallDetail): string | undefined {
  const tokens = call.usage.output_total;
  if (!tokens || call.duration_ms === null || call.ttft_ms === null) return undefined;
  const seconds = (call.duration_ms - call.ttft_ms) / 1_000;
  return call.stream && seconds > 0.05 ? `${(tokens / seconds).toFixed(0)} a second` : undefined;
}

function Running({ since }: { since: string }) {
  const now = useNow(100);
  return <>{span(Math.max(0, now - preciseMillis(since)))}</>;
}

function TimingBar({ timing, running }: { timing: Timing; running: boolean }) {
  const now = useNow(200, running);
  const phases = phasesOf(timing, running ? now : null);
  if (phases.length === 0) return null;
  return (
    <div className="timing">
      <div className="track" role="img" aria-label={phases.map((phase) => `${phase.label} ${span(phase.ms)}`).join(", ")}>
        {phases.map((phase) => (
          <i key={phase.key} className={`p-${phase.key}${phase.open ? " open" : ""}`} style={{ flex: Math.max(phase.ms, 0.001) }} />
        ))}
      </div>
      <div className="legend">
        {phases.map((phase) => (
          <span key={phase.key}>
            <i className={`p-${phase.key}`} />
            {phase.label} <b>{span(phase.ms)}</b>
          </span>
        ))}
        {timing.token_gaps_ms.count > 1 && (
          <span title="time from one content event to the next">
            token gaps <b>{span(timing.token_gaps_ms.p50)}</b> median, <b>{span(timing.token_gaps_ms.p99)}</b> p99
          </span>
        )}
      </div>
    </div>
  );
}

function Trouble({ call }: { call: CallDetail }) {
  return (
    <>
      {call.error && (
        <Notice title={call.error.kind} bad>
          {call.error.message}
        </Notice>
      )}
      {call.flaws.map((flaw) => (
        <Notice title={flaw.replaceAll("_", " ")} key={flaw}>
          {FLAWS[flaw] ?? "Something about this call was not as it should be."}
        </Notice>
      ))}
      {call.response_model && call.request_model && !sameModel(call.request_model, call.response_model) && (
        <Notice title="another model answered">
          {call.request_model} was asked for, {call.response_model} answered.
        </Notice>
      )}
    </>
  );
}

function HalfView({ call, side, half }: { call: CallDetail; side: "request" | "response"; half: Half }) {
  return (
    <>
      <section className="card">
        <header>
          <span className="mono clip">
            {side === "request" ? `${call.method} ${call.target}` : `${call.protocol} ${call.status ?? "no answer seen"}`}
          </span>
        </header>
        <div className="body">
          {half.headers.length === 0 ? (
            <span className="dim">No headers were seen.</span>
          ) : (
            <div className="headers">
              {half.headers.map((header, index) => (
                <HeaderLine key={index} name={header.name} value={header.value} />
              ))}
            </div>
          )}
        </div>
      </section>
      <RawBody id={call.id} side={side} half={half} live={call.state === "in_progress"} />
    </>
  );
}

function HeaderLine({ name, value }: { name: string; value: string }) {
  return (
    <>
      <span className="n">{name}</span>
      <span className={value.includes("[redacted]") ? "v secret" : "v"}>{value}</span>
    </>
  );
}

function ToolsOffered({ call }: { call: CallDetail }) {
  if (call.tools.length === 0) return <p className="dim">This call offered the model no tools.</p>;
  return (
    <>
      {call.tools.map((tool, index) => (
        <details className="block" key={index}>
          <summary>
            <Icon.Tool />
            <span className="name">{tool.name}</span>
            <span className="dim clip">{tool.description?.split("\n")[0]}</span>
          </summary>
          <div className="in">
            {tool.description && <div className="prose dim">{tool.description}</div>}
            {tool.schema !== null && tool.schema !== undefined && <Json value={tool.schema} />}
          </div>
        </details>
      ))}
    </>
  );
}

function Facts({ call }: { call: CallDetail }) {
  const facts: [string, React.ReactNode][] = [
    ["Operation", `${call.operation} · ${call.wire_api} · ${call.provider}`],
    ["Model asked for", call.request_model],
    ["Model that answered", call.response_model],
    ["Server software", call.server_kind],
    ["Service tier", call.service_tier],
    ["Response id", call.response_id],
    ["Continues response", call.previous_response_id],
    ["Conversation id", call.conversation],
    ["Finish", [call.finish_reason, call.finish].filter(Boolean).join(" · ")],
    ["Connection", [call.client, call.server].filter(Boolean).join(" → ") || "ends not known"],
    ["Host", call.authority],
    ["Protocol", [call.protocol, call.transport].filter(Boolean).join(" over ")],
    ["Ended by", call.ended_by],
    ["Started", call.started_at],
    ["Messages", call.message_count],
  ];
  return (
    <>
      <section className="card">
        <header>The call</header>
        <div className="body">
          <FactList facts={facts} />
        </div>
      </section>
      {call.process && (
        <section className="card">
          <header>The process</header>
          <div className="body">
            <FactList
              facts={[
                ["Pid", call.process.pid],
                ["Executable", call.process.exe],
                ["Name", call.process.comm],
                ["Command line", <code key="c">{call.process.cmdline.join(" ")}</code>],
              ]}
            />
          </div>
        </section>
      )}
      <section className="card">
        <header>Parameters</header>
        <div className="body">
          {Object.keys(call.parameters).length === 0 ? <span className="dim">None were sent.</span> : <Json value={call.parameters} />}
        </div>
      </section>
    </>
  );
}

function FactList({ facts }: { facts: [string, React.ReactNode][] }) {
  return (
    <dl className="facts">
      {facts
        .filter(([, value]) => value !== null && value !== undefined && value !== "")
        .map(([name, value]) => (
          <div key={name} style={{ display: "contents" }}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}
