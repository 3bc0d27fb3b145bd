// Processes that heron watches, as a tree, and the TLS targets in them.

import { Fragment, useEffect, useState } from "react";
import type { ProcessRow, Target } from "../api";
import { ago, pretty, program } from "../format";
import { words } from "../flaws";
import { Empty, Failure, Go, Tip } from "../parts/bits";
import * as Icon from "../parts/icons";
import { treeOf } from "../tree";
import { useAsk, useNow } from "../use";

export function ProcessesView() {
  const asked = useAsk<{ processes: ProcessRow[]; targets: Target[] }>("/api/processes?limit=1000");
  const [ended, setEnded] = useState(false);
  const [opened, setOpened] = useState<ReadonlySet<number>>(new Set());
  const now = useNow(3_000);
  const { reload } = asked;
  useEffect(reload, [now, reload]);
  const all = asked.data?.processes ?? [];
  const shown = ended ? all : all.filter((process) => process.ended_at === null || process.calls > 0);
  const toggle = (index: number) => {
    const next = new Set(opened);
    if (!next.delete(index)) next.add(index);
    setOpened(next);
  };
  return (
    <>
      <div className="bar">
        <h1>Processes</h1>
        <span className="dim narrow-off">what heron watches, and where it listens</span>
        <span className="grow" />
        <button type="button" className="btn" aria-pressed={ended} onClick={() => setEnded(!ended)}>
          Ended ones too
        </button>
      </div>
      <div className="scroll">
        {asked.error && !asked.data && <Failure sentence={asked.error} retry={asked.reload} />}
        {asked.data && shown.length === 0 && (
          <Empty title="No process is watched" icon={<Icon.Processes />}>
            <p>A capture file has no processes. To watch one, run it under heron or attach to it:</p>
            <pre>{"sudo heron exec -- COMMAND\nsudo heron attach PID"}</pre>
          </Empty>
        )}
        {shown.length > 0 && (
          <div className="page">
            <section className="card" style={{ overflow: "auto" }}>
              <table className="table">
                <thead>
                  <tr>
                    <th>Process</th>
                    <th className="num">Pid</th>
                    <th>Agent</th>
                    <th className="num">Calls</th>
                    <th>TLS</th>
                    <th className="num">Began</th>
                    <th className="num">State</th>
                  </tr>
                </thead>
                <tbody>
                  {treeOf(shown).map(({ row, depth }, index) => (
                    <Fragment key={`${row.pid}-${row.started_at}`}>
                      <tr className="go" onClick={() => toggle(index)} aria-expanded={opened.has(index)}>
                        <td style={{ maxWidth: 0, width: "46%" }}>
                          <div className="clip" style={{ paddingLeft: depth * 18 }}>
                            {depth > 0 && <span className="tree">└ </span>}
                            <b>{program(row.exe, row.comm)}</b> <span className="dim mono">{row.cmdline.slice(1).join(" ")}</span>
                          </div>
                        </td>
                        <td className="num mono">{row.pid}</td>
                        <td>{row.agent && row.agent !== "unknown" ? <span className="tag">{row.agent}</span> : <span className="faint">–</span>}</td>
                        <td className="num">{row.calls > 0 ? <Go to={`/calls?pid=${row.pid}&auxiliary=all`}>{row.calls}</Go> : <span className="faint">0</span>}</td>
                        <td>
                          <Targets targets={row.targets} />
                        </td>
                        <td className="num dim">{ago(row.started_at, now)}</td>
                        <td className="num">
                          <State row={row} />
                        </td>
                      </tr>
                      {opened.has(index) && (
                        <tr>
                          <td colSpan={7} style={{ background: "var(--sunken)" }}>
                            <ProcessFacts row={row} />
                          </td>
                        </tr>
                      )}
                    </Fragment>
                  ))}
                </tbody>
              </table>
            </section>
          </div>
        )}
      </div>
    </>
  );
}

function State({ row }: { row: ProcessRow }) {
  if (row.ended_at === null) return <span className="tag good">running</span>;
  const status = row.exit_status ?? 0;
  const signal = status & 0x7f;
  const code = status >> 8;
  if (signal) return <span className="tag bad">signal {signal}</span>;
  return <span className={`tag${code ? " warn" : ""}`}>exit {code}</span>;
}

function text(target: Target, ...names: string[]): string | null {
  for (const name of names) {
    const value = target[name];
    if (typeof value === "string" && value) return value;
    if (typeof value === "number") return String(value);
  }
  return null;
}

export function Targets({ targets }: { targets: Target[] }) {
  if (targets.length === 0) return <span className="faint">–</span>;
  return (
    <span style={{ display: "flex", gap: 5, flexWrap: "wrap" }}>
      {targets.map((target, index) => (
        <TargetTag key={index} target={target} />
      ))}
    </span>
  );
}

const KINDS: Record<string, string> = { firing: "good", attached_never_fired: "warn", refused: "bad" };
const SAID: Record<string, string> = {
  firing: "heron hears it",
  attached_never_fired: "attached, never fired: this program's TLS is somewhere else, or it has not spoken yet",
  refused: "not attached",
  gone: "its processes have ended",
};

function TargetTag({ target }: { target: Target }) {
  const state = text(target, "state") ?? "unknown";
  const kind = KINDS[state] ?? "";
  const what = text(target, "library", "name", "path", "file") ?? "TLS";
  const said = SAID[state] ?? words(state);
  const why = text(target, "reason", "why", "sentence");
  return (
    <Tip
      text={
        <>
          <b>{said}</b>
          {why ? `: ${why}` : ""}
          <br />
          {text(target, "path", "file")}
        </>
      }
    >
      <span className={`tag ${kind}`} tabIndex={0}>
        {what.split("/").pop()}
      </span>
    </Tip>
  );
}

function ProcessFacts({ row }: { row: ProcessRow }) {
  return (
    <dl className="facts">
      <dt>Executable</dt>
      <dd className="mono">{row.exe || "–"}</dd>
      <dt>Command line</dt>
      <dd className="mono">{row.cmdline.join(" ") || "–"}</dd>
      <dt>Folder</dt>
      <dd className="mono">{row.cwd || "–"}</dd>
      <dt>User id, parent</dt>
      <dd className="mono">
        {row.uid}, {row.parent ?? "not watched"}
      </dd>
      {row.container && (
        <>
          <dt>Container</dt>
          <dd className="mono">{row.container}</dd>
        </>
      )}
      {row.targets.map((target, index) => (
        <Fragment key={index}>
          <dt>TLS target</dt>
          <dd className="mono">
            {Object.entries(target)
              .filter(([name]) => name !== "pid")
              .map(([name, value]) => `${words(name)}: ${pretty(value)}`)
              .join(" · ")}
          </dd>
        </Fragment>
      ))}
    </dl>
  );
}
