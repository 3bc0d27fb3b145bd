// Findings: what a person should look at, each with its evidence.

import { useState } from "react";
import type { Finding } from "../api";
import { clock, day } from "../format";
import { words } from "../flaws";
import { useLive } from "../live";
import { Empty, Failure, Go } from "../parts/bits";
import * as Icon from "../parts/icons";
import { useAsk, useNow } from "../use";

export function FindingsView() {
  const asked = useAsk<{ findings: Finding[] }>("/api/findings?limit=500");
  const [kind, setKind] = useState("");
  useLive("finding", asked.reload);
  useLive("reload", asked.reload);
  const findings = asked.data?.findings;
  const kinds = [...new Set(findings?.map((finding) => finding.kind))].sort();
  const shown = findings?.filter((finding) => !kind || finding.kind === kind);
  return (
    <>
      <div className="bar">
        <h1>Findings</h1>
        <span className="dim narrow-off">what deserves a look: loops, stalls, retry storms, cut answers, another model than asked for</span>
        <span className="grow" />
        {kinds.length > 1 && (
          <select className="btn" aria-label="kind" value={kind} onChange={(event) => setKind(event.target.value)}>
            <option value="">All kinds</option>
            {kinds.map((kind) => (
              <option key={kind} value={kind}>
                {words(kind)}
              </option>
            ))}
          </select>
        )}
      </div>
      <div className="scroll">
        {asked.error && <Failure sentence={asked.error} retry={asked.reload} />}
        {findings?.length === 0 && (
          <Empty title="Nothing to worry about" icon={<Icon.Check />}>
            <p>Heron looks at every turn for loops, stalled tools, streams that stopped short, retry storms, cut answers and answers by another model. It has found none.</p>
          </Empty>
        )}
        {shown && shown.length > 0 && (
          <div className="page">
            <section className="card">
              {shown.map((finding, index) => (
                <FindingRow key={index} finding={finding} withTime />
              ))}
            </section>
          </div>
        )}
      </div>
    </>
  );
}

export function FindingRow({ finding, withTime }: { finding: Finding; withTime?: boolean }) {
  const now = useNow(60_000);
  const call = finding.call_ids.at(-1);
  return (
    <div className={`finding ${finding.severity}`}>
      <Icon.Warning />
      <div>
        <div>{finding.sentence}</div>
        <div className="where">
          <span>{words(finding.kind)}</span>
          {withTime && finding.turn_id && <Go to={`/turns/${finding.turn_id}`}>the turn</Go>}
          {call && <Go to={`/calls/${call}?auxiliary=all`}>{finding.call_ids.length > 1 ? `the last of ${finding.call_ids.length} calls` : "the call"}</Go>}
        </div>
      </div>
      <span className="dim" style={{ whiteSpace: "nowrap" }} title={finding.at}>
        {withTime && day(finding.at, now) !== "today" ? `${day(finding.at, now)} ` : ""}
        {clock(finding.at)}
      </span>
    </div>
  );
}
