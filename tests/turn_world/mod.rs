//! A small language for telling the turn stage what agents do: chats that keep a history, a clock that only moves when
//! told, and a summary of what came out.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use heron::event::{ConnId, Endpoint, Nanos, ProcId, ProcessChange, ProcessEvent, ProcessInfo};
use heron::http::{Header, Protocol};
use heron::turn::{Config, Finding, Input, Placement, Stage, Step, Turn, TurnId, TurnStatus, TurnUpdate};
use heron::wire::{
    Call, CallError, CallId, CallState, Content, Finish, Half, Message, MessageHash, Operation, Role, Times, ToolCall,
    ToolOffered, Usage, WireApi,
};
use serde_json::{Map, Value, json};

pub const SECOND: u64 = 1_000_000_000;
pub const MILLI: u64 = 1_000_000;
pub const DAY: u64 = 24 * 3600 * SECOND;

/// What of the calls' identity the stage gets to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// Headers, processes and connections as they are.
    All,
    /// No header that identifies anything.
    NoHeaders,
    /// No such header, no process, every call on a connection of its own.
    Nothing,
}

pub const SIGHTS: [Sight; 3] = [Sight::All, Sight::NoHeaders, Sight::Nothing];

/// One agent's conversation as the agent keeps it.
#[derive(Clone)]
pub struct Chat {
    pub history: Vec<Message>,
    pub tools: Vec<&'static str>,
    pub session: Option<String>,
    pub headers: Vec<(String, String)>,
    pub process: Option<u32>,
    pub conn: u64,
    pub model: String,
    pub answered_model: Option<String>,
    pub api: WireApi,
    pub server: String,
    pub client: Option<String>,
    pub parameters: Map<String, Value>,
    pub method: &'static str,
    pub previous_response_id: Option<String>,
    pub response_id: Option<String>,
    pub usage: Usage,
    pub operation: Operation,
    /// How long a call takes.
    pub takes: u64,
}

pub fn chat(process: u32, conn: u64) -> Chat {
    Chat {
        history: Vec::new(),
        tools: vec!["Bash", "Read", "Task"],
        session: None,
        headers: Vec::new(),
        process: Some(process),
        conn,
        model: "m-1".into(),
        answered_model: None,
        api: WireApi::AnthropicMessages,
        server: "192.0.2.1:443".into(),
        client: None,
        parameters: Map::new(),
        method: "POST",
        previous_response_id: None,
        response_id: None,
        usage: Usage {
            input_uncached: Some(10),
            output_text: Some(5),
            input_total: Some(10),
            output_total: Some(5),
            ..Usage::default()
        },
        operation: Operation::Chat,
        takes: SECOND,
    }
}

pub fn message(role: Role, content: Vec<Content>) -> Message {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{role:?}").as_bytes());
    for part in &content {
        let canonical = match part {
            Content::ToolCall(call) => format!("call {} {}", call.name, call.arguments),
            Content::ToolResult { text, is_error, .. } => format!("result {text} {is_error}"),
            Content::Thinking { .. } | Content::RedactedThinking => continue,
            Content::Text { text } => format!("text {}", text.trim()),
            other => format!("{other:?}"),
        };
        hasher.update(canonical.as_bytes());
    }
    let mut hash = [0; 16];
    hasher.finalize_xof().fill(&mut hash);
    Message { role, content, hash: MessageHash(hash) }
}

pub fn text(text: &str) -> Content {
    Content::Text { text: text.into() }
}

pub fn tool(id: &str, name: &str, arguments: Value) -> Content {
    Content::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments, server_side: false })
}

pub fn result(id: &str, text: &str) -> Content {
    Content::ToolResult { id: id.into(), name: None, text: text.into(), is_error: false }
}

impl Chat {
    pub fn in_session(mut self, session: &str) -> Chat {
        self.session = Some(session.into());
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Chat {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn without_tools(mut self) -> Chat {
        self.tools.clear();
        self
    }

    pub fn system(&mut self, words: &str) -> &mut Chat {
        self.history.push(message(Role::System, vec![text(words)]));
        self
    }

    pub fn user(&mut self, words: &str) -> &mut Chat {
        self.say(vec![text(words)])
    }

    pub fn say(&mut self, content: Vec<Content>) -> &mut Chat {
        self.history.push(message(Role::User, content));
        self
    }

    pub fn result(&mut self, id: &str, words: &str) -> &mut Chat {
        self.results(vec![result(id, words)])
    }

    pub fn results(&mut self, content: Vec<Content>) -> &mut Chat {
        self.history.push(message(Role::Tool, content));
        self
    }
}

/// How a call ends.
#[derive(Clone)]
pub enum Reply {
    /// An answer.
    Says(Vec<Content>),
    /// An HTTP error.
    Status(u16),
    /// The client went away after some of the answer.
    Aborted(Vec<Content>),
    /// An answer cut by a token limit.
    Long(Vec<Content>),
    /// The stream ended before the answer did.
    Cut(Vec<Content>),
}

pub fn says(words: &str) -> Reply {
    Reply::Says(vec![text(words)])
}

pub fn asks(id: &str, name: &str, arguments: Value) -> Reply {
    Reply::Says(vec![tool(id, name, arguments)])
}

/// The observed world.
pub struct World {
    pub stage: Stage,
    pub now: u64,
    pub sight: Sight,
    /// Tells the stage of calls under way and of passing time too.
    pub chatty: bool,
    pub updates: Vec<TurnUpdate>,
    pub calls: Vec<Call>,
    pub names: BTreeMap<CallId, String>,
    pub placed: BTreeMap<CallId, Placement>,
    pub turns: BTreeMap<TurnId, Turn>,
    pub order: Vec<TurnId>,
    pub findings: Vec<Finding>,
    next: u64,
}

const IDENTIFYING: [&str; 3] = ["host", "content-type", "accept"];

impl World {
    pub fn new(sight: Sight) -> World {
        World::with(sight, Config::default())
    }

    pub fn with(sight: Sight, config: Config) -> World {
        World {
            stage: Stage::new(config),
            now: 1_000 * SECOND,
            sight,
            chatty: false,
            updates: Vec::new(),
            calls: Vec::new(),
            names: BTreeMap::new(),
            placed: BTreeMap::new(),
            turns: BTreeMap::new(),
            order: Vec::new(),
            findings: Vec::new(),
            next: 0,
        }
    }

    pub fn wait(&mut self, span: u64) {
        self.now += span;
    }

    /// Makes a call now and waits for its end; the answer joins the history.
    pub fn call(&mut self, chat: &mut Chat, name: &str, reply: Reply) -> CallId {
        let call = self.make(chat, name, self.now, self.now + chat.takes, &reply);
        self.now += chat.takes;
        remember(chat, &reply);
        self.done(call)
    }

    /// Makes a call that lies somewhere else in time; it is told to the stage at once.
    pub fn call_at(&mut self, chat: &mut Chat, name: &str, from: u64, to: u64, reply: Reply) -> CallId {
        let call = self.make(chat, name, from, to, &reply);
        remember(chat, &reply);
        self.done(call)
    }

    pub fn done(&mut self, call: Call) -> CallId {
        let id = call.id;
        if self.chatty {
            let mut under_way = call.clone();
            (under_way.state, under_way.output, under_way.finish) = (CallState::InProgress, Vec::new(), None);
            (under_way.error, under_way.status, under_way.usage) = (None, None, Usage::default());
            under_way.times = Times { request_first: call.times.request_first, ..Times::default() };
            self.push(Input::Progress(&under_way));
            self.push(Input::Progress(&under_way));
            self.push(Input::Tick(call.times.request_first));
        }
        self.push(Input::Done(&call));
        if self.chatty {
            self.push(Input::Tick(call.times.last_byte.unwrap()));
        }
        self.calls.push(call);
        id
    }

    pub fn push(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.stage.push(input, &mut out);
        for update in &out {
            match update {
                TurnUpdate::Placed(placement) => {
                    self.placed.insert(placement.call_id, *placement);
                }
                TurnUpdate::Turn(turn) => {
                    if self.turns.insert(turn.id, (**turn).clone()).is_none() {
                        self.order.push(turn.id);
                    }
                }
                TurnUpdate::Dropped(id) => {
                    self.turns.remove(id);
                    self.order.retain(|known| known != id);
                }
                TurnUpdate::Finding(finding) => self.findings.push((**finding).clone()),
            }
        }
        self.updates.extend(out);
    }

    pub fn exec(&mut self, pid: u32, parent: Option<u32>, cmdline: &[&str]) {
        let info = ProcessInfo {
            exe: cmdline[0].into(),
            comm: cmdline[0].rsplit('/').next().unwrap().into(),
            cmdline: cmdline.iter().map(|word| (*word).into()).collect(),
            ..ProcessInfo::default()
        };
        self.process(pid, ProcessChange::Exec { parent: parent.map(process), info: Arc::new(info) });
    }

    pub fn exit(&mut self, pid: u32) {
        self.process(pid, ProcessChange::Exit { status: 0 });
    }

    fn process(&mut self, pid: u32, change: ProcessChange) {
        if self.sight != Sight::Nothing {
            let event = ProcessEvent { process: process(pid), at: Nanos(self.now), change };
            self.push(Input::Process(&event));
        }
    }

    pub fn end(&mut self) {
        self.push(Input::End);
    }

    pub fn make(&mut self, chat: &Chat, name: &str, from: u64, to: u64, reply: &Reply) -> Call {
        self.next += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next.to_be_bytes());
        let id = CallId(id);
        self.names.insert(id, name.into());
        let headers: Vec<Header> = chat
            .headers
            .iter()
            .filter(|(name, _)| self.sight == Sight::All || IDENTIFYING.contains(&name.as_str()))
            .map(|(name, value)| Header { name: name.clone(), value: value.clone() })
            .collect();
        let mut call = Call {
            id,
            conn: ConnId(if self.sight == Sight::Nothing { 10_000 + self.next } else { chat.conn }),
            state: CallState::Done,
            process: chat.process.filter(|_| self.sight != Sight::Nothing).map(process),
            client: chat.client.as_ref().map(|address| Endpoint::Inet(address.parse().unwrap())),
            server: Some(Endpoint::Inet(chat.server.parse().unwrap())),
            transport: None,
            protocol: Protocol::Http1,
            method: chat.method.into(),
            target: "/v1/messages".into(),
            authority: Some(chat.server.clone()),
            wire_api: chat.api,
            provider: "anthropic".into(),
            server_kind: None,
            operation: chat.operation,
            request_model: Some(chat.model.clone()),
            response_model: Some(chat.answered_model.clone().unwrap_or_else(|| chat.model.clone())),
            response_id: chat.response_id.clone(),
            previous_response_id: chat.previous_response_id.clone(),
            conversation_hint: chat.session.clone().filter(|_| self.sight == Sight::All),
            parameters: chat.parameters.clone(),
            stream: true,
            messages: chat.history.iter().cloned().map(Arc::new).collect(),
            tools_offered: chat
                .tools
                .iter()
                .map(|name| ToolOffered { name: (*name).into(), ..ToolOffered::default() })
                .collect(),
            output: Vec::new(),
            usage: chat.usage,
            service_tier: None,
            finish_reason: None,
            finish: None,
            status: Some(200),
            error: None,
            times: Times {
                request_first: Nanos(from),
                request_last: Some(Nanos(from + MILLI)),
                response_head: Some(Nanos(from + 2 * MILLI)),
                first_token: Some(Nanos(from + (to - from) / 2)),
                last_byte: Some(Nanos(to)),
                token_gaps: Vec::new(),
            },
            request: Half { headers, ..Half::default() },
            response: Half::default(),
            answered: true,
            ended_by: None,
            flaws: Vec::new(),
        };
        finish(&mut call, reply);
        call
    }

    /// One line per turn, in the order of their beginnings: status, parent's prompt, prompt, names of calls, answer.
    pub fn told(&self) -> Vec<String> {
        let mut turns: Vec<&Turn> = self.order.iter().filter_map(|id| self.turns.get(id)).collect();
        turns.sort_by_key(|turn| (turn.started_at, turn.call_ids.first().copied()));
        turns.into_iter().map(|turn| self.tell(turn)).collect()
    }

    pub fn tell(&self, turn: &Turn) -> String {
        let calls: Vec<&str> = turn.call_ids.iter().map(|id| self.names[id].as_str()).collect();
        let parent = match turn.parent_turn_id {
            Some(parent) => format!(" <{}>", self.turns[&parent].prompt),
            None => String::new(),
        };
        let line = format!("{}{parent}: {} [{}] {}", turn.status.as_str(), turn.prompt, calls.join(" "), turn.answer);
        line.trim_end().to_owned()
    }

    /// Sessions as groups of call names.
    pub fn sessions(&self) -> Vec<Vec<String>> {
        let mut sessions: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for (call, placement) in &self.placed {
            if let Some(session) = placement.session_id {
                sessions.entry(session).or_default().push(self.names[call].clone());
            }
        }
        let mut sessions: Vec<Vec<String>> = sessions.into_values().collect();
        sessions.sort();
        sessions
    }

    pub fn auxiliary(&self) -> Vec<String> {
        self.placed.values().filter(|p| p.auxiliary).map(|p| self.names[&p.call_id].clone()).collect()
    }

    pub fn turn(&self, prompt: &str) -> &Turn {
        self.turns.values().find(|turn| turn.prompt == prompt).unwrap()
    }

    /// Every update is consistent with the others, whatever the scenario.
    pub fn check(&self) {
        for turn in self.turns.values() {
            assert!(turn.settled, "{} was not settled", turn.prompt);
            assert_ne!(turn.status, TurnStatus::InProgress);
            for id in &turn.call_ids {
                assert_eq!(self.placed[id].turn_id, Some(turn.id), "{}", self.names[id]);
                assert_eq!(self.placed[id].session_id, Some(turn.session_id));
                assert!(!self.placed[id].auxiliary);
            }
            for step in &turn.steps {
                if let Step::Tool { sub_turn: Some(sub), .. } = step {
                    assert_eq!(self.turns[sub].parent_turn_id, Some(turn.id));
                }
            }
            let time = turn.time;
            let split = time.model.0 + time.tool.0 + time.user.0 + time.idle.0;
            assert_eq!(Some(Nanos(split)), turn.duration(), "the time of {} does not add up", turn.prompt);
        }
        for call in &self.calls {
            assert!(self.placed.contains_key(&call.id), "{} has no place", self.names[&call.id]);
        }
    }
}

pub fn process(pid: u32) -> ProcId {
    ProcId { pid, start: u64::from(pid) * 1_000 }
}

fn remember(chat: &mut Chat, reply: &Reply) {
    if let Reply::Says(content) | Reply::Long(content) = reply {
        chat.history.push(message(Role::Assistant, content.clone()));
    }
}

fn finish(call: &mut Call, reply: &Reply) {
    let has_tools = |content: &[Content]| content.iter().any(|part| matches!(part, Content::ToolCall(_)));
    match reply {
        Reply::Says(content) => {
            call.finish = Some(if has_tools(content) { Finish::ToolCalls } else { Finish::Stop });
            call.output = vec![message(Role::Assistant, content.clone())];
        }
        Reply::Long(content) => {
            call.finish = Some(Finish::Length);
            call.output = vec![message(Role::Assistant, content.clone())];
        }
        Reply::Status(status) => {
            call.status = Some(*status);
            call.usage = Usage::default();
            call.response_model = None;
            let kind = match status {
                429 => "rate_limit_error",
                529 => "overloaded_error",
                _ => "api_error",
            };
            call.error = Some(CallError { kind: kind.into(), message: "no".into() });
            call.finish = Some(Finish::Error);
        }
        Reply::Aborted(content) => {
            call.error = Some(CallError { kind: "aborted".into(), message: "the client went away".into() });
            call.output = partial(content);
        }
        Reply::Cut(content) => {
            call.error = Some(CallError { kind: "cut".into(), message: "the stream stopped".into() });
            call.flaws.push(heron::flaw::Flaw::Cut);
            call.output = partial(content);
        }
    }
}

fn partial(content: &[Content]) -> Vec<Message> {
    if content.is_empty() { Vec::new() } else { vec![message(Role::Assistant, content.to_vec())] }
}

/// Runs a scenario under each sight; the turns must be told the same, and again when the stage hears of calls under way.
pub fn everywhere(scenario: impl Fn(&mut World), expected: &[&str]) {
    for sight in SIGHTS {
        let quiet = run(sight, &scenario);
        assert_eq!(quiet.told(), expected, "{sight:?}");
        let chatty = tell(World { chatty: true, ..World::new(sight) }, &scenario);
        assert_eq!(chatty.told(), expected, "{sight:?}, with calls under way");
        assert_eq!(chatty.turns, quiet.turns, "{sight:?}, with calls under way");
        assert_eq!(chatty.placed, quiet.placed, "{sight:?}, with calls under way");
        assert_eq!(chatty.findings, quiet.findings, "{sight:?}, with calls under way");
        let happened = ["compaction", "rate_limit", "retry_storm", "cut_stream", "truncated_answer"];
        let alarms: Vec<_> = quiet.findings.iter().filter(|f| !happened.contains(&f.kind.as_str())).collect();
        assert!(alarms.is_empty(), "false alarms: {alarms:?}");
    }
}

pub fn run(sight: Sight, scenario: &impl Fn(&mut World)) -> World {
    tell(World::new(sight), scenario)
}

fn tell(mut world: World, scenario: &impl Fn(&mut World)) -> World {
    scenario(&mut world);
    world.end();
    world.check();
    world
}

pub fn bash(command: &str) -> Value {
    json!({ "command": command })
}
