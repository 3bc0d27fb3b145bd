// A body: decoded for reading, or as it was sent, for downloading.

import { useEffect, useState } from "react";
import { askBody, type Half } from "../api";
import { bytes } from "../format";
import { Highlighted } from "./text";
import { CopyButton } from "./bits";
import * as Icon from "./icons";

const SHOWN = 400_000;

type Props = { id: string; side: "request" | "response"; half: Half; live: boolean };

export function RawBody({ id, side, half, live }: Props) {
  const [text, setText] = useState<{ text: string | null; error: string | null }>({ text: null, error: null });
  const [asSent, setAsSent] = useState(false);
  const [all, setAll] = useState(false);
  useEffect(() => {
    if (half.body_bytes === 0) return;
    const abort = new AbortController();
    askBody(id, side, abort.signal).then(
      (text) => setText({ text, error: null }),
      (error: unknown) => {
        if (!abort.signal.aborted) setText({ text: null, error: error instanceof Error ? error.message : String(error) });
      },
    );
    return () => abort.abort();
  }, [id, side, half.body_bytes]);
  if (half.body_bytes === 0) return <p className="dim">{live && side === "response" ? "No body yet." : "There was no body."}</p>;
  const isJson = half.content_type?.includes("json") ?? side === "request";
  const formatted = text.text === null ? null : isJson && !asSent ? indent(text.text) : text.text;
  const shown = formatted !== null && !all ? formatted.slice(0, SHOWN) : formatted;
  return (
    <section className="card">
      <header>
        Body
        <span className="tag">{half.content_type ?? "type not said"}</span>
        {half.content_encoding && <span className="tag">{half.content_encoding}</span>}
        {half.kept_bytes < half.body_bytes && <span className="tag warn">only {bytes(half.kept_bytes)} kept</span>}
        <span className="grow" style={{ flex: 1 }} />
        {isJson && (
          <button type="button" className="btn ghost" aria-pressed={asSent} onClick={() => setAsSent(!asSent)}>
            {asSent ? "Indent" : "As sent"}
          </button>
        )}
        {formatted !== null && <CopyButton text={formatted} label="the body" />}
        <a className="btn ghost" href={`/api/calls/${id}/${side}/body`} download={`${id.slice(0, 12)}-${side}`} title="the bytes exactly as sent">
          <Icon.Download /> {bytes(half.body_bytes)}
        </a>
      </header>
      {text.error && <div className="body dim">{text.error}</div>}
      {shown !== null && (
        <div className="code" style={{ border: 0, borderRadius: "0 0 10px 10px" }}>
          <Highlighted text={shown} />
          {formatted !== null && shown.length < formatted.length && (
            <button type="button" className="btn" onClick={() => setAll(true)}>
              Show the remaining {bytes(formatted.length - shown.length)}
            </button>
          )}
        </div>
      )}
    </section>
  );
}

function indent(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
