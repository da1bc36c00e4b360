//! Turns of several users: what they have changed, at once, and counted.

use super::*;

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
    let serving = serve_with(pairs, r#"{"id":"t"}"#, r#"{"sequence":{"scope":"replica"}}"#);
    let asked = |steps: usize| (0..steps).map(|_| me.of(&serving)).collect::<Vec<_>>();
    let mut taken: Vec<usize> = std::thread::scope(|threads| {
        let running: Vec<_> = (0..8).map(|_| threads.spawn(|| asked(STEPS / 8))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    })
    .iter()
    .map(|answer| answer.parse().unwrap())
    .collect();
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..STEPS));
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
