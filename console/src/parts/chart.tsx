// A time series, drawn by uPlot in the theme's colours.

import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { MetricRow } from "../api";
import { millis } from "../format";
import { useTheme } from "../theme";

export type Line = {
  label: string;
  /// A colour variable of the theme.
  color: string;
  value: (row: MetricRow) => number | null;
  bars?: boolean;
  /// What a step without calls counts as; a hole when not given.
  empty?: number;
};

type Props = { lines: Line[]; rows: MetricRow[]; stepMs: number; from: string; to: string; format: (n: number) => string };

export function Chart({ lines, rows, stepMs, from, to, format }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const theme = useTheme();
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const style = getComputedStyle(document.documentElement);
    const color = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: color("--faint"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const plot = new uPlot(
      {
        width: element.clientWidth,
        height: 190,
        cursor: { points: { size: 6 } },
        scales: { x: { time: true }, y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
        axes: [{ ...axis, values: (_plot: uPlot, marks: number[]) => marks.map((at) => timeOf(at, stepMs)) }, { ...axis, size: 58, values: (_plot: uPlot, marks: number[]) => marks.map(format) }],
        series: [
          { value: (_plot: uPlot, at: number | null) => (at === null ? "–" : new Date(at * 1_000).toLocaleTimeString("en-GB")) },
          ...lines.map((line) => series(line, color(line.color), format)),
        ],
      },
      dataOf(lines, rows, stepMs, from, to),
      element,
    );
    const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: 190 }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [lines, rows, stepMs, from, to, format, theme]);
  return <div className="chart" ref={box} />;
}

/// A time on the axis: with its day where a step is long, with its seconds where it is short.
function timeOf(at: number, stepMs: number): string {
  const date = new Date(at * 1_000);
  if (stepMs >= 3_600_000) return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  const seconds = stepMs < 30_000 ? ({ second: "2-digit" } as const) : {};
  return date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...seconds });
}

function series(line: Line, color: string, format: (n: number) => string): uPlot.Series {
  const base: uPlot.Series = {
    label: line.label,
    stroke: color,
    width: 1.6,
    spanGaps: false,
    value: (_plot: uPlot, n: number | null) => (n === null ? "–" : format(n)),
  };
  if (!line.bars) return { ...base, points: { show: line.empty === undefined, size: 4, fill: color } };
  const paths = uPlot.paths.bars?.({ size: [0.75, 28], radius: 0.15 });
  return paths ? { ...base, fill: color, paths, points: { show: false } } : base;
}

/// Every step of the window, those without calls included.
function dataOf(lines: Line[], rows: MetricRow[], stepMs: number, from: string, to: string): uPlot.AlignedData {
  const start = millis(from);
  const steps = Math.max(1, Math.min(1_000, Math.ceil((millis(to) - start) / stepMs)));
  const at: number[] = Array.from({ length: steps }, (_, step) => (start + step * stepMs) / 1_000);
  const byStep = new Map(rows.map((row) => [Math.round((millis(row.at ?? from) - start) / stepMs), row]));
  const columns = lines.map((line) =>
    at.map((_, step) => {
      const row = byStep.get(step);
      return row ? line.value(row) : (line.empty ?? null);
    }),
  );
  return [at, ...columns];
}
