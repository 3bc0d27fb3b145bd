//! Which call continues which: sessions over connections, processes, days, summaries, other words.

use heron::turn::Step;
use heron::wire::{Content, Message, Role, WireApi};
use serde_json::json;

use crate::turn_world::*;

#[test]
fn two_sessions_interleaved_on_one_connection_stay_apart() {
    everywhere(
        |world| {
            let (mut one, mut two) = (chat(1, 1).in_session("s1"), chat(1, 1).in_session("s2"));
            one.user("first job");
            two.user("second job");
            world.call(&mut one, "a1", asks("t1", "Bash", bash("ls")));
            world.call(&mut two, "b1", asks("t2", "Bash", bash("ls")));
            one.result("t1", "x");
            two.result("t2", "x");
            world.call(&mut one, "a2", says("done one"));
            world.call(&mut two, "b2", says("done two"));
        },
        &["complete: first job [a1 a2] done one", "complete: second job [b1 b2] done two"],
    );
}

#[test]
fn one_session_over_many_connections_and_processes_is_one() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1).in_session("s");
        chat.user("job");
        world.call(&mut chat, "a", asks("t1", "Bash", bash("ls")));
        (chat.process, chat.conn) = (Some(2), 2);
        chat.result("t1", "x");
        world.call(&mut chat, "b", says("done"));
        (chat.process, chat.conn) = (Some(3), 3);
        world.wait(5 * DAY);
        chat.user("more");
        world.call(&mut chat, "c", says("done again"));
    };
    everywhere(scenario, &["complete: job [a b] done", "complete: more [c] done again"]);
    for sight in SIGHTS {
        assert_eq!(run(sight, &scenario).sessions().len(), 1, "{sight:?}");
    }
}

#[test]
fn tools_without_ids_are_matched_by_name_and_order() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1);
        chat.user("compare");
        world.call(
            &mut chat,
            "a",
            Reply::Says(vec![
                tool("", "read", json!({"path": "a"})),
                tool("", "read", json!({"path": "b"})),
                tool("", "list", json!({"path": "."})),
            ]),
        );
        let named = |name: &str, text: &str| Content::ToolResult {
            id: String::new(),
            name: Some(name.into()),
            text: text.into(),
            is_error: false,
        };
        chat.results(vec![named("list", "L"), named("read", "A"), named("read", "B")]);
        world.call(&mut chat, "b", says("equal"));
    };
    everywhere(scenario, &["complete: compare [a b] equal"]);
    let world = run(Sight::Nothing, &scenario);
    let results: Vec<_> = world
        .turn("compare")
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Tool { result, .. } => result.as_deref().map(str::to_owned),
            Step::Call { .. } => None,
        })
        .collect();
    assert_eq!(results, ["A", "B", "L"]);
}

#[test]
fn ids_spelled_otherwise_and_thinking_left_out_change_nothing() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("job");
            let thinking = Content::Thinking { text: "let me see".into() };
            world.call(
                &mut chat,
                "a",
                Reply::Says(vec![thinking, text("I look. "), tool("toolu_1", "Bash", bash("ls"))]),
            );
            chat.history.pop();
            chat.history.push(message(Role::Assistant, vec![text("I look.")]));
            chat.history.push(message(Role::Assistant, vec![tool("call-9", "Bash", bash("ls"))]));
            chat.result("call-9", "x");
            world.call(&mut chat, "b", says("done"));
        },
        &["complete: job [a b] done"],
    );
}

#[test]
fn an_answer_in_other_words_is_still_the_answer() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("job");
            world.call(&mut chat, "a", Reply::Says(vec![text("Hm.\n\nI look"), tool("t1", "Bash", bash("ls"))]));
            chat.history.pop();
            chat.history
                .push(message(Role::Assistant, vec![tool("t1", "Bash", json!({"command": "ls", "timeout": 5}))]));
            chat.result("t1", "x");
            world.call(&mut chat, "b", says("done"));
        },
        &["complete: job [a b] done"],
    );
}

#[test]
fn a_session_resumed_days_later_under_a_new_id_is_the_same_session() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1).in_session("s1");
        chat.user("remember 7");
        world.call(&mut chat, "a", says("remembered"));
        world.wait(3 * DAY);
        (chat.session, chat.process, chat.conn) = (Some("s2".into()), Some(9), 9);
        chat.user("which number?");
        world.call(&mut chat, "b", says("7"));
    };
    everywhere(scenario, &["complete: remember 7 [a] remembered", "complete: which number? [b] 7"]);
    for sight in SIGHTS {
        assert_eq!(run(sight, &scenario).sessions().len(), 1, "{sight:?}");
    }
}

const SUMMARY: &str =
    "The user wants the tests green. Done so far: two of three modules, the last one fails on line 7.";

#[test]
fn compaction_in_the_middle_of_a_turn_keeps_the_turn() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1).in_session("s");
        chat.user("make the tests green");
        world.call(&mut chat, "a", asks("t1", "Bash", bash("make")));
        chat.result("t1", "fails");
        world.call(&mut chat, "b", asks("t2", "Bash", bash("make again")));
        chat.result("t2", "fails on line 7");
        let mut asking = chat.clone();
        asking.user("Your task is to create a detailed summary of the conversation so far, paying attention to ...");
        world.call(
            &mut asking,
            "sum",
            Reply::Says(vec![text(&format!("<analysis>x</analysis>\n<summary>\n{SUMMARY}\n</summary>"))]),
        );
        chat.history.clear();
        chat.user(&format!(
            "This session is being continued from a previous conversation that ran out of context.\n{SUMMARY}"
        ));
        world.call(&mut chat, "c", asks("t3", "Bash", bash("vi")));
        chat.result("t3", "ok");
        world.call(&mut chat, "d", says("green"));
        chat.user("thanks");
        world.call(&mut chat, "e", says("bye"));
    };
    everywhere(scenario, &["complete: make the tests green [a b c d] green", "complete: thanks [e] bye"]);
    for sight in SIGHTS {
        let world = run(sight, &scenario);
        assert_eq!((world.sessions().len(), world.auxiliary()), (1, vec!["sum".to_owned()]), "{sight:?}");
    }
}

/// As Gemini CLI does in the middle of a turn: the summary, a canned reply, the last exchanges, the results that are due.
#[test]
fn compaction_that_keeps_the_last_exchange_keeps_the_turn() {
    let summary = "<state_snapshot>The user wants probes run one after the other; two of them ran and printed their names.</state_snapshot>";
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("run the first probe");
            world.call(&mut chat, "a", says("the first probe ran and printed its name on one line"));
            chat.user("run the second probe");
            world.call(&mut chat, "b", says("the second probe ran and printed its name as well"));
            let kept: Vec<_> = chat.history[2..].to_vec();
            chat.user("run the third probe");
            world.call(&mut chat, "c", asks("toolu_third_probe", "Bash", bash("probe 3")));
            let mut asking = chat.clone();
            asking.user("First, reason in your scratchpad. Then, generate the <state_snapshot>.");
            world.call(&mut asking, "sum", says(summary));
            chat.history.clear();
            chat.user(summary);
            chat.history.push(message(Role::Assistant, vec![text("Got it. Thanks for the additional context!")]));
            chat.history.extend(kept);
            chat.result("toolu_third_probe", "probe-3");
            world.call(&mut chat, "d", says("the third probe ran"));
        },
        &[
            "complete: run the first probe [a] the first probe ran and printed its name on one line",
            "complete: run the second probe [b] the second probe ran and printed its name as well",
            "complete: run the third probe [c d] the third probe ran",
        ],
    );
}

#[test]
fn compaction_before_a_new_prompt_begins_a_turn_of_the_same_session() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1).in_session("s");
        chat.user("make the tests green");
        world.call(&mut chat, "a", says("two of three are"));
        let mut asking = chat.clone();
        asking.user("You are performing a CONTEXT CHECKPOINT COMPACTION. Create a handoff summary for another LLM");
        world.call(&mut asking, "sum", says(SUMMARY));
        chat.history.clear();
        chat.user("make the tests green");
        chat.user(&format!("Another language model started to solve this problem and produced a summary of its thinking process.\n{SUMMARY}"));
        chat.user("now the last one");
        world.call(&mut chat, "b", says("green"));
    };
    everywhere(
        scenario,
        &["complete: make the tests green [a] two of three are", "complete: now the last one [b] green"],
    );
    for sight in SIGHTS {
        assert_eq!(run(sight, &scenario).sessions().len(), 1, "{sight:?}");
    }
}

#[test]
fn another_model_or_api_in_the_middle_changes_nothing() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1);
        chat.user("job");
        world.call(&mut chat, "a", asks("t1", "Bash", bash("ls")));
        chat.model = "m-2".into();
        chat.api = WireApi::OpenAiChat;
        chat.server = "192.0.2.9:443".into();
        chat.history.insert(0, message(Role::System, vec![text("new instructions")]));
        chat.result("t1", "x");
        world.call(&mut chat, "b", says("done"));
    };
    everywhere(scenario, &["complete: job [a b] done"]);
    let world = run(Sight::Nothing, &scenario);
    assert_eq!(world.turn("job").models.len(), 2);
}

#[test]
fn a_turn_handed_over_to_another_process_goes_on() {
    let scenario = |world: &mut World| {
        world.exec(7, None, &["/usr/bin/agent"]);
        let mut chat = chat(7, 1);
        chat.user("job");
        world.call(&mut chat, "a", asks("t1", "Bash", bash("ls")));
        world.exit(7);
        world.exec(8, None, &["/usr/bin/agent"]);
        (chat.process, chat.conn) = (Some(8), 2);
        chat.result("t1", "x");
        world.call(&mut chat, "b", says("done"));
    };
    everywhere(scenario, &["complete: job [a b] done"]);
}

#[test]
fn the_same_job_run_twice_is_two_sessions() {
    let job = |world: &mut World, n: u32, chat: &mut Chat| {
        chat.user("job");
        world.call(chat, &format!("a{n}"), asks("call_1", "Bash", bash("ls")));
        chat.result("call_1", "x");
        world.call(chat, &format!("b{n}"), asks("call_2", "Bash", bash("pwd")));
        chat.result("call_2", "/");
        world.call(chat, &format!("c{n}"), says("done"));
    };
    let scenario = |world: &mut World| {
        job(world, 1, &mut chat(1, 1).in_session("one"));
        job(world, 2, &mut chat(2, 2).in_session("two"));
    };
    everywhere(scenario, &["complete: job [a1 b1 c1] done", "complete: job [a2 b2 c2] done"]);
    for sight in SIGHTS {
        assert_eq!(run(sight, &scenario).sessions().len(), 2, "{sight:?}");
    }
}

#[test]
fn the_same_job_run_at_once_in_two_processes_is_two_turns() {
    let scenario = |world: &mut World| {
        let (mut one, mut two) = (chat(1, 1), chat(2, 2));
        one.user("job");
        two.user("job");
        world.call(&mut one, "a1", asks("call_1", "Bash", bash("ls")));
        world.call(&mut two, "a2", asks("call_1", "Bash", bash("ls")));
        one.result("call_1", "x");
        two.result("call_1", "x");
        world.call(&mut two, "b2", says("done"));
        world.call(&mut one, "b1", says("done"));
    };
    for sight in [Sight::All, Sight::NoHeaders] {
        assert_eq!(run(sight, &scenario).told(), ["complete: job [a1 b1] done", "complete: job [a2 b2] done"]);
    }
}

#[test]
fn a_history_trimmed_at_its_front_is_recognised_by_its_answers() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1);
        chat.user("the first of many questions");
        world.call(&mut chat, "a", says("an answer long enough to be told from all other answers"));
        chat.user("second question");
        world.call(&mut chat, "b", says("another answer long enough to be told from all others"));
        chat.history.drain(..2);
        chat.user("third question");
        world.call(&mut chat, "c", asks("toolu_0123456789", "Bash", bash("find / -name needle")));
        chat.result("toolu_0123456789", "none");
        chat.history.drain(..2);
        world.call(&mut chat, "d", says("nothing found"));
    };
    everywhere(
        scenario,
        &[
            "complete: the first of many questions [a] an answer long enough to be told from all other answers",
            "complete: second question [b] another answer long enough to be told from all others",
            "complete: third question [c d] nothing found",
        ],
    );
    assert_eq!(run(Sight::Nothing, &scenario).sessions().len(), 1);
}

#[test]
fn context_injected_into_old_messages_does_not_break_the_chain() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("refactor");
            world.call(&mut chat, "a", asks("t1", "Bash", bash("cat src/main.rs")));
            chat.history[0] =
                message(Role::User, vec![text("refactor"), text("The time is 12:01. Files changed: main.rs")]);
            chat.result("t1", "fn main() {}");
            world.call(&mut chat, "b", asks("t2", "Bash", bash("vi src/main.rs")));
            chat.history[0] =
                message(Role::User, vec![text("refactor"), text("The time is 12:02. Files changed: main.rs")]);
            chat.result("t2", "ok");
            world.call(&mut chat, "c", says("done"));
        },
        &["complete: refactor [a b c] done"],
    );
}

#[test]
fn state_kept_by_the_server_continues_by_response_id() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1).in_session("s");
        chat.api = WireApi::OpenAiResponses;
        chat.parameters.insert("generate".into(), json!(false));
        chat.response_id = Some("resp_0".into());
        chat.user("<environment_context>x</environment_context>");
        world.call(&mut chat, "warm", Reply::Says(Vec::new()));
        chat.parameters.clear();
        let mut step = |world: &mut World, n: u32, content: Message, reply: Reply| {
            chat.history = vec![content];
            chat.previous_response_id = Some(format!("resp_{}", n - 1));
            chat.response_id = Some(format!("resp_{n}"));
            world.call(&mut chat, &format!("c{n}"), reply);
        };
        step(world, 1, message(Role::User, vec![text("job")]), asks("call_a", "shell", bash("ls")));
        step(world, 2, message(Role::Tool, vec![result("call_a", "x")]), says("done"));
        step(world, 3, message(Role::User, vec![text("next")]), says("done too"));
    };
    everywhere(scenario, &["complete: job [c1 c2] done", "complete: next [c3] done too"]);
    let world = run(Sight::Nothing, &scenario);
    assert_eq!(world.auxiliary(), ["warm"]);
    assert_eq!(world.turn("job").session_id, world.turn("next").session_id);
}

#[test]
fn results_without_history_continue_by_their_tool_call_ids() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1).in_session("conv_1");
            chat.parameters.insert("conversation".into(), json!("conv_1"));
            chat.user("job");
            world.call(&mut chat, "a", asks("call_abcdefghijkl", "shell", bash("ls")));
            chat.history = vec![message(Role::Tool, vec![result("call_abcdefghijkl", "x")])];
            world.call(&mut chat, "b", says("done"));
        },
        &["complete: job [a b] done"],
    );
}

#[test]
fn an_edited_prompt_is_a_branch_of_the_same_session() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1);
        chat.user("hello there");
        world.call(&mut chat, "a", says("hello, what can I do for you today?"));
        let fork = chat.clone();
        chat.user("paint it red");
        world.call(&mut chat, "b", says("red"));
        let mut again = fork.clone();
        again.user("paint it blue");
        world.call(&mut again, "c", says("blue"));
        let mut regenerated = fork;
        regenerated.user("paint it blue");
        world.call(&mut regenerated, "d", says("dark blue"));
    };
    everywhere(
        scenario,
        &[
            "complete: hello there [a] hello, what can I do for you today?",
            "complete: paint it red [b] red",
            "complete: paint it blue [c] blue",
            "complete: paint it blue [d] dark blue",
        ],
    );
    assert_eq!(run(Sight::Nothing, &scenario).sessions().len(), 1);
}
