//! Turns that several responders share: one order behind a balancer, also while responders come and go.

use std::{collections::BTreeMap, time::Duration};

use harness::{
    balancer::Balancer,
    client::Client,
    notice,
    process::Process,
    redis::Redis,
    register::{Break, Found, check},
    turns::{Load, World, agreed, breaks, ids, shared, turn},
    wait_until,
};
use serde_json::json;

/// So many lists of answers are asked for at a time, each by so many clients.
const LISTS: usize = 6;
const CLIENTS: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn responders_behind_a_balancer_have_one_order() {
    let world = World::new((LISTS, 5), &json!({"scope": "global"})).await;
    let names = ["one", "two", "three"];
    let mut all = names.map(|name| world.responder(name, "127.0.0.1:0"));
    let mut servers = Vec::new();
    for responder in &mut all {
        servers.push(responder.address("data").await);
    }
    let balancer = Balancer::start(&servers).await;
    world.start();
    agreed(&mut all, &["one", "three", "two"]).await;
    for nth in 0..14 {
        for list in 0..LISTS {
            // A client of its own has a connection of its own, which goes to the next responder.
            assert_eq!(turn(&Client::new(balancer.addr()), list).await, Ok(nth % 5));
        }
    }
    assert!(balancer.taken().iter().all(|taken| *taken > 10), "all have answered");

    // Whoever ends hands over what it kept, and whoever comes is given its part.
    assert!(all[0].terminate().await.success());
    for nth in 14..20 {
        for list in 0..LISTS {
            let client = Client::new(servers[1 + usize::try_from(nth).unwrap() % 2]);
            assert_eq!(turn(&client, list).await, Ok(nth % 5), "{}", all[1].text());
        }
    }
    all[0] = world.responder("one", "127.0.0.1:0");
    let back = Client::new(all[0].address("data").await);
    agreed(&mut all, &["one", "three", "two"]).await;
    for list in 0..LISTS {
        assert_eq!(turn(&back, list).await, Ok(0));
    }
    assert_eq!(breaks(&all.map(Process::finish)), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn cycles_are_taken_whole_and_each_once() {
    let world =
        World::new((1, 4), &json!({"scope": "global", "order": "cycles", "lease": 2})).await;
    let mut all = ["one", "two"].map(|name| world.responder(name, "127.0.0.1:0"));
    let mut clients = Vec::new();
    for responder in &mut all {
        clients.push(Client::new(responder.address("data").await));
    }
    world.start();
    agreed(&mut all, &["one", "two"]).await;
    for client in &clients {
        for nth in 0..20 {
            assert_eq!(turn(client, 0).await, Ok(nth % 4), "each responder has whole cycles");
        }
    }
    assert_eq!(breaks(&all.map(Process::finish)), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_turns_and_nothing_fails_without_it() {
    let Some(mut redis) = Redis::start().await else { return };
    let world = World::new((LISTS, 1000), &json!({"scope": "global"})).await;
    let url = redis.url();
    let mut all = ["one", "two"].map(|name| {
        let more = ["--sequence-redis", &url];
        world.responder_with(name, "127.0.0.1:0", &more)
    });
    let mut servers = Vec::new();
    for responder in &mut all {
        servers.push(responder.address("data").await);
    }
    world.start();
    let balancer = Balancer::start(&servers).await;
    let load = Load::begin(&world, balancer.addr(), CLIENTS, Duration::from_millis(20));
    load.more(600).await;
    let lists = load.end().await;
    for calls in &lists {
        let found = check(calls, &[]).unwrap();
        assert_eq!((found.ordered, found.missing), (calls.len(), 0));
    }

    // Whoever asks while it is gone goes on from what was seen.
    redis.crash();
    let client = Client::new(servers[0]);
    let before = turn(&client, 0).await.unwrap();
    assert_eq!(turn(&client, 0).await, Ok(before + 1));
    let admin = Client::new(all[0].address("admin").await);
    let told = shared(&admin).await["discontinuities"].as_u64().unwrap();
    assert!(told >= 2, "{told}");
    // When it is back without what it knew, that is told as well.
    redis.resume().await;
    wait_until("redis gives turns again", || async {
        (turn(&client, 0).await.unwrap() < before).then_some(())
    })
    .await;
    // Orderly, so that everything is told.
    for responder in &mut all {
        assert!(responder.terminate().await.success());
    }
    let told = breaks(&all.map(Process::finish));
    let lost = told.values().flatten().filter(|one| matches!(one, Break::Lost { .. })).count();
    assert_eq!(lost, 1, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_are_linearizable_while_responders_are_killed() {
    const KILLS: usize = 4;
    let world = World::new((LISTS, 1500), &json!({"scope": "global"})).await;
    let names = ["one", "two", "three"];
    let mut all = names.map(|name| world.responder(name, "127.0.0.1:0"));
    let mut servers = Vec::new();
    for responder in &mut all {
        servers.push(responder.address("data").await);
    }
    let balancer = Balancer::start(&servers).await;
    world.start();
    agreed(&mut all, &["one", "three", "two"]).await;
    let load = Load::begin(&world, balancer.addr(), CLIENTS, Duration::from_millis(20));
    load.more(300).await;
    let mut logs = Vec::new();
    for kill in 0..KILLS {
        let nth = kill % names.len();
        all[nth].kill();
        load.more(300).await;
        let listen = servers[nth].to_string();
        let killed = std::mem::replace(&mut all[nth], world.responder(names[nth], &listen));
        logs.push(killed.finish());
        agreed(&mut all, &["one", "three", "two"]).await;
        load.more(300).await;
    }
    let lists = load.end().await;
    let ids = ids(&mut all[0]).await;
    logs.extend(all.map(Process::finish));
    let breaks = breaks(&logs);
    assert!(ids.len() == LISTS && breaks.keys().all(|list| ids.contains(list)), "{ids:?}");
    let of = |id: &String| breaks.get(id).map_or(&[][..], Vec::as_slice);
    let checked = lists.iter().zip(&ids).map(|(calls, id)| check(calls, of(id)));
    let found: Vec<Found> =
        checked.map(|found| found.unwrap_or_else(|why| panic!("{why}; {breaks:?}"))).collect();
    notice(&format!("turns of {LISTS} lists through {KILLS} kills: {found:?}"));
    assert!(found.iter().all(|found| found.ordered > 300), "{found:?}");
    assert!(found.iter().map(|found| found.breaks).sum::<usize>() > 0, "owners were killed");
}
