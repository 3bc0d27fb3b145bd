// The shapes of docs/api.md, and how they are asked for.

/** US dollars at list price, by class of token. */
export type Cost = {
  input_uncached: number | null;
  cache_read: number | null;
  cache_write_5m: number | null;
  cache_write_1h: number | null;
  output_text: number | null;
  output_reasoning: number | null;
  total: number;
  currency: string;
  /** False when there is more that is not known. */
  complete: boolean;
};
export type Usage = {
  input_uncached: number | null;
  cache_read: number | null;
  cache_write_5m: number | null;
  cache_write_1h: number | null;
  output_text: number | null;
  output_reasoning: number | null;
  input_total: number | null;
  output_total: number | null;
};

export type Process = { pid: number; exe: string; comm: string; cmdline: string[] };
export type ToolCall = { id: string; name: string; arguments: unknown };

export type Call = {
  id: string;
  turn_id: string | null;
  session_id: string | null;
  wire_api: string;
  provider: string;
  operation: string;
  request_model: string | null;
  response_model: string | null;
  stream: boolean;
  status: number | null;
  error: { kind: string; message: string } | null;
  finish_reason: string | null;
  auxiliary: boolean;
  usage: Usage;
  cost: Cost | null;
  tool_calls: ToolCall[];
  tools_offered: number;
  messages: number;
  request_bytes: number;
  response_bytes: number;
  started_at: string;
  ttft_ms: number | null;
  duration_ms: number | null;
  flaws: string[];
  process: Process | null;
  client: string | null;
  server: string | null;
  state: "in_progress" | "done";
  preview: string;
  prompt: string;
  server_kind: string | null;
  hop_of?: string | null;
};

export type Content =
  | { type: "text"; text: string }
  | { type: "thinking"; text: string }
  | { type: "redacted_thinking" }
  | { type: "tool_call"; id: string; name: string; arguments: unknown; server_side?: boolean }
  | { type: "tool_result"; id: string; name: string | null; text: string; is_error: boolean }
  | { type: "media"; kind: string; media_type: string | null; reference: string | null; size: number }
  | { type: "refusal"; text: string }
  | { type: "other"; json: unknown };

export type Message = { role: "system" | "user" | "assistant" | "tool"; content: Content[]; hash: string };
export type Half = {
  headers: { name: string; value: string }[];
  body_bytes: number;
  kept_bytes: number;
  content_type: string | null;
  content_encoding: string | null;
};
export type Timing = {
  request_first: string;
  request_last: string | null;
  response_head: string | null;
  first_token: string | null;
  last_byte: string | null;
  token_gaps_ms: { count: number; p50: number | null; p90: number | null; p99: number | null; max: number | null };
};
export type ToolOffered = { name: string; description: string | null; schema: unknown };

export type CallDetail = Omit<Call, "messages"> & {
  message_count: number;
  messages: Message[];
  output: Message[];
  tools: ToolOffered[];
  method: string;
  target: string;
  authority: string | null;
  protocol: string;
  transport: string | null;
  parameters: Record<string, unknown>;
  request: Half;
  response: Half;
  timing: Timing;
  finish: string | null;
  response_id: string | null;
  previous_response_id: string | null;
  conversation: string | null;
  service_tier: string | null;
  ended_by: string | null;
};

export type TurnStatus = "complete" | "in_progress" | "interrupted" | "failed" | "cut";
export type Agent = { kind: string; version: string | null; recognised_by: string | null };
export type Turn = {
  id: string;
  session_id: string;
  parent_turn_id: string | null;
  agent: Agent;
  status: TurnStatus;
  prompt: string;
  answer: string;
  call_ids: string[];
  tool_calls: number;
  models: string[];
  usage: Usage;
  cost: Cost | null;
  started_at: string;
  duration_ms: number | null;
  process: Process | null;
  errors: number;
  time: { model_ms: number; tool_ms: number; user_ms: number; idle_ms: number };
};
export type Step =
  | { type: "call"; call_id: string; at: string; duration_ms: number | null }
  | {
      type: "tool";
      call_id: string;
      id: string;
      name: string;
      arguments: unknown;
      at: string;
      duration_ms: number | null;
      result: string | null;
      result_bytes: number | null;
      is_error: boolean;
      sub_turn: string | null;
    };
export type Finding = {
  kind: string;
  severity: "info" | "warning" | "critical";
  sentence: string;
  turn_id: string | null;
  session_id: string | null;
  call_ids: string[];
  at: string;
};
export type TurnDetail = Turn & { steps: Step[]; calls: Call[]; findings: Finding[]; sub_turns: Turn[] };
export type Session = {
  id: string;
  agent: Agent;
  first_at: string;
  last_at: string;
  turns: number;
  calls: number;
  errors: number;
  usage: Usage;
  cost: Cost | null;
  models: string[];
  prompt: string;
};
export type SessionDetail = Session & { turn_list: Turn[] };
export type Target = Record<string, unknown>;
export type ProcessRow = {
  pid: number;
  parent: number | null;
  exe: string;
  comm: string;
  cmdline: string[];
  cwd: string;
  uid: number;
  container: string | null;
  agent: string | null;
  calls: number;
  started_at: string;
  ended_at: string | null;
  exit_status: number | null;
  targets: Target[];
};
/// A connection of a packet source that stayed closed. Times are nanoseconds since 1970.
export type Encrypted = {
  client: string;
  server: string;
  server_name: string | null;
  first_seen: number;
  last_seen: number;
  sent_bytes: number;
  received_bytes: number;
  reason: string;
};
export type Health = {
  status: string;
  version: string;
  source: string | null;
  uptime_ms: number;
  database: unknown;
  counters: Record<string, Record<string, number>>;
  losses: Record<string, number>;
  seen_bytes: number;
  passed_bytes: number;
  filtered_bytes: number;
  targets: Target[];
  encrypted?: Encrypted[];
};
export type Percentiles = { p50: number | null; p90: number | null; p99: number | null };
export type MetricRow = {
  name?: string;
  at?: string;
  calls: number;
  errors: number;
  usage: Usage;
  cost: Cost | null;
  ttft_ms: Percentiles;
  duration_ms: Percentiles;
};
export type Metrics = MetricRow & {
  from: string;
  to: string;
  window: number;
  step_ms: number;
  models: MetricRow[];
  providers: MetricRow[];
  series: MetricRow[];
};

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

export async function ask<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await fetch(path, signal ? { signal } : {});
  if (!response.ok) {
    let sentence = `heron answered ${response.status}`;
    try {
      const body = (await response.json()) as { error?: string };
      if (body.error) sentence = body.error;
    } catch {
      // Not JSON: the status says enough.
    }
    throw new ApiError(sentence, response.status);
  }
  return (await response.json()) as T;
}

export async function askBody(id: string, side: "request" | "response", signal: AbortSignal): Promise<string> {
  const response = await fetch(`/api/calls/${id}/${side}/body?decoded=1`, { signal });
  if (!response.ok) throw new ApiError(`the body cannot be shown (${response.status}): download it as sent`, response.status);
  return response.text();
}
