// Aggregates over a window: calls, tokens, latency, by model.

import { useEffect, useState } from "react";
import type { MetricRow, Metrics } from "../api";
import { count, dollars, millis, mostly, span } from "../format";
import { Empty, Failure, Tile, TokenBar, TokenLegend } from "../parts/bits";
import { Chart, type Line } from "../parts/chart";
import * as Icon from "../parts/icons";
import { useAsk, useNow } from "../use";

const WINDOWS: [number, string][] = [
  [60, "minute"],
  [300, "5 minutes"],
  [900, "15 minutes"],
  [3_600, "hour"],
  [21_600, "6 hours"],
  [86_400, "24 hours"],
  [604_800, "7 days"],
];

export function MetricsView() {
  const [chosen, setWindow] = useState<number | null>(null);
  const [found, setFound] = useState<number | null>(null);
  const window = chosen ?? found ?? 3_600;
  const asked = useAsk<Metrics>(`/api/metrics?window=${window}`);
  const now = useNow(5_000);
  const { reload } = asked;
  useEffect(reload, [now, reload]);
  const metrics = asked.data;
  // A replayed capture may last for seconds: until somebody chooses, the window is the one that its calls fill.
  useEffect(() => {
    if (!metrics || chosen !== null || metrics.window !== window || metrics.calls === 0) return;
    const first = metrics.series.find((row) => row.calls > 0)?.at;
    const tight = first ? WINDOWS.find(([seconds]) => seconds * 1_000 >= millis(metrics.to) - millis(first)) : undefined;
    if (tight && tight[0] * 4 <= window) setFound(tight[0]);
  }, [metrics, chosen, window]);
  const replayed = metrics !== null && now - millis(metrics.to) > 60_000;
  return (
    <>
      <div className="bar">
        <h1>Trends</h1>
        {metrics && replayed && <span className="dim narrow-off">up to the newest call, {new Date(millis(metrics.to)).toLocaleString("en-GB")}</span>}
        <span className="grow" />
        <select className="btn" aria-label="window" value={window} onChange={(event) => setWindow(Number(event.target.value))}>
          {WINDOWS.map(([seconds, label]) => (
            <option key={seconds} value={seconds}>
              Last {label}
            </option>
          ))}
        </select>
      </div>
      <div className="scroll">
        {asked.error && !metrics && <Failure sentence={asked.error} retry={asked.reload} />}
        {metrics?.calls === 0 && (
          <Empty title="No calls in this window" icon={<Icon.Metrics />}>
            <p>Choose a longer window, or let a watched agent do something.</p>
          </Empty>
        )}
        {metrics && metrics.calls > 0 && <Board metrics={metrics} />}
      </div>
    </>
  );
}

function Board({ metrics }: { metrics: Metrics }) {
  const minutes = metrics.window / 60;
  return (
    <div className="page">
      <div className="tiles">
        <Tile label="Calls" value={count(metrics.calls)} note={`${(metrics.calls / minutes).toFixed(metrics.calls / minutes < 10 ? 1 : 0)} a minute`} />
        <Tile label="Failed" value={count(metrics.errors)} note={`${((100 * metrics.errors) / metrics.calls).toFixed(1)}%`} />
        <Tile label="First token, median" value={span(metrics.ttft_ms.p50)} note={`p90 ${span(metrics.ttft_ms.p90)}`} />
        <Tile label="Duration, median" value={span(metrics.duration_ms.p50)} note={`p90 ${span(metrics.duration_ms.p90)}`} />
        <Tile label="Input tokens" value={count(metrics.usage.input_total)} note={cached(metrics)} />
        <Tile label="Output tokens" value={count(metrics.usage.output_total)} />
        <Tile label="List price" value={dollars(metrics.cost)} note={mostly(metrics.cost)} />
      </div>
      <div className="grid2">
        <section className="card">
          <header>Calls</header>
          <div className="body">
            <Chart lines={CALLS} rows={metrics.series} stepMs={metrics.step_ms} from={metrics.from} to={metrics.to} format={(n) => count(Math.round(n))} />
          </div>
        </section>
        <section className="card">
          <header>Latency</header>
          <div className="body">
            <Chart lines={LATENCY} rows={metrics.series} stepMs={metrics.step_ms} from={metrics.from} to={metrics.to} format={span} />
          </div>
        </section>
      </div>
      <section className="card">
        <header>Tokens</header>
        <div className="body" style={{ display: "grid", gap: 10 }}>
          <TokenBar usage={metrics.usage} />
          <TokenLegend usage={metrics.usage} />
          <Chart lines={TOKENS} rows={metrics.series} stepMs={metrics.step_ms} from={metrics.from} to={metrics.to} format={(n) => count(Math.round(n))} />
        </div>
      </section>
      <section className="card" style={{ overflow: "auto" }}>
        <header>By model</header>
        <table className="table">
          <thead>
            <tr>
              <th>Model</th>
              <th className="num">Calls</th>
              <th className="num">Failed</th>
              <th style={{ width: 180 }}>Tokens</th>
              <th className="num">in</th>
              <th className="num">out</th>
              <th className="num">First token p50</th>
              <th className="num">p99</th>
              <th className="num">Duration p50</th>
              <th className="num">p99</th>
            </tr>
          </thead>
          <tbody>
            {metrics.models.map((row) => (
              <ModelRow key={row.name} row={row} />
            ))}
          </tbody>
        </table>
      </section>
    </div>
  );
}

const CALLS: Line[] = [
  { label: "calls", color: "--model", value: (row) => row.calls || null, bars: true },
  { label: "failed", color: "--bad", value: (row) => row.errors || null, bars: true },
];
const LATENCY: Line[] = [
  { label: "first token p50", color: "--uncached", value: (row) => row.ttft_ms.p50 },
  { label: "first token p99", color: "--write5m", value: (row) => row.ttft_ms.p99 },
  { label: "duration p50", color: "--output", value: (row) => row.duration_ms.p50 },
];
const TOKENS: Line[] = [
  { label: "input", color: "--uncached", value: (row) => row.usage.input_total ?? 0, empty: 0 },
  { label: "cache read", color: "--read", value: (row) => row.usage.cache_read ?? 0, empty: 0 },
  { label: "output", color: "--output", value: (row) => row.usage.output_total ?? 0, empty: 0 },
];

function cached(row: MetricRow): string {
  const total = row.usage.input_total;
  if (!total || row.usage.cache_read === null) return "cache share not known";
  return `${((100 * row.usage.cache_read) / total).toFixed(0)}% read from cache`;
}

function ModelRow({ row }: { row: MetricRow }) {
  return (
    <tr>
      <td>{row.name}</td>
      <td className="num">{count(row.calls)}</td>
      <td className={`num${row.errors ? " bad" : " faint"}`}>{count(row.errors)}</td>
      <td style={{ verticalAlign: "middle" }}>
        <TokenBar usage={row.usage} />
      </td>
      <td className="num">{count(row.usage.input_total)}</td>
      <td className="num">{count(row.usage.output_total)}</td>
      <td className="num">{span(row.ttft_ms.p50)}</td>
      <td className="num dim">{span(row.ttft_ms.p99)}</td>
      <td className="num">{span(row.duration_ms.p50)}</td>
      <td className="num dim">{span(row.duration_ms.p99)}</td>
    </tr>
  );
}
