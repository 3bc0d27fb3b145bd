// The small things that every view is made of.

import * as Tooltip from "@radix-ui/react-tooltip";
import { type ReactElement, type ReactNode, useState } from "react";
import type { Agent, Call, Process, TurnStatus, Usage } from "../api";
import { buckets, count, program } from "../format";
import { go } from "../router";
import * as Icon from "./icons";

export function Tip({ text, children }: { text: ReactNode; children: ReactElement }) {
  return (
    <Tooltip.Root>
      <Tooltip.Trigger asChild>{children}</Tooltip.Trigger>
      <Tooltip.Portal>
        <Tooltip.Content className="tip" sideOffset={6} collisionPadding={8}>
          {text}
        </Tooltip.Content>
      </Tooltip.Portal>
    </Tooltip.Root>
  );
}

/// A link inside the console.
export function Go({ to, className, children, title }: { to: string; className?: string; children: ReactNode; title?: string }) {
  return (
    <a
      href={to}
      className={className ?? "link"}
      title={title}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        event.stopPropagation();
        go(to);
      }}
    >
      {children}
    </a>
  );
}

/// Something about what is shown that a person should know: what it is called, and a sentence.
export function Notice({ title, bad, children }: { title?: string; bad?: boolean; children: ReactNode }) {
  return (
    <div className={bad ? "notice bad" : "notice"}>
      <Icon.Warning />
      <span>
        {title !== undefined && <b>{title} </b>}
        {children}
      </span>
    </div>
  );
}

export function CopyButton({ text, label }: { text: string; label: string }) {
  const [done, setDone] = useState(false);
  const copy = () => {
    void navigator.clipboard.writeText(text).then(() => {
      setDone(true);
      setTimeout(() => setDone(false), 1_200);
    });
  };
  return (
    <button type="button" className="copy" onClick={copy} aria-label={`copy ${label}`} title={`copy ${label}`}>
      {done ? <Icon.Check /> : <Icon.Copy />}
    </button>
  );
}

export function Empty({ title, children, icon }: { title: string; children?: ReactNode; icon?: ReactNode }) {
  return (
    <div className="empty">
      {icon}
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Failure({ sentence, retry }: { sentence: string; retry?: () => void }) {
  return (
    <Empty title="This cannot be shown" icon={<Icon.Warning />}>
      <p>{sentence}</p>
      {retry && (
        <button type="button" className="btn" onClick={retry}>
          Try again
        </button>
      )}
    </Empty>
  );
}

export function TokenBar({ usage }: { usage: Usage }) {
  const parts = buckets(usage);
  if (parts.length === 0) return <div className="tokens" />;
  return (
    <div className="tokens" role="img" aria-label={parts.map((part) => `${part.label} ${part.tokens}`).join(", ")}>
      {parts.map((part) => (
        <i key={part.key} className={`k-${part.key}`} style={{ flex: part.tokens }} />
      ))}
    </div>
  );
}

export function TokenLegend({ usage }: { usage: Usage }) {
  const parts = buckets(usage);
  if (parts.length === 0) return <span className="faint">tokens not known</span>;
  return (
    <div className="legend">
      {parts.map((part) => (
        <span key={part.key}>
          <i className={`k-${part.key}`} />
          {part.label} <b>{count(part.tokens)}</b>
        </span>
      ))}
    </div>
  );
}

export function CallStatus({ call }: { call: Pick<Call, "state" | "status" | "error" | "flaws" | "stream"> }) {
  if (call.state === "in_progress") {
    return (
      <span className="tag accent">
        <span className="dot live" /> {call.status === null ? "waiting" : "streaming"}
      </span>
    );
  }
  if (call.error) {
    return (
      <Tip text={`${call.error.kind}: ${call.error.message}`}>
        <span className="tag bad">{call.status !== null && call.status >= 400 ? call.status : "error"}</span>
      </Tip>
    );
  }
  if (call.flaws.length > 0) {
    return (
      <Tip text={`not whole: ${call.flaws.join(", ")}`}>
        <span className="tag warn">{call.status ?? "no answer"}</span>
      </Tip>
    );
  }
  return <span className="tag good">{call.status ?? "–"}</span>;
}

const TURN_STATUS: Record<TurnStatus, [string, string]> = {
  complete: ["good", "complete"],
  in_progress: ["accent", "in progress"],
  interrupted: ["warn", "interrupted"],
  failed: ["bad", "failed"],
  cut: ["warn", "cut"],
};

export function TurnTag({ status }: { status: TurnStatus }) {
  const [kind, label] = TURN_STATUS[status];
  return (
    <span className={`tag ${kind}`}>
      {status === "in_progress" && <span className="dot live" />}
      {label}
    </span>
  );
}

export function AgentName({ agent, process }: { agent: Agent; process: Process | null }) {
  const name = agent.kind !== "unknown" && agent.kind ? agent.kind : process ? program(process.exe, process.comm) : "unknown agent";
  return (
    <span className="tag" title={agent.recognised_by ? `recognised by its ${agent.recognised_by}` : ""}>
      {name}
      {agent.version ? <span className="faint">{agent.version}</span> : null}
    </span>
  );
}

export function modelOf(call: Pick<Call, "request_model" | "response_model">): string {
  return call.response_model ?? call.request_model ?? "unknown model";
}

export function Tile({ label, value, note, tip }: { label: string; value: ReactNode; note?: ReactNode; tip?: string }) {
  return (
    <div className="tile" title={tip}>
      <div className="label">{label}</div>
      <div className="value">{value}</div>
      {note !== undefined && <div className="note">{note}</div>}
    </div>
  );
}
