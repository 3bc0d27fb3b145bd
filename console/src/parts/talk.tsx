// A conversation: who said what, which tools were asked for, what came back.

import { useState } from "react";
import type { Content, Message } from "../api";
import { bytes, toolHint } from "../format";
import { Clamp, Json, Prose } from "./text";
import * as Icon from "./icons";

const ROLES = {
  system: ["System", <Icon.System key="s" />],
  user: ["User", <Icon.User key="u" />],
  assistant: ["Model", <Icon.Model key="m" />],
  tool: ["Tool results", <Icon.Result key="t" />],
} as const;

/// How many of the newest messages are shown before one asks for the rest.
const SHOWN = 8;

export function Talk({ messages, output, streaming }: { messages: Message[]; output: Message[]; streaming: boolean }) {
  const [all, setAll] = useState(false);
  const systems = messages.filter((message) => message.role === "system");
  const others = messages.filter((message) => message.role !== "system");
  const hidden = all ? 0 : Math.max(0, others.length - SHOWN);
  return (
    <div className="talk">
      {systems.length > 0 && <SystemPrompt messages={systems} />}
      {hidden > 0 && (
        <div className="cut">
          <button type="button" className="btn" onClick={() => setAll(true)}>
            Show {hidden} earlier {hidden === 1 ? "message" : "messages"}
          </button>
        </div>
      )}
      {others.slice(hidden).map((message, index) => (
        <Said key={`${message.hash}-${index + hidden}`} message={message} />
      ))}
      <div className="cut">{streaming ? "the answer, as it streams" : "the answer"}</div>
      {output.length === 0 && <p className="dim">{streaming ? "Nothing yet." : "There was no answer."}</p>}
      {output.map((message, index) => (
        <Said key={index} message={message} note={output.length > 1 ? `choice ${index + 1}` : null} streaming={streaming} />
      ))}
    </div>
  );
}

function SystemPrompt({ messages }: { messages: Message[] }) {
  const text = messages.flatMap((message) => message.content.map((content) => (content.type === "text" ? content.text : ""))).join("\n\n");
  return (
    <details className="block">
      <summary>
        <Icon.System />
        <span className="name">System prompt</span>
        <span className="dim clip">{text.trim().slice(0, 160)}</span>
        <span className="faint" style={{ marginLeft: "auto", whiteSpace: "nowrap" }}>
          {text.length.toLocaleString("en-US")} characters
        </span>
      </summary>
      <div className="in">
        <div className="prose">{text}</div>
      </div>
    </details>
  );
}

function Said({ message, note, streaming }: { message: Message; note?: string | null; streaming?: boolean }) {
  const onlyResults = message.content.length > 0 && message.content.every((content) => content.type === "tool_result");
  const role = onlyResults ? "tool" : message.role;
  const [label, icon] = ROLES[role];
  return (
    <div className={`msg ${role}`}>
      <div className="who">{icon}</div>
      <div className="stack">
        <div className="role">
          {label}
          {note ? <span className="faint">{note}</span> : null}
          {streaming ? <span className="dot live" /> : null}
        </div>
        {message.content.map((content, index) => (
          <Piece key={index} content={content} />
        ))}
      </div>
    </div>
  );
}

function Piece({ content }: { content: Content }) {
  switch (content.type) {
    case "text":
      return <Prose text={content.text} />;
    case "thinking":
      return (
        <details className="block thinking" open={content.text.length < 400}>
          <summary>
            <Icon.Brain />
            <span className="name">Reasoning</span>
            <span className="faint">{content.text.length.toLocaleString("en-US")} characters</span>
          </summary>
          <div className="in">
            <Prose text={content.text} />
          </div>
        </details>
      );
    case "redacted_thinking":
      return (
        <div className="block thinking">
          <div className="top">
            <Icon.Brain /> Reasoning, withheld by the provider
          </div>
        </div>
      );
    case "tool_call":
      return <ToolAsked name={content.name} args={content.arguments} serverSide={content.server_side ?? false} />;
    case "tool_result":
      return <ToolAnswered name={content.name} text={content.text} isError={content.is_error} />;
    case "media":
      return (
        <div className="block">
          <div className="top">
            <Icon.Media />
            <span className="name">{content.kind}</span>
            <span className="dim">{content.media_type}</span>
            <span className="dim clip">{content.reference ?? bytes(content.size)}</span>
          </div>
        </div>
      );
    case "refusal":
      return (
        <div className="block error">
          <div className="top">
            <Icon.Warning />
            <span className="name">Refused</span>
          </div>
          <div className="in">
            <Prose text={content.text} />
          </div>
        </div>
      );
    case "other":
      return (
        <details className="block">
          <summary>
            <span className="name">As sent</span>
          </summary>
          <div className="in">
            <Json value={content.json} />
          </div>
        </details>
      );
  }
}

export function ToolAsked({ name, args, serverSide }: { name: string; args: unknown; serverSide?: boolean }) {
  return (
    <details className="block">
      <summary>
        <Icon.Tool />
        <span className="name">{name}</span>
        <span className="hint clip">{toolHint(args)}</span>
        {serverSide && <span className="tag">run by the provider</span>}
      </summary>
      <div className="in">
        <Json value={args} />
      </div>
    </details>
  );
}

export function ToolAnswered({ name, text, isError }: { name: string | null; text: string; isError: boolean }) {
  return (
    <div className={`block${isError ? " error" : ""}`}>
      <div className="top">
        <Icon.Result />
        <span className="name">{isError ? "Error" : "Result"}</span>
        {name && <span className="hint">{name}</span>}
        <span className="faint" style={{ marginLeft: "auto" }}>
          {bytes(new TextEncoder().encode(text).length)}
        </span>
      </div>
      {text && (
        <div className="in">
          <Clamp length={text.length}>
            <pre>{text}</pre>
          </Clamp>
        </div>
      )}
    </div>
  );
}
