//! Answers whose turns nodes share: who waits for which list, and what comes of the turn.

use super::*;
use crate::{
    sequences::Selection,
    serving::{Awaited, Pending, Turn},
    turns::ListId,
};

/// Serves these answers of `GET /n`, and `same` twice under `GET /same`.
fn serving(answers: &[&str], sequence: &str) -> Serving {
    let mut pairs: Vec<RrPair> =
        answers.iter().map(|answer| pair("GET", "/n", "", answer)).collect();
    pairs.extend([pair("GET", "/same", "", "same"), pair("GET", "/same", "", "same")]);
    let config = format!(r#"{{"id":"c","responder":{{"sequence":{sequence}}}}}"#);
    let config = TestConfig::parse(config.as_bytes()).unwrap();
    let (compiled, _) = compile(pairs, &Template::default(), &config, Serve::All);
    Serving::new(Arc::new(compiled), &KeyRing::default())
}

fn request<'r>(path: &'r str, headers: &'r HeaderMap) -> Request<'r> {
    Request { method: "GET", host: "api", path, headers, ..Request::default() }
}

fn awaited(serving: &Serving) -> Awaited {
    match serving.answer_or_owe(&request("/n", &HeaderMap::new()), seconds(NOW)) {
        Err(Pending::Turn(awaited)) => *awaited,
        other => panic!("{other:?}"),
    }
}

fn text(answer: Answer) -> String {
    let Answer::Hit(hit) = answer else { panic!("a miss") };
    String::from_utf8(hit.body.to_vec()).unwrap()
}

fn answer_in(serving: &Serving, turn: Turn) -> String {
    let awaited = awaited(serving);
    let answer =
        serving.answer_in_turn(&request("/n", &HeaderMap::new()), awaited, turn, seconds(NOW));
    text(answer.unwrap())
}

fn list(serving: &Serving) -> ListId {
    serving.snapshot().shared_lists().next().unwrap()
}

#[test]
fn only_answers_that_differ_wait_for_a_turn() {
    let serving = serving(&["a", "b", "c"], r#"{"scope":"global"}"#);
    let headers = HeaderMap::new();
    let same = serving.answer_or_owe(&request("/same", &headers), seconds(NOW));
    assert_eq!(text(same.unwrap()), "same");
    assert_eq!(serving.snapshot().shared_lists().count(), 1);
    let waiting = awaited(&serving);
    assert_eq!((waiting.list(), waiting.lease()), (list(&serving), None));
    for (turn, expected) in [(0, "a"), (7, "b"), (u64::MAX, "a")] {
        assert_eq!(answer_in(&serving, Turn::Shared(turn)), expected, "{turn}");
    }
    let told = serving.snapshot().sequences(&Selection::default());
    let told = told.iter().find(|list| list.path == "/n").unwrap();
    assert_eq!((told.shared, told.taken), (Some(list(&serving)), u64::MAX));
    serving.snapshot().follow(|_| Some(4));
    let told = serving.snapshot().sequences(&Selection::default());
    assert_eq!(told.iter().find(|list| list.path == "/n").map(|list| list.next), Some(1));
}

#[test]
fn the_last_answer_stays_where_answers_come_to_an_end() {
    let serving = serving(&["a", "b"], r#"{"scope":"global","end":"stop"}"#);
    for (turn, expected) in [(0, "a"), (1, "b"), (9, "b")] {
        assert_eq!(answer_in(&serving, Turn::Shared(turn)), expected);
    }
}

#[test]
fn leased_cycles_are_taken_without_waiting() {
    let serving = serving(&["a", "b", "c"], r#"{"scope":"global","order":"cycles","lease":2}"#);
    let waiting = awaited(&serving);
    assert_eq!((waiting.lease(), serving.leased(&waiting)), (Some(6), None));
    serving.lease(&waiting, 6);
    let turn = serving.leased(&waiting).unwrap();
    let headers = HeaderMap::new();
    let first = serving.answer_in_turn(&request("/n", &headers), waiting, turn, seconds(NOW));
    assert_eq!(text(first.unwrap()), "a");
    let rest: String = std::iter::from_fn(|| {
        serving.answer_or_owe(&request("/n", &headers), seconds(NOW)).ok().map(text)
    })
    .collect();
    assert_eq!(rest, "bcabc");
    serving.lease(&awaited(&serving), 3);
    serving.snapshot().reset();
    awaited(&serving);
}

#[test]
fn a_list_is_the_same_in_every_version_with_the_same_answers() {
    let global = r#"{"scope":"global"}"#;
    let one = list(&serving(&["a", "b"], global));
    assert_eq!(one, list(&serving(&["a", "b"], r#"{"scope":"global","order":"cycles"}"#)));
    for other in [&["b", "a"][..], &["a", "b", "a"]] {
        assert_ne!(one, list(&serving(other, global)));
    }
    assert_eq!(serving(&["a", "b"], "{}").snapshot().shared_lists().count(), 0);
}
