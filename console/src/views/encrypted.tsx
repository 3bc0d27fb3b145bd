// Connections of packet sources that heron could not open: what can be said of them all the same.

import { useState } from "react";
import type { Encrypted, Health } from "../api";
import { bytes, clock, count, span } from "../format";
import { useHealth } from "../live";
import { Empty } from "../parts/bits";
import * as Icon from "../parts/icons";
import { useAsk } from "../use";

export function EncryptedView() {
  const asked = useAsk<Health>("/api/health");
  const health = useHealth() ?? asked.data;
  const [wanted, setWanted] = useState("");
  if (!health) return null;
  const all = health.encrypted ?? [];
  const shown = all.filter((one) => `${one.server_name ?? ""} ${one.server} ${one.client}`.includes(wanted)).reverse();
  return (
    <>
      <div className="bar">
        <h1>Encrypted</h1>
        <span className="dim narrow-off">connections that passed by closed: their calls are not known</span>
        <span className="grow" />
        {all.length > 0 && (
          <label className="field">
            <Icon.Search />
            <input value={wanted} placeholder="Name or address" aria-label="search connections" onChange={(event) => setWanted(event.target.value)} />
          </label>
        )}
      </div>
      <div className="scroll">
        {all.length === 0 ? <NothingClosed source={health.source} /> : <Table shown={shown} />}
      </div>
    </>
  );
}

function NothingClosed({ source }: { source: string | null }) {
  return (
    <Empty title="No connection stayed closed" icon={<Icon.Lock />}>
      {source === "ebpf" ? (
        <p>Heron reads where the programs themselves hold plaintext: nothing has to be opened.</p>
      ) : (
        <p>Encrypted connections of a capture that cannot be opened are listed here, with their server&apos;s name, times and sizes.</p>
      )}
    </Empty>
  );
}

function Table({ shown }: { shown: Encrypted[] }) {
  return (
    <div className="page">
      <p className="dim" style={{ margin: 0 }}>
        Keys open them: <code>--keylog FILE</code> takes what programs log when <code>SSLKEYLOGFILE</code> is set. On the host itself{" "}
        <code>heron exec</code> needs no keys.
      </p>
      <section className="card" style={{ overflow: "auto" }}>
        <table className="table" data-testid="encrypted">
          <thead>
            <tr>
              <th>Server</th>
              <th>Client</th>
              <th className="num">First seen</th>
              <th className="num">Lasted</th>
              <th className="num">Sent</th>
              <th className="num">Received</th>
              <th>Closed, because</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((one) => (
              <Row one={one} key={`${one.client} ${one.server} ${one.first_seen}`} />
            ))}
          </tbody>
        </table>
        {shown.length === 0 && <div className="body dim">No connection fits.</div>}
      </section>
      {shown.length >= 1_000 && <p className="faint">Of {count(shown.length)} and more, the newest are shown.</p>}
    </div>
  );
}

function Row({ one }: { one: Encrypted }) {
  return (
    <tr>
      <td>
        <b>{one.server_name ?? "name not seen"}</b> <span className="dim mono">{one.server}</span>
      </td>
      <td className="mono dim">{one.client}</td>
      <td className="num dim">{clock(new Date(one.first_seen / 1e6).toISOString())}</td>
      <td className="num">{span((one.last_seen - one.first_seen) / 1e6)}</td>
      <td className="num">{bytes(one.sent_bytes)}</td>
      <td className="num">{bytes(one.received_bytes)}</td>
      <td>
        <span className="tag warn">encrypted</span> {one.reason}
      </td>
    </tr>
  );
}
