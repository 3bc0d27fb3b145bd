//! Sub-agents: conversations that begin inside a tool call of another.

use heron::turn::Step;
use serde_json::json;

use crate::turn_world::*;

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
fn a_sub_agent_that_was_given_up_is_interrupted_and_one_that_still_runs_is_cut() {
    for (given_up, told) in [(true, "interrupted"), (false, "cut")] {
        let scenario = |world: &mut World| {
            let mut main = chat(1, 1).in_session("s");
            main.user("let somebody look");
            world.call(&mut main, "m1", asks("t1", "Task", json!({"prompt": "look into the cellar"})));
            let mut sub = chat(1, 2).in_session("s");
            if !given_up {
                // In the background: the result comes at once.
                main.result("t1", "agent launched");
                world.call(&mut main, "m2", says("somebody looks"));
            }
            sub.user("look into the cellar");
            world.call(&mut sub, "s1", asks("t2", "Bash", bash("ls cellar")));
            if given_up {
                world.wait(SECOND);
                main.result("t1", "the agent stopped without saying anything");
                world.call(&mut main, "m2", says("somebody looked"));
            }
        };
        let answer = if given_up { "somebody looked" } else { "somebody looks" };
        everywhere(
            scenario,
            &[
                &format!("complete: let somebody look [m1 m2] {answer}"),
                &format!("{told} <let somebody look>: look into the cellar [s1]"),
            ],
        );
    }
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
