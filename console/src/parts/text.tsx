// Text as models and agents write it: fenced code, inline code and bold are shown as such; nothing is ever HTML.

import { Fragment, type ReactNode, useState } from "react";
import { pretty } from "../format";
import { splitReminders } from "../reminders";

const LONG = 1_400;

/// A long text that can be opened.
export function Clamp({ length, children }: { length: number; children: ReactNode }) {
  const [open, setOpen] = useState(false);
  if (length <= LONG) return <>{children}</>;
  return (
    <div>
      <div className={`clamp${open ? "" : " shut"}`}>{children}</div>
      <button type="button" className="btn ghost" onClick={() => setOpen(!open)}>
        {open ? "Show less" : `Show all (${length.toLocaleString("en-US")} characters)`}
      </button>
    </div>
  );
}

export function Prose({ text }: { text: string }) {
  const reminders = splitReminders(text);
  return (
    <Clamp length={text.length}>
      <div className="prose">
        {reminders.map((part, index) =>
          part.tag ? (
            <details key={index} className="block thinking">
              <summary>
                <span className="name">{part.tag}</span> <span className="faint">added by the agent</span>
              </summary>
              <div className="in">{part.text}</div>
            </details>
          ) : (
            <Fenced key={index} text={part.text} />
          ),
        )}
      </div>
    </Clamp>
  );
}

function Fenced({ text }: { text: string }) {
  const parts = text.split(/```/);
  return (
    <>
      {parts.map((part, index) => {
        if (index % 2 === 0) return <Inline key={index} text={part} />;
        const code = part.replace(/^[\w+-]*\n/, "");
        return (
          <pre key={index}>
            <code>{code.replace(/\n$/, "")}</code>
          </pre>
        );
      })}
    </>
  );
}

function Inline({ text }: { text: string }) {
  const parts = text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/);
  return (
    <>
      {parts.map((part, index) => {
        if (index % 2 === 0) return <Fragment key={index}>{part}</Fragment>;
        return part.startsWith("`") ? <code key={index}>{part.slice(1, -1)}</code> : <b key={index}>{part.slice(2, -2)}</b>;
      })}
    </>
  );
}

/// JSON with its keys, strings and numbers told apart.
export function Json({ value }: { value: unknown }) {
  return <Highlighted text={pretty(value)} />;
}

const TOO_LONG = 200_000;

export function Highlighted({ text }: { text: string }) {
  if (text.length > TOO_LONG) return <pre>{text}</pre>;
  const parts = text.split(/("(?:[^"\\\n]|\\.)*"(?:\s*:)?|\b-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b|^(?:event|data|id|retry):|^:.*$)/m);
  return (
    <pre>
      {parts.map((part, index) => {
        if (index % 2 === 0) return <Fragment key={index}>{part}</Fragment>;
        const kind = part.endsWith(":") ? (part.startsWith('"') ? "jk" : "ev") : part.startsWith('"') ? "js" : part.startsWith(":") ? "ev" : "jn";
        return (
          <span key={index} className={kind}>
            {part}
          </span>
        );
      })}
    </pre>
  );
}
