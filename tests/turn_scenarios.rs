//! What agents do, and the turns that must come out: with all headers, without any, and without processes and shared
//! connections too.

mod turn_world;

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
