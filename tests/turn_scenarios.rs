//! What agents do, and the turns that must come out: with all headers, without any, and without processes and shared
//! connections too.

mod turn_world;

use heron::turn::Step;
use heron::wire::{Content, Message, Operation, Role, WireApi};
use serde_json::json;
use turn_world::*;

#[test]
fn a_single_call_is_a_turn() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1).without_tools();
            chat.user("hello");
            world.call(&mut chat, "a", says("hi"));
        },
        &["complete: hello [a] hi"],
    );
}

#[test]
fn a_turn_goes_from_the_prompt_through_its_tools_to_the_answer() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1).in_session("s");
        chat.system("be good").user("count the files");
        world.call(&mut chat, "a", asks("t1", "Bash", bash("ls")));
        world.wait(3 * SECOND);
        chat.result("t1", "x y");
        world.call(&mut chat, "b", asks("t2", "Bash", bash("ls /")));
        chat.result("t2", "z");
        world.call(&mut chat, "c", says("three"));
        world.wait(SECOND);
        chat.user("thanks");
        world.call(&mut chat, "d", says("welcome"));
    };
    everywhere(scenario, &["complete: count the files [a b c] three", "complete: thanks [d] welcome"]);
    let world = run(Sight::Nothing, &scenario);
    let turn = world.turn("count the files");
    assert_eq!((turn.tool_calls, turn.time.tool.0, turn.time.model.0), (2, 3 * SECOND, 3 * SECOND));
    assert_eq!(turn.usage.output_text, Some(15));
    assert_eq!(world.sessions().len(), 1);
}

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
fn parallel_sub_agents_have_their_places() {
    let scenario = |world: &mut World| {
        let mut main = chat(1, 1).in_session("s");
        main.user("review it");
        world.call(
            &mut main,
            "m1",
            Reply::Says(vec![
                tool("t1", "Task", json!({"description": "one", "prompt": "review the first half"})),
                tool("t2", "Task", json!({"description": "two", "prompt": "review the second half"})),
            ]),
        );
        let (mut one, mut two) = (chat(1, 2).in_session("s"), chat(1, 3).in_session("s"));
        two.user("review the second half");
        one.user("<system-reminder>x</system-reminder>\nreview the first half");
        world.call(&mut two, "q1", asks("t3", "Bash", bash("cat b")));
        world.call(&mut one, "p1", asks("t4", "Bash", bash("cat a")));
        one.result("t4", "A");
        two.result("t3", "B");
        world.call(&mut one, "p2", says("first is fine"));
        world.call(&mut two, "q2", says("second is fine"));
        main.results(vec![result("t1", "first is fine"), result("t2", "second is fine")]);
        world.call(&mut main, "m2", says("all fine"));
    };
    everywhere(
        scenario,
        &[
            "complete: review it [m1 m2] all fine",
            "complete <review it>: review the second half [q1 q2] second is fine",
            "complete <review it>: review the first half [p1 p2] first is fine",
        ],
    );
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
            Step::Tool { result, .. } => result.clone(),
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
fn a_prompt_after_stopped_tools_interrupts_the_turn() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1).in_session("s");
            chat.user("delete it all");
            world.call(&mut chat, "a", asks("t1", "Bash", bash("rm -r x")));
            world.wait(10 * SECOND);
            chat.say(vec![
                result("t1", "The user doesn't want to proceed with this tool use. The tool use was rejected"),
                text("[Request interrupted by user for tool use]"),
                text("only list it"),
            ]);
            world.call(&mut chat, "b", says("listed"));
        },
        &["interrupted: delete it all [a]", "complete: only list it [b] listed"],
    );
}

#[test]
fn a_prompt_after_an_aborted_call_interrupts_the_turn() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1).in_session("s");
            chat.user("write a book");
            world.call(&mut chat, "a", Reply::Aborted(vec![text("Chapter")]));
            chat.user("[Request interrupted by user]");
            chat.user("write a page");
            world.call(&mut chat, "b", says("page"));
        },
        &["interrupted: write a book [a]", "complete: write a page [b] page"],
    );
}

#[test]
fn a_prompt_after_an_aborted_answer_that_is_kept_interrupts_the_turn() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1).in_session("s");
            chat.user("hello");
            world.call(&mut chat, "o", says("hi"));
            chat.user("write a book");
            world.call(&mut chat, "a", Reply::Aborted(vec![text("Chapter one: it was")]));
            chat.history.push(message(Role::Assistant, vec![text("Chapter one: it")]));
            chat.user("write a page");
            world.call(&mut chat, "b", says("page"));
        },
        &["complete: hello [o] hi", "interrupted: write a book [a]", "complete: write a page [b] page"],
    );
}

#[test]
fn a_new_prompt_while_a_tool_runs_interrupts_the_turn() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("job");
            world.call(&mut chat, "a", asks("t1", "Bash", bash("sleep 100")));
            chat.result("t1", "killed");
            chat.user("another job");
            world.call(&mut chat, "b", says("done"));
        },
        &["interrupted: job [a]", "complete: another job [b] done"],
    );
}

#[test]
fn a_hint_beside_tool_results_starts_no_turn() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("job");
            world.call(&mut chat, "a", asks("t1", "Bash", bash("ls")));
            chat.say(vec![result("t1", "x"), text("Remember to use the Todo tool.")]);
            world.call(&mut chat, "b", asks("t2", "Bash", bash("ls /")));
            chat.say(vec![
                result("t2", "x"),
                text("<system-reminder>The user sent a new message: hurry</system-reminder>"),
            ]);
            world.call(&mut chat, "c", says("done"));
        },
        &["complete: job [a b c] done"],
    );
}

#[test]
fn a_background_sub_agent_outlives_the_answer_and_reports_back() {
    let scenario = |world: &mut World| {
        let mut main = chat(1, 1).in_session("s");
        main.user("start the audit");
        let task = json!({"prompt": "audit every file slowly", "run_in_background": true});
        world.call(&mut main, "m1", asks("t1", "Agent", task));
        main.result("t1", "agent a1 launched");
        world.call(&mut main, "m2", says("It runs."));
        let mut sub = chat(1, 2).in_session("s");
        sub.user("audit every file slowly");
        world.wait(10 * SECOND);
        world.call(&mut sub, "s1", asks("t2", "Bash", bash("ls")));
        world.wait(20 * SECOND);
        sub.result("t2", "x");
        world.call(&mut sub, "s2", says("clean"));
        main.user("[SYSTEM NOTIFICATION - NOT USER INPUT]\nagent a1 finished: clean");
        world.call(&mut main, "m3", says("The audit is clean."));
        main.user("good");
        world.call(&mut main, "m4", says("bye"));
    };
    everywhere(
        scenario,
        &[
            "complete: start the audit [m1 m2 m3] The audit is clean.",
            "complete <start the audit>: audit every file slowly [s1 s2] clean",
            "complete: good [m4] bye",
        ],
    );
}

#[test]
fn a_sub_agent_spoken_to_again_gets_a_second_turn_in_its_place() {
    everywhere(
        |world| {
            let mut main = chat(1, 1);
            main.user("ask the expert");
            world.call(&mut main, "m1", asks("t1", "Agent", json!({"prompt": "what is the plan?"})));
            let mut sub = chat(1, 2);
            sub.user("what is the plan?");
            world.call(&mut sub, "s1", says("plan A"));
            main.result("t1", "plan A");
            world.call(
                &mut main,
                "m2",
                asks("t2", "SendMessage", json!({"to": "a1", "message": "and the second best?"})),
            );
            sub.user("and the second best?");
            world.call(&mut sub, "s2", says("plan B"));
            main.result("t2", "plan B");
            world.call(&mut main, "m3", says("A, then B"));
        },
        &[
            "complete: ask the expert [m1 m2 m3] A, then B",
            "complete <ask the expert>: what is the plan? [s1] plan A",
            "complete <ask the expert>: and the second best? [s2] plan B",
        ],
    );
}

#[test]
fn sub_agents_of_sub_agents_nest() {
    everywhere(
        |world| {
            let mut one = chat(1, 1);
            one.user("top");
            world.call(&mut one, "a1", asks("t1", "Task", json!({"prompt": "do the middle part"})));
            let mut two = chat(1, 1);
            two.user("do the middle part");
            world.call(&mut two, "b1", asks("t2", "Task", json!({"prompt": "do the lowest part"})));
            let mut three = chat(1, 1);
            three.user("do the lowest part");
            world.call(&mut three, "c1", says("low"));
            two.result("t2", "low");
            world.call(&mut two, "b2", says("mid"));
            one.result("t1", "mid");
            world.call(&mut one, "a2", says("high"));
        },
        &[
            "complete: top [a1 a2] high",
            "complete <top>: do the middle part [b1 b2] mid",
            "complete <do the middle part>: do the lowest part [c1] low",
        ],
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
fn retries_after_429_and_529_stay_in_the_turn() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1);
        chat.user("job");
        world.call(&mut chat, "a1", Reply::Status(429));
        world.wait(SECOND);
        world.call(&mut chat, "a2", Reply::Status(529));
        world.wait(2 * SECOND);
        world.call(&mut chat, "a3", asks("t1", "Bash", bash("ls")));
        chat.result("t1", "x");
        world.call(&mut chat, "b1", Reply::Status(529));
        world.wait(4 * SECOND);
        world.call(&mut chat, "b2", says("done"));
    };
    everywhere(scenario, &["complete: job [a1 a2 a3 b1 b2] done"]);
    let turn = run(Sight::All, &scenario).turn("job").clone();
    assert_eq!((turn.errors, turn.time.idle.0), (3, 7 * SECOND));
}

#[test]
fn a_turn_whose_last_call_failed_is_failed() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("job");
            world.call(&mut chat, "a", asks("t1", "Bash", bash("ls")));
            chat.result("t1", "x");
            world.call(&mut chat, "b", Reply::Status(500));
        },
        &["failed: job [a b]"],
    );
}

#[test]
fn a_turn_that_the_observation_left_is_cut() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("job");
            world.call(&mut chat, "a", asks("t1", "Bash", bash("ls")));
            let mut other = turn_world::chat(2, 2);
            other.user("tell me");
            world.call(&mut other, "b", Reply::Cut(vec![text("it")]));
        },
        &["cut: job [a]", "cut: tell me [b] it"],
    );
}

#[test]
fn an_agent_that_exits_before_the_answer_interrupts_its_turn() {
    let scenario = |world: &mut World| {
        world.exec(7, None, &["/usr/bin/agent"]);
        let mut chat = chat(7, 1);
        chat.user("job");
        world.call(&mut chat, "a", asks("t1", "Bash", bash("ls")));
        world.exit(7);
    };
    assert_eq!(run(Sight::NoHeaders, &scenario).told(), ["interrupted: job [a]"]);
    assert_eq!(run(Sight::Nothing, &scenario).told(), ["cut: job [a]"]);
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
fn a_call_through_two_proxies_is_one_call_with_hops() {
    let scenario = |world: &mut World| {
        let mut client = chat(1, 1);
        client.server = "127.0.0.1:4000".into();
        client.user("job");
        let proxied = |client: &Chat, process, conn, server: &str| Chat {
            process: Some(process),
            conn,
            server: server.into(),
            ..client.clone()
        };
        let mut proxy = proxied(&client, 2, 2, "127.0.0.1:8000");
        let mut second = proxied(&client, 3, 3, "127.0.0.1:9000");
        let t = world.now;
        let reply = asks("t1", "Bash", bash("ls"));
        world.call_at(&mut second, "a3", t + 20 * MILLI, t + 80 * MILLI, reply.clone());
        world.call_at(&mut proxy, "a2", t + 10 * MILLI, t + 90 * MILLI, reply.clone());
        world.call_at(&mut client, "a1", t, t + 100 * MILLI, reply);
        client.result("t1", "x");
        proxy.history = client.history.clone();
        world.call_at(&mut client.clone(), "b1", t + SECOND, t + 2 * SECOND, says("done"));
        world.call_at(&mut proxy, "b2", t + SECOND + 10 * MILLI, t + 2 * SECOND, says("done"));
    };
    everywhere(scenario, &["complete: job [a1 b1] done"]);
    let world = run(Sight::Nothing, &scenario);
    let hops: Vec<(&str, &str)> = world
        .placed
        .values()
        .filter_map(|p| p.hop_of.map(|of| (world.names[&p.call_id].as_str(), world.names[&of].as_str())))
        .collect();
    assert_eq!(hops, [("a3", "a1"), ("a2", "a1"), ("b2", "b1")]);
    assert_eq!(world.turn("job").usage.output_text, Some(10), "hops count once");
}

#[test]
fn equal_calls_of_many_clients_to_one_server_are_no_hops() {
    everywhere(
        |world| {
            let t = world.now;
            for n in 0..4u32 {
                let mut client = chat(10 + n, 10 + u64::from(n));
                client.user("same question");
                let (from, to) = (t + u64::from(3 - n) * MILLI, t + SECOND + u64::from(n) * MILLI);
                world.call_at(&mut client, &format!("c{n}"), from, to, says("same answer"));
            }
        },
        &[
            "complete: same question [c3] same answer",
            "complete: same question [c2] same answer",
            "complete: same question [c1] same answer",
            "complete: same question [c0] same answer",
        ],
    );
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
fn a_refused_upgrade_to_websocket_is_no_turn() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1).in_session("s");
        chat.api = WireApi::OpenAiResponses;
        chat.method = "GET";
        world.call(&mut chat, "upgrade", Reply::Status(426));
        chat.method = "POST";
        chat.user("job");
        world.call(&mut chat, "a", says("done"));
    };
    everywhere(scenario, &["complete: job [a] done"]);
    assert_eq!(run(Sight::Nothing, &scenario).auxiliary(), ["upgrade"]);
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
fn an_agent_that_a_tool_runs_is_a_sub_agent() {
    let scenario = |world: &mut World| {
        world.exec(1, None, &["/usr/bin/agent"]);
        let mut main = chat(1, 1).in_session("s");
        main.user("let the other agent do it");
        world.call(&mut main, "m1", asks("t1", "Bash", bash("other -p 'translate the readme'")));
        world.exec(2, Some(1), &["/usr/bin/other", "-p", "translate the readme"]);
        let mut sub = chat(2, 2).in_session("z");
        sub.user("translate the readme");
        world.call(&mut sub, "s1", says("translated"));
        world.exit(2);
        main.result("t1", "translated");
        world.call(&mut main, "m2", says("it is done"));
    };
    everywhere(
        scenario,
        &[
            "complete: let the other agent do it [m1 m2] it is done",
            "complete <let the other agent do it>: translate the readme [s1] translated",
        ],
    );
}

#[test]
fn housekeeping_is_kept_and_is_in_no_turn() {
    let scenario = |world: &mut World| {
        let mut main = chat(1, 1).in_session("s");
        main.user("fix the build");
        let mut title = chat(1, 2).in_session("s").without_tools();
        title.system("You are a title generator. You output ONLY a thread title.");
        title.user("Generate a title for this conversation:\nfix the build");
        world.call(&mut title, "title", says("Build fix"));
        let mut quota = chat(1, 2).without_tools();
        quota.parameters.insert("max_tokens".into(), json!(1));
        quota.user("quota");
        world.call(&mut quota, "quota", says("#"));
        let mut count = main.clone();
        count.operation = Operation::CountTokens;
        world.call(&mut count, "count", Reply::Says(Vec::new()));
        let mut embed = chat(1, 3);
        embed.operation = Operation::Embeddings;
        world.call(&mut embed, "embed", Reply::Says(Vec::new()));
        world.call(&mut main, "a", asks("t1", "Bash", bash("make")));
        let mut monitor = chat(1, 4).in_session("s");
        monitor.system("You are a security monitor for autonomous AI coding agents.");
        monitor.user("<transcript>Bash make</transcript>");
        world.call(&mut monitor, "monitor", says("allow"));
        main.result("t1", "ok");
        world.call(&mut main, "b", says("fixed"));
    };
    everywhere(scenario, &["complete: fix the build [a b] fixed"]);
    for sight in SIGHTS {
        assert_eq!(run(sight, &scenario).auxiliary(), ["title", "quota", "count", "embed", "monitor"], "{sight:?}");
    }
}

#[test]
fn a_person_who_asks_for_a_title_or_a_summary_is_answered_in_a_turn() {
    everywhere(
        |world| {
            let mut one = chat(1, 1).without_tools();
            one.system("You are a helpful assistant.").user("Write a title for my conversation with the mayor");
            world.call(&mut one, "a", says("The mayor"));
            one.user("Summarize our talk");
            world.call(&mut one, "b", says("We talked."));
        },
        &[
            "complete: Write a title for my conversation with the mayor [a] The mayor",
            "complete: Summarize our talk [b] We talked.",
        ],
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

#[test]
fn the_agent_is_met_in_the_middle_of_a_turn() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("earlier");
            chat.history.push(message(Role::Assistant, vec![text("yes")]));
            chat.user("long job");
            chat.history.push(message(Role::Assistant, vec![tool("t0", "Bash", bash("make"))]));
            chat.result("t0", "ok");
            world.call(&mut chat, "a", asks("t1", "Bash", bash("make install")));
            chat.result("t1", "ok");
            world.call(&mut chat, "b", says("installed"));
        },
        &["complete: long job [a b] installed"],
    );
}

#[test]
fn calls_that_were_not_seen_leave_no_false_turns() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("long job");
            world.call(&mut chat, "a", asks("t1", "Bash", bash("make")));
            chat.result("t1", "ok");
            chat.history.push(message(Role::Assistant, vec![tool("t2", "Bash", bash("make test"))]));
            chat.result("t2", "ok");
            world.call(&mut chat, "b", says("tested"));
            chat.user("unseen");
            chat.history.push(message(Role::Assistant, vec![text("yes")]));
            chat.user("seen");
            world.call(&mut chat, "c", says("see"));
        },
        &["complete: long job [a b] tested", "complete: seen [c] see"],
    );
}

#[test]
fn waiting_for_the_user_is_told_from_waiting_for_a_tool() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1);
        chat.user("deploy");
        world.call(&mut chat, "a", asks("t1", "AskUserQuestion", json!({"question": "where to?"})));
        world.wait(60 * SECOND);
        chat.result("t1", "production");
        world.call(&mut chat, "b", says("deployed"));
    };
    everywhere(scenario, &["complete: deploy [a b] deployed"]);
    let time = run(Sight::All, &scenario).turn("deploy").time;
    assert_eq!((time.user.0, time.tool.0), (60 * SECOND, 0));
}

#[test]
fn an_answer_forced_into_a_tool_call_is_an_answer() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.tools = vec!["answer"];
            chat.parameters.insert("tool_choice".into(), json!({"type": "tool", "name": "answer"}));
            chat.user("name a colour");
            world.call(&mut chat, "a", asks("t1", "answer", json!({"colour": "red"})));
        },
        &["complete: name a colour [a]"],
    );
}

#[test]
fn an_answer_cut_by_a_token_limit_can_be_continued() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1).without_tools();
            chat.user("count to a hundred");
            world.call(&mut chat, "a", Reply::Long(vec![text("1 2 3 4 5")]));
            world.call(&mut chat, "b", says("6 7 8"));
        },
        &["complete: count to a hundred [a b] 6 7 8"],
    );
}

#[test]
fn the_same_stream_gives_the_same_updates() {
    let scenario = |world: &mut World| {
        for n in 0..40u32 {
            let mut chat = chat(n % 3, u64::from(n % 5));
            chat.user(&format!("job {}", n % 7));
            world.call(&mut chat, "a", asks("t1", "Task", json!({"prompt": format!("job {}", (n + 1) % 7)})));
            chat.result("t1", "x");
            world.call(&mut chat, "b", says("done"));
        }
    };
    assert_eq!(run(Sight::NoHeaders, &scenario).updates, run(Sight::NoHeaders, &scenario).updates);
}

#[test]
fn a_prompt_added_to_the_message_of_one_that_was_not_answered_interrupts_it() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1).in_session("s");
            chat.user("write a book");
            world.call(&mut chat, "a", Reply::Aborted(Vec::new()));
            chat.history.clear();
            chat.say(vec![text("write a book"), text("[Request interrupted by user]"), text("write a page")]);
            world.call(&mut chat, "b", says("page"));
        },
        &["interrupted: write a book [a]", "complete: write a page [b] page"],
    );
}

#[test]
fn a_picture_alone_is_a_prompt_and_one_beside_tool_results_is_none() {
    let picture = || Content::Media { kind: "image".into(), media_type: None, reference: None, size: 5_000 };
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("hello");
            world.call(&mut chat, "a", says("hi"));
            chat.say(vec![picture()]);
            world.call(&mut chat, "b", asks("t1", "view", json!({"path": "x.png"})));
            chat.result("t1", "shown");
            chat.say(vec![picture()]);
            world.call(&mut chat, "c", says("a cat"));
        },
        &["complete: hello [a] hi", "complete: [image] [b c] a cat"],
    );
}

#[test]
fn an_answered_turn_is_settled_by_the_next_prompt_or_the_end_of_its_process() {
    let mut world = World::new(Sight::All);
    world.exec(1, None, &["/usr/bin/agent"]);
    let mut chat = chat(1, 1);
    chat.user("one");
    world.call(&mut chat, "a", says("first"));
    assert!(!world.turn("one").settled);
    chat.user("two");
    world.call(&mut chat, "b", says("second"));
    assert!(world.turn("one").settled && !world.turn("two").settled);
    world.exit(1);
    assert!(world.turn("two").settled);
    world.end();
    world.check();
}

#[test]
fn a_sub_agent_that_begins_after_the_next_prompt_is_still_linked() {
    let scenario = |world: &mut World| {
        let mut main = chat(1, 1);
        main.user("start the audit");
        world.call(&mut main, "m1", asks("t1", "Agent", json!({"prompt": "audit every file slowly"})));
        main.result("t1", "agent a1 launched");
        world.call(&mut main, "m2", says("It runs."));
        main.user("meanwhile, what is new?");
        world.call(&mut main, "m3", says("Nothing."));
        let mut sub = chat(1, 2);
        sub.user("audit every file slowly");
        world.call(&mut sub, "s1", says("clean"));
    };
    everywhere(
        scenario,
        &[
            "complete: start the audit [m1 m2] It runs.",
            "complete: meanwhile, what is new? [m3] Nothing.",
            "complete <start the audit>: audit every file slowly [s1] clean",
        ],
    );
    let world = run(Sight::Nothing, &scenario);
    let linked = |step: &Step| matches!(step, Step::Tool { sub_turn: Some(_), .. });
    assert!(world.turn("start the audit").steps.iter().any(linked));
}

#[test]
fn an_answer_handed_in_by_a_tool_call_is_an_answer() {
    everywhere(
        |world| {
            let mut main = chat(1, 1);
            main.user("ask the other");
            world.call(&mut main, "m1", asks("", "invoke_agent", json!({"prompt": "count the files there"})));
            let mut sub = chat(1, 1);
            sub.user("count the files there");
            world.call(&mut sub, "s1", asks("", "list", json!({"path": "."})));
            sub.result("", "a b c");
            world.call(&mut sub, "s2", says("three, I think"));
            sub.user("You have stopped calling tools without finishing. Call complete_task.");
            world.call(&mut sub, "s3", asks("", "complete_task", json!({"result": "three"})));
            main.result("", "three");
            world.call(&mut main, "m2", says("three files"));
        },
        &[
            "complete: ask the other [m1 m2] three files",
            "complete <ask the other>: count the files there [s1 s2 s3] three",
        ],
    );
}
