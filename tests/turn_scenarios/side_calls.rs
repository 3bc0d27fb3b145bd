//! Calls that are in no turn: housekeeping, and hops through proxies.

use heron::wire::{Operation, Role, WireApi};
use serde_json::json;

use crate::turn_world::*;

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

/// As Qwen Code does: a copy of the conversation, other instructions, a request of the agent's own, tools.
#[test]
fn an_agent_that_takes_notes_beside_a_conversation_is_no_turn_of_it() {
    let scenario = |world: &mut World| {
        let mut main = chat(1, 1);
        main.system("You are Qwen Code, a CLI agent.").user("what is in x?");
        world.call(&mut main, "a", says("a parser"));
        let mut notes = main.clone();
        notes.history[0] = message(
            Role::System,
            vec![text("You are now acting as the managed memory extraction subagent for an AI coding assistant.")],
        );
        notes.user("Managed memory has TWO directories. Update what is worth it.");
        world.call(&mut notes, "n1", asks("t1", "read_file", json!({"path": "MEMORY.md"})));
        notes.result("t1", "(empty)");
        world.call(&mut notes, "n2", says("nothing to keep"));
        main.user("and in y?");
        world.call(&mut main, "b", says("a lexer"));
    };
    everywhere(scenario, &["complete: what is in x? [a] a parser", "complete: and in y? [b] a lexer"]);
    assert_eq!(run(Sight::Nothing, &scenario).auxiliary(), ["n1", "n2"]);
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
