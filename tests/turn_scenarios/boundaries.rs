//! Where a turn begins and ends, and how it stands.

use heron::wire::{Content, Role};
use serde_json::json;

use crate::turn_world::*;

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
            let mut other = crate::turn_world::chat(2, 2);
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
