//! Two responders behind a plain TCP balancer are one to a client: the same keys, the same tokens, also while keys are swapped under load.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use harness::{
    balancer::Balancer,
    client::Client,
    has_openssl, notice,
    process::Process,
    python::AskWithKeys,
    rotation::{KEYS, Tally, Verifier, login, mount},
    wait_until,
};
use tokio::task::JoinSet;

use crate::token_world::{World, assert_accepted, claims_of, key_set, kid, responder, with_keys};

/// How long clients keep a key set: 5 minutes, scaled down so that a test takes seconds.
const CACHE: Duration = Duration::from_secs(1);
const CLIENTS: usize = 6;
const SWAPS: u32 = 3;

/// Two responders with a balancer before them.
async fn fleet(world: &World, more: &[&str]) -> ([Process; 2], Balancer) {
    let mut both = ["one", "two"].map(|name| responder(name, world.grpc, &world.secrets(), more));
    let [one, two] = &mut both;
    let balancer = Balancer::start(&[one.address("data").await, two.address("data").await]).await;
    world.start();
    (both, balancer)
}

// The balancer goes on while Python is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_behind_a_balancer_are_one() {
    if !has_openssl() {
        return;
    }
    let world = World::new().await;
    let (_both, balancer) = fleet(&world, &[]).await;
    // A client of its own has a connection of its own, which goes to the next replica.
    let anew = || Client::new(balancer.addr());
    let first = key_set(&anew()).await;
    for _ in 0..5 {
        assert_eq!(key_set(&anew()).await, first, "the same bytes");
    }
    let mut asks = Vec::new();
    for (alg, _) in KEYS {
        for _ in 0..4 {
            let uri = format!("http://{}/jwks", balancer.addr());
            let token = login(&anew(), alg).await;
            asks.push(AskWithKeys { token, alg: alg.into(), uri, keys: String::new() });
        }
    }
    assert_accepted(&asks);
    // An ECDSA signature has a random part; the others are the same wherever they are made within a second.
    for alg in ["HS256", "RS256", "EdDSA"] {
        let mut by_second: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for _ in 0..20 {
            let token = login(&anew(), alg).await;
            let second = claims_of(&token)["iat"].as_i64().unwrap();
            by_second.entry(second).or_default().push(token);
        }
        for (second, tokens) in by_second {
            assert!(tokens.iter().all(|token| *token == tokens[0]), "{alg} at {second}");
        }
    }
    let taken = balancer.taken();
    assert!(taken.iter().all(|count| *count > 30), "both have answered: {taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_refused_while_keys_are_swapped_under_load() {
    if !has_openssl() {
        return;
    }
    let world = World::new().await;
    // As docs/tokens.md says: the overlap is the time for which clients keep a key set, and the second for which replicas may differ.
    let (mut both, balancer) = fleet(&world, &["--key-overlap", "3s", "--key-grace", "1m"]).await;
    let [one, two] = &mut both;
    let replicas = [one.address("data").await, two.address("data").await].map(Client::new);
    let ended = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (verifier, ended) = (Verifier::new(balancer.addr(), CACHE), Arc::clone(&ended));
        clients.spawn(verifier.run(move || ended.load(Ordering::Relaxed)));
    }
    for swap in 1..=SWAPS {
        let before = login(&replicas[0], "EdDSA").await;
        mount(&world.secrets(), 1 + swap);
        for replica in &replicas {
            wait_until("the new key signs on each replica", || async {
                (kid(&login(replica, "EdDSA").await) != kid(&before)).then_some(())
            })
            .await;
        }
    }
    ended.store(true, Ordering::Relaxed);
    let tally = clients.join_all().await.into_iter().fold(Tally::default(), Tally::with);
    let refused = tally.refused.len();
    assert_eq!(refused, 0, "of {}: {:?}", tally.fresh, tally.refused.first());
    notice(&format!(
        "{SWAPS} swaps under load: {} tokens verified, {} of them again later, none refused",
        tally.fresh, tally.again
    ));
    assert!(tally.fresh > 100 && tally.again > 100, "{} and {}", tally.fresh, tally.again);
    for (alg, kids) in &tally.kids {
        // The last key may have come too late for a client to meet it.
        assert!(kids.len() >= usize::try_from(SWAPS).unwrap(), "{alg}: {kids:?}");
    }
    // The same by PyJWT, for a part of them.
    let asks: Vec<AskWithKeys> = tally
        .samples
        .iter()
        .rev()
        .step_by(1 + tally.samples.len() / 200)
        .map(|(alg, token, keys)| with_keys(alg, token, keys))
        .collect();
    assert_accepted(&asks);
}
