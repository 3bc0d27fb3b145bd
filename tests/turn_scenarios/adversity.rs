//! What makes conversations hard to tell apart, and histories hard to recognise: equal prompts at once, windows that slide,
//! contents that are dropped, answers that are continued.

use heron::wire::{Content, Role, WireApi};
use serde_json::json;

use crate::turn_world::*;

fn image() -> Content {
    Content::Media { kind: "image".into(), media_type: None, reference: None, size: 90_000 }
}

#[test]
fn equal_jobs_at_once_are_told_apart_by_the_ids_of_their_tool_calls() {
    everywhere(
        |world| {
            let (mut one, mut two) = (chat(1, 1), chat(2, 2));
            for chat in [&mut one, &mut two] {
                chat.user("fix the failing test");
            }
            world.call(&mut one, "a1", asks("toolu_01AAAAAAAAAAAA", "Bash", bash("make test")));
            world.call(&mut two, "b1", asks("toolu_01BBBBBBBBBBBB", "Bash", bash("make test")));
            one.result("toolu_01AAAAAAAAAAAA", "1 failed");
            two.result("toolu_01BBBBBBBBBBBB", "1 failed");
            world.call(&mut one, "a2", asks("toolu_02AAAAAAAAAAAA", "Read", json!({"path": "t"})));
            world.call(&mut two, "b2", asks("toolu_02BBBBBBBBBBBB", "Read", json!({"path": "t"})));
            one.result("toolu_02AAAAAAAAAAAA", "x");
            two.result("toolu_02BBBBBBBBBBBB", "x");
            world.call(&mut one, "a3", says("fixed one"));
            world.call(&mut two, "b3", says("fixed two"));
        },
        &["complete: fix the failing test [a1 a2 a3] fixed one", "complete: fix the failing test [b1 b2 b3] fixed two"],
    );
}

#[test]
fn equal_sub_agents_at_once_are_told_apart_by_the_ids_of_their_tool_calls() {
    everywhere(
        |world| {
            let mut main = chat(1, 1).in_session("s");
            main.user("review it twice");
            let ask = |id: &str| tool(id, "Task", json!({"prompt": "review the change in parser.rs"}));
            world.call(&mut main, "m1", Reply::Says(vec![ask("toolu_m1aaaaaaaaa"), ask("toolu_m1bbbbbbbbb")]));
            let (mut a, mut b) = (chat(1, 2).in_session("s"), chat(1, 3).in_session("s"));
            a.user("review the change in parser.rs");
            b.user("review the change in parser.rs");
            world.call(&mut a, "a1", asks("toolu_a1aaaaaaaaa", "Bash", bash("git diff")));
            world.call(&mut b, "b1", asks("toolu_b1bbbbbbbbb", "Bash", bash("git diff")));
            b.result("toolu_b1bbbbbbbbb", "+ x");
            a.result("toolu_a1aaaaaaaaa", "+ x");
            world.call(&mut b, "b2", says("fine, says b"));
            world.call(&mut a, "a2", says("fine, says a"));
            main.results(vec![
                result("toolu_m1aaaaaaaaa", "fine, says a"),
                result("toolu_m1bbbbbbbbb", "fine, says b"),
            ]);
            world.call(&mut main, "m2", says("both fine"));
        },
        &[
            "complete: review it twice [m1 m2] both fine",
            "complete <review it twice>: review the change in parser.rs [a1 a2] fine, says a",
            "complete <review it twice>: review the change in parser.rs [b1 b2] fine, says b",
        ],
    );
}

/// A client that keeps the last messages only.
fn window(chat: &mut Chat, kept: usize) {
    let drop = chat.history.len().saturating_sub(kept);
    chat.history.drain(..drop);
}

#[test]
fn a_window_that_slides_over_a_chat_of_short_words_is_one_session() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1).without_tools();
        for (n, (question, answer)) in
            [("2+2?", "4"), ("3+3?", "6"), ("4+4?", "8"), ("5+5?", "10"), ("6+6?", "12"), ("7+7?", "14")]
                .into_iter()
                .enumerate()
        {
            chat.user(question);
            window(&mut chat, 5);
            world.call(&mut chat, &format!("c{n}"), says(answer));
        }
    };
    everywhere(
        scenario,
        &[
            "complete: 2+2? [c0] 4",
            "complete: 3+3? [c1] 6",
            "complete: 4+4? [c2] 8",
            "complete: 5+5? [c3] 10",
            "complete: 6+6? [c4] 12",
            "complete: 7+7? [c5] 14",
        ],
    );
    for sight in SIGHTS {
        assert_eq!(run(sight, &scenario).sessions().len(), 1, "{sight:?}");
    }
}

#[test]
fn two_windows_that_slide_over_like_chats_stay_two_sessions() {
    let scenario = |world: &mut World| {
        let (mut one, mut two) = (chat(1, 1).without_tools(), chat(2, 2).without_tools());
        for n in 0..6 {
            for (name, chat) in [("a", &mut one), ("b", &mut two)] {
                chat.user(&format!("next {name}?"));
                window(chat, 5);
                world.call(chat, &format!("{name}{n}"), says(&format!("yes {name}{n}")));
            }
        }
    };
    for sight in SIGHTS {
        let world = run(sight, &scenario);
        assert_eq!(world.turns.len(), 12, "{sight:?}");
        assert_eq!(world.sessions().iter().map(Vec::len).collect::<Vec<_>>(), [6, 6], "{sight:?}");
    }
}

#[test]
fn a_window_that_slides_inside_a_turn_keeps_the_turn() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("tidy up the whole repository");
            for n in 0..6 {
                let id = format!("toolu_{n:012}");
                world.call(&mut chat, &format!("c{n}"), asks(&id, "Bash", bash(&format!("rm {n}.tmp"))));
                chat.result(&id, "");
                window(&mut chat, 4);
            }
            world.call(&mut chat, "end", says("tidy"));
        },
        &["complete: tidy up the whole repository [c0 c1 c2 c3 c4 c5 end] tidy"],
    );
}

#[test]
fn a_system_prompt_that_tells_the_time_changes_nothing() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.system("It is 12:00:00.").user("ls");
            world.call(&mut chat, "a", asks("t1", "Bash", bash("ls")));
            chat.history[0] = message(Role::System, vec![text("It is 12:00:07.")]);
            chat.result("t1", "x");
            world.call(&mut chat, "b", says("x is there"));
            chat.history[0] = message(Role::System, vec![text("It is 12:31:00. The user's name is Ann.")]);
            chat.user("thanks");
            world.call(&mut chat, "c", says("welcome"));
        },
        &["complete: ls [a b] x is there", "complete: thanks [c] welcome"],
    );
}

#[test]
fn an_answer_made_anew_is_a_branch_of_the_same_session() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1);
        chat.user("name a colour");
        world.call(&mut chat, "a", says("red"));
        chat.user("another one");
        let mut again = chat.clone();
        world.call(&mut chat, "b", says("blue"));
        world.call(&mut again, "c", says("green"));
        again.user("and one more");
        world.call(&mut again, "d", says("grey"));
    };
    everywhere(
        scenario,
        &[
            "complete: name a colour [a] red",
            "complete: another one [b] blue",
            "complete: another one [c] green",
            "complete: and one more [d] grey",
        ],
    );
    assert_eq!(run(Sight::Nothing, &scenario).sessions().len(), 1);
}

#[test]
fn a_picture_that_is_dropped_later_changes_nothing() {
    let scenario = |world: &mut World| {
        let mut chat = chat(1, 1).without_tools();
        chat.say(vec![image(), text("what is this?")]);
        world.call(&mut chat, "a", says("a cat"));
        chat.history[0] = message(Role::User, vec![text("what is this?")]);
        chat.user("and its colour?");
        world.call(&mut chat, "b", says("black"));
    };
    everywhere(scenario, &["complete: what is this? [a] a cat", "complete: and its colour? [b] black"]);
    assert_eq!(run(Sight::Nothing, &scenario).sessions().len(), 1);
}

#[test]
fn results_that_are_shortened_later_change_nothing() {
    everywhere(
        |world| {
            let mut chat = chat(1, 1);
            chat.user("read both");
            world.call(&mut chat, "a", asks("t1", "Read", json!({"path": "a"})));
            chat.result("t1", &"long ".repeat(500));
            world.call(&mut chat, "b", asks("t2", "Read", json!({"path": "b"})));
            chat.history[2] = message(Role::Tool, vec![result("t1", "[old result cleared]")]);
            chat.result("t2", "short");
            world.call(&mut chat, "c", says("read"));
        },
        &["complete: read both [a b c] read"],
    );
}

#[test]
fn an_answer_that_is_continued_where_it_stopped_is_one_turn_and_one_answer_afterwards() {
    for first in [Reply::Long as fn(Vec<Content>) -> Reply, Reply::Cut] {
        let scenario = |world: &mut World| {
            let mut chat = chat(1, 1).without_tools();
            chat.user("count to six");
            world.call(&mut chat, "a", first(vec![text("one two three")]));
            let mut prefilled = chat.clone();
            prefilled.history.truncate(1);
            prefilled.history.push(message(Role::Assistant, vec![text("one two three")]));
            world.call(&mut prefilled, "b", says("four five six"));
            // The client keeps one answer.
            chat.history.truncate(1);
            chat.history.push(message(Role::Assistant, vec![text("one two three four five six")]));
            chat.user("thanks");
            world.call(&mut chat, "c", says("welcome"));
        };
        everywhere(scenario, &["complete: count to six [a b] four five six", "complete: thanks [c] welcome"]);
        assert_eq!(run(Sight::Nothing, &scenario).sessions().len(), 1);
    }
}

#[test]
fn examples_in_the_history_are_no_turns() {
    everywhere(
        |world| {
            for (name, question) in [("a", "cat?"), ("b", "oak?")] {
                let mut chat = chat(1, 1).without_tools();
                chat.system("classify").user("dog?");
                chat.history.push(message(Role::Assistant, vec![text("animal")]));
                chat.user(question);
                world.call(&mut chat, name, says(if name == "a" { "animal" } else { "plant" }));
            }
        },
        &["complete: cat? [a] animal", "complete: oak? [b] plant"],
    );
}

#[test]
fn a_conversation_kept_by_the_server_over_many_connections_is_one_session() {
    let scenario = |world: &mut World| {
        let mut previous = None;
        for (n, question) in ["first", "second", "third"].into_iter().enumerate() {
            let mut chat = chat(1, 10 + n as u64).without_tools();
            chat.api = WireApi::OpenAiResponses;
            chat.previous_response_id = previous.take();
            chat.response_id = Some(format!("resp_{n}"));
            chat.user(question);
            world.call(&mut chat, &format!("c{n}"), says(&format!("answer {n}")));
            previous = chat.response_id.clone();
        }
    };
    everywhere(
        scenario,
        &["complete: first [c0] answer 0", "complete: second [c1] answer 1", "complete: third [c2] answer 2"],
    );
    assert_eq!(run(Sight::Nothing, &scenario).sessions().len(), 1);
}
