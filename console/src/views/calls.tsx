// The live list of calls, newest first, with the opened call beside it.

import { memo, useCallback, useEffect, useRef, useState } from "react";
import { ask, type Call } from "../api";
import { clock, count, day, program, span } from "../format";
import { useHealth, useLive } from "../live";
import { apiQuery, type CallFilter, filterFrom, filterQuery, matches, merge, NO_FILTER, scrollTo, windowOf } from "../list";
import { CallStatus, Empty, Failure, Go, modelOf, TokenBar } from "../parts/bits";
import * as Icon from "../parts/icons";
import { go, usePath } from "../router";
import { useKeys, useThrottled } from "../use";
import { CallView } from "./call";

const PAGE = 100;
/// As in views.css.
const ROW_HEIGHT = 58;

type Answer = { calls: Call[]; next: string | null };
type List = { key: string; calls: Call[]; next: string | null; error: string | null; loaded: boolean };

const NOTHING: List = { key: "", calls: [], next: null, error: null, loaded: false };

/// The rows under a filter: pages from the API, changes from the stream.
function useCalls(filter: CallFilter) {
  const key = apiQuery(filter, PAGE, null);
  const [list, setList] = useState<List>(NOTHING);
  const [round, setRound] = useState(0);
  const asking = useRef(false);
  useEffect(() => {
    const abort = new AbortController();
    ask<Answer>(`/api/calls?${key}`, abort.signal).then(
      (answer) =>
        setList((old) =>
          old.key === key && old.loaded
            ? { ...old, calls: merge(old.calls, answer.calls), error: null }
            : { key, calls: answer.calls, next: answer.next, error: null, loaded: true },
        ),
      (error: unknown) => {
        if (!abort.signal.aborted) setList((old) => ({ ...old, key, error: String(error instanceof Error ? error.message : error), loaded: true }));
      },
    );
    return () => abort.abort();
  }, [key, round]);
  const reload = useCallback(() => setRound((round) => round + 1), []);

  // Events come faster than people read: they are put into the list a few times a second.
  const waiting = useRef(new Map<string, Call>());
  const settle = useThrottled(() => {
    const fresh = [...waiting.current.values()];
    waiting.current.clear();
    setList((old) => {
      const known = new Set(old.calls.map((call) => call.id));
      const rows = fresh.filter((call) => known.has(call.id) || matches(filter, call));
      const merged = merge(old.calls, rows).filter((call) => filter.auxiliary || !call.auxiliary);
      return { ...old, calls: merged };
    });
  }, 120);
  useLive("call", (call) => {
    waiting.current.set(call.id, call);
    settle();
  });
  useLive("reload", reload);

  const more = useCallback(() => {
    if (asking.current || list.next === null) return;
    asking.current = true;
    ask<Answer>(`/api/calls?${apiQuery(filter, PAGE, list.next)}`)
      .then((answer) => setList((old) => (old.key === key ? { ...old, calls: merge(old.calls, answer.calls), next: answer.next } : old)))
      .catch((error: unknown) => setList((old) => ({ ...old, error: String(error) })))
      .finally(() => {
        asking.current = false;
      });
  }, [filter, key, list.next]);
  return { list: list.key === key ? list : NOTHING, more, reload };
}

export function CallsView({ open }: { open: string | null }) {
  const { query, href } = usePath();
  const search = href.includes("?") ? href.slice(href.indexOf("?")) : "";
  const filter = filterFrom(query);
  const { list, more, reload } = useCalls(filter);
  const show = (id: string | null) => go(id ? `/calls/${id}${search}` : `/calls${search}`);
  const set = (change: Partial<CallFilter>) => go(`/calls${open ? `/${open}` : ""}${filterQuery({ ...filter, ...change })}`, true);
  return (
    <>
      <div className="bar">
        <h1>Calls</h1>
        <Filters filter={filter} set={set} calls={list.calls} />
      </div>
      <Chips filter={filter} set={set} />
      <div className={`split${open ? " open" : ""}`}>
        {list.error && list.calls.length === 0 ? (
          <Failure sentence={list.error} retry={reload} />
        ) : list.loaded && list.calls.length === 0 ? (
          <NoCalls filter={filter} clear={() => go("/calls", true)} />
        ) : (
          <Rows calls={list.calls} open={open} show={show} more={more} hasMore={list.next !== null} />
        )}
        {open && (
          <div className="detail">
            <CallView key={open} id={open} close={() => show(null)} />
          </div>
        )}
      </div>
    </>
  );
}

function Filters({ filter, set, calls }: { filter: CallFilter; set: (change: Partial<CallFilter>) => void; calls: Call[] }) {
  const [words, setWords] = useState(filter.q);
  const input = useRef<HTMLInputElement>(null);
  const later = useThrottled(() => set({ q: words }), 250);
  useKeys({ "/": () => input.current?.focus() });
  const models = [...new Set([filter.model, ...calls.map(modelOf)].filter(Boolean))].sort();
  const apis = [...new Set([filter.wire_api, ...calls.map((call) => call.wire_api)].filter(Boolean))].sort();
  return (
    <div className="filters grow">
      <label className="field">
        <Icon.Search />
        <input
          ref={input}
          value={words}
          placeholder="Search prompts, answers, tools, processes"
          aria-label="search calls"
          onChange={(event) => {
            setWords(event.target.value);
            later();
          }}
          onKeyDown={(event) => {
            if (event.key === "Escape") event.currentTarget.blur();
          }}
        />
        <kbd>/</kbd>
      </label>
      <select className="btn" aria-label="model" value={filter.model} onChange={(event) => set({ model: event.target.value })}>
        <option value="">All models</option>
        {models.map((model) => (
          <option key={model}>{model}</option>
        ))}
      </select>
      <select className="btn" aria-label="API" value={filter.wire_api} onChange={(event) => set({ wire_api: event.target.value })}>
        <option value="">All APIs</option>
        {apis.map((api) => (
          <option key={api}>{api}</option>
        ))}
      </select>
      <button type="button" className="btn" aria-pressed={filter.errors} onClick={() => set({ errors: !filter.errors })}>
        Errors
      </button>
      <button
        type="button"
        className="btn"
        aria-pressed={filter.auxiliary}
        title="Titles, probes, token counts and other calls that agents make beside the work"
        onClick={() => set({ auxiliary: !filter.auxiliary })}
      >
        Housekeeping
      </button>
    </div>
  );
}

function Chips({ filter, set }: { filter: CallFilter; set: (change: Partial<CallFilter>) => void }) {
  const chips = (["session", "turn", "pid"] as const).filter((name) => filter[name]);
  if (chips.length === 0) return null;
  return (
    <div className="chips">
      {chips.map((name) => (
        <span key={name} className="chip">
          {name} <span className="mono">{filter[name].slice(0, 12)}</span>
          <button type="button" aria-label={`remove the ${name} filter`} onClick={() => set({ [name]: "" })}>
            ×
          </button>
        </span>
      ))}
    </div>
  );
}

function NoCalls({ filter, clear }: { filter: CallFilter; clear: () => void }) {
  const filtered = filterQuery({ ...filter, auxiliary: false }) !== filterQuery(NO_FILTER);
  if (filtered) {
    return (
      <Empty title="No call fits these filters" icon={<Icon.Search />}>
        <button type="button" className="btn" onClick={clear}>
          Clear the filters
        </button>
      </Empty>
    );
  }
  return (
    <Empty title="No calls yet" icon={<Icon.Calls />}>
      <Closed />
      <p>Heron is listening. Calls appear here, while they stream, as soon as a watched agent talks to a model.</p>
      <pre>{"sudo heron exec -- claude\nsudo heron attach PID\nheron replay FILE.pcap"}</pre>
      <p>
        An agent runs and nothing shows? <code>heron ps</code> says what heron sees of it, and why not.
      </p>
    </Empty>
  );
}

/// A capture without calls may be one whose connections stayed closed.
function Closed() {
  const closed = useHealth()?.encrypted?.length ?? 0;
  if (closed === 0) return null;
  return (
    <p>
      <Go to="/encrypted">{closed === 1 ? "One connection is" : `${closed} connections are`} encrypted</Go>, and heron has no keys to open {closed === 1 ? "it" : "them"}.
    </p>
  );
}

type RowsProps = { calls: Call[]; open: string | null; show: (id: string | null) => void; more: () => void; hasMore: boolean };

function Rows({ calls, open, show, more, hasMore }: RowsProps) {
  const box = useRef<HTMLDivElement>(null);
  const [cursor, setCursor] = useState<string | null>(open);
  const [view, setView] = useState({ top: 0, height: window.innerHeight });
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const look = () => setView({ top: element.scrollTop, height: element.clientHeight || window.innerHeight });
    look();
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, []);
  const { first, last } = windowOf(view.top, view.height, ROW_HEIGHT, calls.length);
  useEffect(() => {
    if (hasMore && last >= calls.length - 20) more();
  }, [hasMore, last, calls.length, more]);
  const move = (by: number) => {
    const at = calls.findIndex((call) => call.id === (cursor ?? open));
    const next = Math.min(calls.length - 1, Math.max(0, at < 0 ? 0 : at + by));
    const id = calls[next]?.id;
    if (!id) return;
    setCursor(id);
    const element = box.current;
    if (element) element.scrollTop = scrollTo(next, element.scrollTop, element.clientHeight, ROW_HEIGHT);
    if (open) show(id);
  };
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    Enter: () => cursor && show(cursor),
    Escape: () => show(null),
  });
  const pick = useCallback(
    (id: string) => {
      setCursor(id);
      show(id);
    },
    [show],
  );
  return (
    <div className="calls">
      <div className="head">
        <span>Time</span>
        <span>Model</span>
        <span>Prompt and answer</span>
        <span className="narrow-off">Tokens</span>
        <span className="num narrow-off">First token</span>
        <span className="num">Duration</span>
        <span className="num">Status</span>
      </div>
      <div className="rows" ref={box} role="listbox" aria-label="calls" tabIndex={0}>
        <div style={{ height: calls.length * ROW_HEIGHT, position: "relative" }}>
          {calls.slice(first, last + 1).map((call, index) => (
            <CallRow key={call.id} call={call} top={(first + index) * ROW_HEIGHT} open={call.id === open} cursor={call.id === cursor} pick={pick} />
          ))}
        </div>
        {hasMore && <div className="more">loading older calls …</div>}
      </div>
    </div>
  );
}

type RowProps = { call: Call; top: number; open: boolean; cursor: boolean; pick: (id: string) => void };

const CallRow = memo(function CallRow({ call, top, open, cursor, pick }: RowProps) {
  const streaming = call.state === "in_progress";
  const kind = `${streaming ? " streaming" : ""}${call.error ? " failed" : ""}${cursor ? " cursor" : ""}`;
  const date = day(call.started_at, Date.now()).replace(/ \d{4}$/, "");
  const prompt = call.prompt || (call.messages > 0 ? "" : call.operation.replaceAll("_", " "));
  return (
    <div
      className={`call-row${kind}`}
      style={{ transform: `translateY(${top}px)` }}
      role="option"
      aria-selected={open}
      data-call={call.id}
      data-state={call.state}
      onClick={() => pick(call.id)}
    >
      <span className="time two">
        <span>{clock(call.started_at)}</span>
        {date !== "today" && <small className="clip">{date}</small>}
      </span>
      <span className="two only-wide">
        <span className="clip">{modelOf(call)}</span>
        <small className="clip">
          {call.process ? `${program(call.process.exe, call.process.comm)} · ${call.process.pid}` : (call.server_kind ?? call.provider)}
        </small>
      </span>
      <span className="two">
        <span className="clip prompt">
          {prompt || "…"} {call.auxiliary && <span className="tag">housekeeping</span>}
        </span>
        <span className="clip answer" data-testid="preview">
          <Answer call={call} />
        </span>
      </span>
      <span className="tokencell only-wide narrow-off">
        <TokenBar usage={call.usage} />
        <span className="pair">
          <span>{count(call.usage.input_total)} in</span>
          <span>{count(call.usage.output_total)} out</span>
        </span>
      </span>
      <span className="num dim only-wide narrow-off">{span(call.ttft_ms)}</span>
      <span className="num only-wide">{streaming ? <span className="faint">…</span> : span(call.duration_ms)}</span>
      <span className="num">
        <CallStatus call={call} />
      </span>
    </div>
  );
});

function Answer({ call }: { call: Call }) {
  if (call.error) return <>{call.error.message || call.error.kind}</>;
  const tools = call.tool_calls.map((tool) => tool.name).join(", ");
  const text = call.preview || (tools ? "" : call.state === "in_progress" ? "waiting for the first token" : "");
  // While it streams, the newest words matter, not the oldest.
  const shown = call.state === "in_progress" ? text.slice(-110) : text;
  return (
    <>
      {shown}
      {tools && <span className="dim"> → {tools}</span>}
      {call.state === "in_progress" && <span className="caret" />}
    </>
  );
}
