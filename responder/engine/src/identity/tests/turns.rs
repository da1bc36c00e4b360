//! Turns of several users: what they have changed, at once, and counted.

use super::*;
use crate::sequences::{Selection, Sequence};

#[test]
fn reads_follow_what_their_user_has_changed() {
    let bearer = |user: &str, moment| format!("Bearer {}", of(user, moment));
    let login = |user: &str| post("/login", format!(r#"{{"username":"{user}"}}"#));
    let cart = |user: &str, moment| get("/cart", "Authorization", bearer(user, moment));
    let add = |user: &str, moment| post("/cart", "{}").with("Authorization", bearer(user, moment));
    let mut pairs = Vec::new();
    for (moment, user) in [(1, "ann"), (2, "bob")] {
        let issued = format!(r#"{{"access_token":"{}"}}"#, of(user, moment));
        pairs.push(login(user).answered(&issued));
        pairs.push(cart(user, moment).answered(&format!("{user} has nothing")));
        pairs.push(add(user, moment).answered("ok"));
        pairs.push(cart(user, moment).answered(&format!("{user} has one")));
        pairs.push(cart(user, moment).answered(&format!("{user} has one")));
        pairs.push(add(user, moment).answered("ok"));
        pairs.push(cart(user, moment).answered(&format!("{user} has two")));
    }
    // Whoever shares what users have changed with other nodes does the same when it is alone.
    for across in ["node", "fleet"] {
        let config = format!(r#"{{"sequence":{{"across":"{across}"}}}}"#);
        let serving = serve_with(pairs.clone(), r#"{"id":"t"}"#, &config);
        assert_eq!(cart("ann", 9).of(&serving), "ann has nothing");
        assert_eq!(add("ann", 9).of(&serving), "ok");
        assert_eq!(cart("ann", 9).of(&serving), "ann has one");
        assert_eq!(cart("bob", 9).of(&serving), "bob has nothing");
        assert_ne!(login("ann").of(&serving), "miss");
        assert_eq!(cart("ann", 9).of(&serving), "ann has nothing");
    }
    let serving = serve(pairs.clone());
    let has = |serving: &Serving, user: &str| cart(user, 9).of(serving);
    for _ in 0..3 {
        assert_eq!(has(&serving, "ann"), "ann has nothing", "reading changes nothing");
    }
    assert_eq!(add("ann", 9).of(&serving), "ok");
    for _ in 0..3 {
        assert_eq!(has(&serving, "ann"), "ann has one");
        assert_eq!(has(&serving, "bob"), "bob has nothing", "what others do is their affair");
    }
    assert_eq!(add("eve", 9).of(&serving), "ok");
    assert_eq!(
        (has(&serving, "ann"), has(&serving, "bob")),
        ("ann has one".into(), "bob has nothing".into())
    );
    assert_eq!(add("ann", 9).of(&serving), "ok");
    assert_eq!(has(&serving, "ann"), "ann has two");
    assert_ne!(login("ann").of(&serving), "miss");
    assert_eq!(has(&serving, "ann"), "ann has nothing", "who logs in again starts anew");
    assert_eq!(add("ann", 9).of(&serving), "ok");
    serving.snapshot().reset();
    assert_eq!(has(&serving, "ann"), "ann has nothing");

    let turns = serve_with(pairs, r#"{"id":"t"}"#, r#"{"sequence":{"state":"off","end":"stop"}}"#);
    let seen: Vec<_> = (0..5).map(|_| has(&turns, "ann")).collect();
    assert_eq!(
        seen,
        ["ann has nothing", "ann has one", "ann has one", "ann has two", "ann has two"]
    );
}

#[test]
fn reads_that_differ_without_a_change_take_turns() {
    let ask = |method, path| Ask {
        method,
        path,
        headers: vec![("Authorization", format!("Bearer {}", of("ann", 1)))],
        ..Ask::default()
    };
    let (start, poll) = (ask("POST", "/jobs"), ask("GET", "/jobs/1"));
    let pairs = vec![
        poll.answered("none"),
        start.answered("ok"),
        poll.answered("pending"),
        poll.answered("done"),
    ];
    let seen = |serving: &Serving| (0..4).map(|_| poll.of(serving)).collect::<Vec<_>>();
    assert_eq!(seen(&serve(pairs.clone())), ["none", "pending", "done", "none"]);
    let on = serve_with(pairs, r#"{"id":"t"}"#, r#"{"sequence":{"state":"on"}}"#);
    assert_eq!(seen(&on), ["none"; 4]);
    assert_eq!(start.of(&on), "ok");
    assert_eq!(seen(&on), ["pending", "done", "pending", "done"]);
}

#[test]
fn turns_are_counted() {
    let ask = |user: &str| get("/me", "Authorization", format!("Bearer {}", of(user, 1)));
    let pairs = ["ann", "ann", "bob"].map(|user| ask(user).answered(user)).to_vec();
    let serving = serve(pairs);
    let counts = || serving.snapshot().counts();
    assert_eq!((counts().identities, counts().sequences, counts().moved), (2, 2, 0));
    for user in ["ann", "bob", "ann"] {
        ask(user).of(&serving);
    }
    assert_eq!((counts().moved, counts().steps), (1, 2), "bob has but one answer");
    serving.snapshot().reset();
    assert_eq!((counts().moved, counts().steps), (0, 0));
}

#[test]
fn many_at_once_take_every_answer_once() {
    const STEPS: usize = 10_000;
    let me = get("/me", "X-User", String::new());
    let pairs: Vec<RrPair> = (0..STEPS).map(|nth| me.answered(&nth.to_string())).collect();
    for scope in ["replica", "global"] {
        let config = format!(r#"{{"sequence":{{"scope":"{scope}"}}}}"#);
        let serving = serve_with(pairs.clone(), r#"{"id":"t"}"#, &config);
        let asked = |steps: usize| (0..steps).map(|_| me.of(&serving)).collect::<Vec<_>>();
        let mut taken: Vec<usize> = std::thread::scope(|threads| {
            let running: Vec<_> = (0..8).map(|_| threads.spawn(|| asked(STEPS / 8))).collect();
            running.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        })
        .iter()
        .map(|answer| answer.parse().unwrap())
        .collect();
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..STEPS), "{scope}");
    }
}

#[test]
fn one_order_for_everybody_does_not_ask_who() {
    let me = |user: &str| get("/me", "Authorization", format!("Bearer {}", of(user, 1)));
    let pairs = ["ann", "ann", "bob"].iter().enumerate();
    let pairs = pairs.map(|(nth, user)| me(user).answered(&nth.to_string())).collect();
    let serving = serve_with(pairs, r#"{"id":"t"}"#, r#"{"sequence":{"scope":"global"}}"#);
    let seen: Vec<_> = ["bob", "eve", "ann", "bob"].map(|user| me(user).of(&serving)).into();
    assert_eq!(seen, ["0", "1", "2", "0"]);
}

#[test]
fn sequences_are_listed_and_begun_anew_one_by_one() {
    let ask = |user: &str, path| get(path, "Authorization", format!("Bearer {}", of(user, 1)));
    let all = ["ann", "ann", "bob", "bob"].map(|user| ["/a", "/b"].map(|path| (user, path)));
    let all = all.concat();
    let pairs = all.iter().enumerate();
    let pairs = pairs.map(|(nth, (user, path))| RrPair {
        ordinal: nth.try_into().unwrap(),
        ..ask(user, path).answered(&nth.to_string())
    });
    let serving = serve(pairs.collect());
    let listed = |which: &Selection| {
        let told = serving.snapshot().sequences(which);
        let line = |list: Sequence| {
            let who = list.identity.unwrap_or_else(|| "anybody".into());
            format!("{} {who} {}/{} #{}", list.path, list.taken, list.answers, list.next_ordinal)
        };
        told.into_iter().map(line).collect::<Vec<_>>()
    };
    let everything = Selection::default();
    let labels: Vec<_> = serving.snapshot().sequences(&everything);
    let label =
        |ordinal| labels.iter().find(|list| list.next_ordinal == ordinal).unwrap().identity.clone();
    let bob = label(4).unwrap();
    let step = || all.iter().for_each(|(user, path)| drop(ask(user, path).of(&serving)));
    let moved = |which: &Selection| {
        serving.snapshot().sequences(which).iter().filter(|list| list.taken > 0).count()
    };
    assert_eq!(listed(&everything).len(), 6, "{:?}", listed(&everything));
    ask("bob", "/a").of(&serving);
    let of_bob = Selection { identity: Some(bob.clone()), ..Selection::default() };
    assert_eq!(listed(&of_bob), [format!("/a {bob} 1/2 #6"), format!("/b {bob} 0/2 #5")]);

    step();
    assert_eq!(moved(&everything), 4);
    let a =
        Selection { path: Some("/a".into()), method: Some("GET".into()), ..Selection::default() };
    assert_eq!(serving.snapshot().reset_selected(&a), 2);
    assert_eq!((moved(&a), moved(&everything)), (0, 2));
    assert_eq!(serving.snapshot().reset_selected(&of_bob), 1);
    assert_eq!(moved(&everything), 1);
    assert_eq!(serving.snapshot().reset_selected(&everything), 1);
    assert_eq!(moved(&everything), 0);
    let nobody = Selection { path: Some("/c".into()), ..Selection::default() };
    assert_eq!(serving.snapshot().reset_selected(&nobody), 0);
}

#[test]
fn what_one_user_has_changed_is_forgotten_alone() {
    let bearer = |user: &str| format!("Bearer {}", of(user, 1));
    let cart = |user: &str| get("/cart", "Authorization", bearer(user));
    let add = |user: &str| post("/cart", "{}").with("Authorization", bearer(user));
    let of_one = |user: &str| {
        [cart(user).answered("none"), add(user).answered("ok"), cart(user).answered("one")]
    };
    let serving = serve([of_one("ann"), of_one("bob")].concat());
    let add_all = || ["ann", "bob"].map(|user| add(user).of(&serving));
    add_all();
    let lists = serving.snapshot().sequences(&Selection::default());
    let who = lists.iter().find_map(|list| list.identity.clone().filter(|who| who.contains("ann")));
    assert!(who.is_some(), "{lists:?}");
    serving.snapshot().reset_selected(&Selection { identity: who, ..Selection::default() });
    assert_eq!(["ann", "bob"].map(|user| cart(user).of(&serving)), ["none", "one"]);
}

#[test]
fn users_at_once_take_their_own_answers_in_order() {
    const STEPS: usize = 500;
    let users = ["ann", "bob", "cid", "dan"];
    let me =
        |user: &str, moment| get("/me", "Authorization", format!("Bearer {}", of(user, moment)));
    let pairs = (0..STEPS * users.len()).map(|nth| {
        let user = users[nth % users.len()];
        me(user, 0).answered(&format!("{user} {}", nth / users.len()))
    });
    let serving = serve(pairs.collect());
    std::thread::scope(|threads| {
        for user in users {
            let (serving, me) = (&serving, &me);
            threads.spawn(move || {
                for nth in 0..STEPS {
                    assert_eq!(me(user, 1).of(serving), format!("{user} {nth}"));
                }
            });
        }
    });
}
