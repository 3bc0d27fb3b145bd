// The frame: where one is, where one can go, how heron is.

import * as Dialog from "@radix-ui/react-dialog";
import * as Tooltip from "@radix-ui/react-tooltip";
import { type ReactNode, useEffect, useState } from "react";
import type { Finding } from "./api";
import { useHealth, useLink, useLive } from "./live";
import { Empty, Go } from "./parts/bits";
import * as Icon from "./parts/icons";
import { go, usePath } from "./router";
import { toggleTheme, useTheme } from "./theme";
import { useAsk, useKeys } from "./use";
import { CallsView } from "./views/calls";
import { EncryptedView } from "./views/encrypted";
import { FindingsView } from "./views/findings";
import { HealthView } from "./views/health";
import { MetricsView } from "./views/metrics";
import { ProcessesView } from "./views/processes";
import { SessionsView, SessionView } from "./views/sessions";
import { TurnsView } from "./views/turns";
import { TurnView } from "./views/turn";

const PLACES: [string, string, string, ReactNode][] = [
  ["calls", "Calls", "c", <Icon.Calls key="i" />],
  ["turns", "Turns", "t", <Icon.Turns key="i" />],
  ["sessions", "Sessions", "s", <Icon.Sessions key="i" />],
  ["findings", "Findings", "f", <Icon.Findings key="i" />],
  ["processes", "Processes", "p", <Icon.Processes key="i" />],
  ["encrypted", "Encrypted", "e", <Icon.Lock key="i" />],
  ["trends", "Trends", "m", <Icon.Metrics key="i" />],
  ["health", "Health", "h", <Icon.Health key="i" />],
];

export function App() {
  const { path } = usePath();
  const place = path[0] ?? "calls";
  const [help, setHelp] = useState(false);
  useKeys({ ...Object.fromEntries(PLACES.map(([name, , key]) => [key, () => go(`/${name}`)])), "?": () => setHelp(true), d: toggleTheme });
  const label = PLACES.find(([name]) => name === place)?.[1] ?? "heron";
  useEffect(() => {
    document.title = `${label} · heron`;
  }, [label]);
  return (
    <Tooltip.Provider delayDuration={250}>
      <div className="shell">
        <Side place={place} help={() => setHelp(true)} />
        <main className="main">
          <View place={place} id={path[1] ?? null} />
        </main>
        <Help open={help} setOpen={setHelp} />
      </div>
    </Tooltip.Provider>
  );
}

function View({ place, id }: { place: string; id: string | null }) {
  switch (place) {
    case "calls":
      return <CallsView open={id} />;
    case "turns":
      return id ? <TurnView key={id} id={id} /> : <TurnsView />;
    case "sessions":
      return id ? <SessionView key={id} id={id} /> : <SessionsView />;
    case "findings":
      return <FindingsView />;
    case "processes":
      return <ProcessesView />;
    case "encrypted":
      return <EncryptedView />;
    case "trends":
      return <MetricsView />;
    case "health":
      return <HealthView />;
    default:
      return (
        <Empty title="There is nothing here">
          <Go to="/calls">Go to the calls</Go>
        </Empty>
      );
  }
}

function Side({ place, help }: { place: string; help: () => void }) {
  const findings = useAsk<{ findings: Finding[] }>("/api/findings?limit=500");
  useLive("finding", findings.reload);
  const closed = useHealth()?.encrypted?.length ?? 0;
  const serious = findings.data?.findings.filter((finding) => finding.severity !== "info").length ?? 0;
  return (
    <nav className="side" aria-label="places">
      <Go to="/calls" className="brand">
        <img src="/heron.svg" alt="" />
        <span>heron</span>
      </Go>
      {PLACES.map(([name, label, key, icon]) => (
        <a
          key={name}
          href={`/${name}`}
          className="nav"
          title={`${label} (${key})`}
          aria-current={place === name ? "page" : undefined}
          onClick={(event) => {
            if (event.ctrlKey || event.metaKey) return;
            event.preventDefault();
            go(`/${name}`);
          }}
        >
          {icon}
          <span>{label}</span>
          {name === "findings" && serious > 0 && <span className="tally hot">{serious}</span>}
          {name === "encrypted" && closed > 0 && <span className="tally">{closed}</span>}
        </a>
      ))}
      <Foot help={help} />
    </nav>
  );
}

function Foot({ help }: { help: () => void }) {
  const link = useLink();
  const health = useHealth();
  const theme = useTheme();
  const lost = Object.values(health?.losses ?? {}).reduce((sum, n) => sum + n, 0);
  const state =
    link === "lost"
      ? ["bad", "heron has ended"]
      : link === "connecting"
        ? ["warn", "connecting"]
        : lost > 0
          ? ["warn", `live, ${lost} lost`]
          : health?.source === "store"
            ? ["good", "from the database"]
            : ["live", health?.source ? `live: ${health.source}` : "live"];
  return (
    <div className="foot">
      <div className="row" data-testid="link" data-link={link}>
        <span className={`dot ${state[0]}`} />
        <span className="clip">{state[1]}</span>
      </div>
      <div className="row">
        <span className="faint">{health?.version}</span>
        <button type="button" className="btn ghost" aria-label="keys" title="keys (?)" onClick={help}>
          <kbd>?</kbd>
        </button>
        <button type="button" className="btn ghost" style={{ marginLeft: 0 }} aria-label="light or dark" title="light or dark (d)" onClick={toggleTheme}>
          {theme === "dark" ? <Icon.Sun /> : <Icon.Moon />}
        </button>
      </div>
    </div>
  );
}

function Help({ open, setOpen }: { open: boolean; setOpen: (open: boolean) => void }) {
  const keys: [string, string][] = [
    ["j k", "next, previous"],
    ["Enter", "open"],
    ["Esc", "close, back"],
    ["/", "search"],
    ...PLACES.map(([, label, key]): [string, string] => [key, label]),
    ["d", "light or dark"],
  ];
  return (
    <Dialog.Root open={open} onOpenChange={setOpen}>
      <Dialog.Portal>
        <Dialog.Overlay className="veil" />
        <Dialog.Content className="dialog" aria-describedby={undefined}>
          <Dialog.Title asChild>
            <h2>Keys</h2>
          </Dialog.Title>
          <dl className="facts">
            {keys.map(([key, what]) => (
              <div key={key} style={{ display: "contents" }}>
                <dt>
                  <kbd>{key}</kbd>
                </dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
