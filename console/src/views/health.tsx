// How heron itself is: what it lost, what it let through, what each stage counted.

import type { Health } from "../api";
import { bytes, count, span } from "../format";
import { LOSSES, words } from "../flaws";
import { useHealth } from "../live";
import { Empty, Notice, Tile } from "../parts/bits";
import * as Icon from "../parts/icons";
import { useAsk } from "../use";
import { Targets } from "./processes";

export function HealthView() {
  const asked = useAsk<Health>("/api/health");
  const health = useHealth() ?? asked.data;
  if (!health) {
    return asked.error ? (
      <Empty title="Heron does not answer" icon={<Icon.Warning />}>
        <p>{asked.error}</p>
      </Empty>
    ) : null;
  }
  const lost = Object.entries(health.losses).filter(([, n]) => n > 0);
  const reasons = (health as Health & { reasons?: unknown; trouble?: unknown }).reasons;
  return (
    <>
      <div className="bar">
        <h1>Health</h1>
        <span className={`tag ${health.status === "ok" ? "good" : "warn"}`}>{health.status}</span>
        <span className="grow" />
        <a className="link" href="/metrics" target="_blank" rel="noreferrer">
          Prometheus metrics
        </a>
      </div>
      <div className="scroll">
        <div className="page">
          <div className="tiles">
            <Tile label="Version" value={health.version} />
            <Tile label="Source" value={health.source ?? "–"} />
            <Tile label="Up" value={span(health.uptime_ms)} />
            <Tile label="Lost events" value={count(lost.reduce((sum, [, n]) => sum + n, 0))} note={lost.length ? "see below" : "nothing was lost"} />
            <Tile label="Database" value={<DatabaseName database={health.database} />} />
          </div>
          {Array.isArray(reasons) &&
            reasons.map((reason, index) => <Notice key={index}>{String(reason)}</Notice>)}
          {lost.map(([name, n]) => (
            <Notice title={`${words(name)}: ${count(n)}`} key={name}>
              {LOSSES[name] ?? ""}
            </Notice>
          ))}
          <Filter health={health} />
          <div className="grid3">
            {stagesOf(health).map(([stage, counters]) => (
              <section className="card" key={stage}>
                <header>{words(stage)}</header>
                <div className="body">
                  {Object.keys(counters).length === 0 && <span className="dim">nothing yet</span>}
                  <Counters counters={counters} losses={health.losses} />
                </div>
              </section>
            ))}
          </div>
          {health.targets.length > 0 && (
            <section className="card">
              <header>TLS targets</header>
              <div className="body">
                <Targets targets={health.targets} />
              </div>
            </section>
          )}
        </div>
      </div>
    </>
  );
}

/// The stages in the order in which data flows; others follow.
const FLOW = ["kernel", "capture", "source", "conn", "http", "wire", "turn", "store"];

function stagesOf(health: Health): [string, Record<string, number>][] {
  const place = (stage: string) => (FLOW.includes(stage) ? FLOW.indexOf(stage) : FLOW.length);
  return Object.entries(health.counters).sort(([a], [b]) => place(a) - place(b));
}

/// What counted something; the zeros are one click away.
function Counters({ counters, losses }: { counters: Record<string, number>; losses: Record<string, number> }) {
  const all = Object.entries(counters);
  const zeros = all.filter(([, n]) => n === 0);
  return (
    <>
      {all
        .filter(([, n]) => n > 0)
        .map(([name, n]) => (
          <div key={name} className={`counter${name in losses || /lost|dropped/.test(name) ? " lost" : ""}`}>
            <span>{words(name)}</span>
            <span>{name.endsWith("bytes") ? bytes(n) : n.toLocaleString("en-US")}</span>
          </div>
        ))}
      {zeros.length > 0 && (
        <details className="faint">
          <summary style={{ cursor: "pointer", fontSize: 12.5 }}>{zeros.length} at zero</summary>
          {zeros.map(([name]) => (
            <div key={name} className="counter">
              <span>{words(name)}</span>
              <span>0</span>
            </div>
          ))}
        </details>
      )}
    </>
  );
}

function DatabaseName({ database }: { database: unknown }) {
  const text = typeof database === "string" ? database : typeof database === "object" && database !== null ? ((database as { path?: string }).path ?? "") : "";
  if (!text) return <span style={{ fontSize: 15 }}>in memory</span>;
  return (
    <span className="mono clip" style={{ display: "block", fontSize: 13, lineHeight: "28px" }} title={text}>
      {text.split("/").pop()}
    </span>
  );
}

/// What the kernel's filter did: what was looked at, and what was let through.
function Filter({ health }: { health: Health }) {
  const { seen_bytes: seen, passed_bytes: passed, filtered_bytes: filtered } = health;
  if (seen + passed + filtered === 0) return null;
  const total = Math.max(seen, passed + filtered, 1);
  return (
    <section className="card">
      <header>The kernel's filter</header>
      <div className="body" style={{ display: "grid", gap: 10 }}>
        <div className="split-bar">
          <i className="k-model" style={{ flex: passed / total }} />
          <i className="k-idle" style={{ flex: Math.max(0, total - passed) / total }} />
        </div>
        <div className="legend">
          <span>
            <i className="k-model" /> let through as LLM traffic <b>{bytes(passed)}</b>
          </span>
          <span>
            <i className="k-idle" /> counted in the kernel and never copied <b>{bytes(filtered)}</b>
          </span>
        </div>
      </div>
    </section>
  );
}
