// Sessions: all turns of one conversation of one agent.

import type { Session, SessionDetail } from "../api";
import { ago, clock, count, day, dollars, mostly, preciseMillis, span } from "../format";
import { useLive } from "../live";
import { AgentName, CopyButton, Empty, Failure, Go, Tile, TokenBar, TokenLegend } from "../parts/bits";
import * as Icon from "../parts/icons";
import { go } from "../router";
import { useAsk, useKeys, useNow, useThrottled } from "../use";
import { TurnCards } from "./turns";

export function SessionsView() {
  const asked = useAsk<{ sessions: Session[] }>("/api/sessions?limit=200");
  const reload = useThrottled(asked.reload, 2_000);
  useLive("turn", reload);
  useLive("reload", asked.reload);
  const now = useNow(5_000);
  const sessions = asked.data?.sessions;
  return (
    <>
      <div className="bar">
        <h1>Sessions</h1>
        <span className="dim narrow-off">conversations, each with all its turns and sub-agents</span>
      </div>
      <div className="scroll">
        {asked.error && <Failure sentence={asked.error} retry={asked.reload} />}
        {sessions?.length === 0 && (
          <Empty title="No sessions yet" icon={<Icon.Sessions />}>
            <p>A session appears with the first turn of a conversation. Heron recognises it from the messages themselves, and from the agent's own session id where one is sent.</p>
          </Empty>
        )}
        {sessions && sessions.length > 0 && (
          <div className="page">
            <section className="card" style={{ overflow: "auto" }}>
              <table className="table">
                <thead>
                  <tr>
                    <th>Agent</th>
                    <th>First prompt</th>
                    <th className="num">Turns</th>
                    <th className="num">Calls</th>
                    <th className="num">Tokens in</th>
                    <th className="num">out</th>
                    <th className="num">List price</th>
                    <th className="num">Last active</th>
                  </tr>
                </thead>
                <tbody>
                  {sessions.map((session) => (
                    <tr key={session.id} className="go" onClick={() => go(`/sessions/${session.id}`)}>
                      <td>
                        <AgentName agent={session.agent} process={null} />
                      </td>
                      <td style={{ maxWidth: 0, width: "55%" }}>
                        <Go to={`/sessions/${session.id}`} className="">
                          <div className="clip">{session.prompt || "(no prompt seen)"}</div>
                          <div className="clip faint">{session.models.join(", ")}</div>
                        </Go>
                      </td>
                      <td className="num">{session.turns}</td>
                      <td className="num">
                        {session.calls}
                        {session.errors > 0 && <div className="bad">{session.errors} failed</div>}
                      </td>
                      <td className="num">{count(session.usage.input_total)}</td>
                      <td className="num">{count(session.usage.output_total)}</td>
                      <td className="num">{dollars(session.cost)}</td>
                      <td className="num dim">{ago(session.last_at, now)}</td>
                    </tr>
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

export function SessionView({ id }: { id: string }) {
  const asked = useAsk<SessionDetail>(`/api/sessions/${id}`);
  const reload = useThrottled(asked.reload, 1_000);
  useLive("turn", (turn) => {
    if (turn.session_id === id) reload();
  });
  useLive("reload", asked.reload);
  useKeys({ Escape: () => go("/sessions") });
  const now = useNow(5_000);
  const session = asked.data;
  if (!session) return asked.error ? <Failure sentence={asked.error} retry={asked.reload} /> : null;
  return (
    <>
      <div className="bar">
        <Go to="/sessions" className="btn ghost" title="all sessions (Esc)">
          <Icon.Back />
        </Go>
        <h1>Session</h1>
        <AgentName agent={session.agent} process={null} />
        <span className="dim clip">{session.models.join(", ")}</span>
        <span className="grow" />
        <Go to={`/calls?session=${session.id}&auxiliary=all`}>its calls</Go>
        <CopyButton text={session.id} label="the session's id" />
      </div>
      <div className="scroll">
        <div className="page" style={{ paddingBottom: 0 }}>
          <div className="tiles">
            <Tile label="Turns" value={session.turns} />
            <Tile label="Model calls" value={session.calls} note={session.errors ? `${session.errors} failed` : "none failed"} />
            <Tile label="Input tokens" value={count(session.usage.input_total)} />
            <Tile label="Output tokens" value={count(session.usage.output_total)} />
            <Tile label="List price" value={dollars(session.cost)} note={mostly(session.cost)} />
            <Tile
              label="From first to last"
              value={span(preciseMillis(session.last_at) - preciseMillis(session.first_at))}
              note={`${day(session.first_at, now)} ${clock(session.first_at)}`}
            />
          </div>
          <TokenBar usage={session.usage} />
          <TokenLegend usage={session.usage} />
        </div>
        <TurnCards turns={session.turn_list} />
      </div>
    </>
  );
}
