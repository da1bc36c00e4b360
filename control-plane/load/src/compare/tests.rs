//! What is a difference and what is none.

use super::*;
use crate::recording::tests::{pair, recording, token};

/// The first difference of a live answer to a recorded one, and whether it is the own one.
fn compared(recorded: &str, live: &str, edit: impl FnOnce(&mut Checks)) -> (Option<String>, bool) {
    let mut checks = Checks { body: true, status: true, ..Checks::default() };
    edit(&mut checks);
    let made = recording(vec![pair("GET /a", &[], "", (200, &[], recorded))]);
    let session = &made.sessions[0];
    let state = State::new(session);
    let answer =
        Answer { status: 200, headers: &HeaderMap::new(), trailers: None, body: live.as_bytes() };
    let found = differences(&checks, &session.steps[0], &state, &answer);
    let own = is_own(&checks, &session.steps[0], &state, &answer);
    (found.first().map(|one| format!("{}: {}", one.check, one.at)), own)
}

#[test]
fn tokens_of_the_same_user_and_moments_are_no_difference() {
    let (old, new, other) = (token("ann", "1"), token("ann", "2"), token("bob", "1"));
    let with = |token: &str| format!(r#"{{"access_token":"{token}","user":"ann"}}"#);
    for (recorded, live, differs) in [
        (with(&old), with(&new), None),
        (with(&old), with(&other), Some("body: access_token differs")),
        (format!("t={old};x"), format!("t={new};x"), None),
        (format!("t={old};x"), format!("t={new};y"), Some("body: the text differs")),
        (
            r#"{"at":"2024-01-02T03:04:05Z"}"#.into(),
            r#"{"at":"2026-11-30T23:00:00.1+01:00"}"#.into(),
            None,
        ),
        (r#"{"created_at":1700000000}"#.into(), r#"{"created_at":1800000000}"#.into(), None),
        (
            r#"{"count":1700000000}"#.into(),
            r#"{"count":1800000000}"#.into(),
            Some("body: count differs"),
        ),
        (r#"{"a":[{"b":1}]}"#.into(), r#"{ "a": [ {"b": 1} ] }"#.into(), None),
        (r#"{"a":[{"b":1}]}"#.into(), r#"{"a":[{"b":2}]}"#.into(), Some("body: a.0.b differs")),
        (r#"{"a":[1]}"#.into(), r#"{"a":[1,2]}"#.into(), Some("body: a has another length")),
        (r#"{"a":1}"#.into(), r#"{"b":1}"#.into(), Some("body: a is missing")),
        (r#"{"a":1}"#.into(), r#"{"a":1,"b":1}"#.into(), Some("body: b is new")),
        (
            r#"{"keys":[{"kty":"RSA","n":"a"}]}"#.into(),
            r#"{"keys":[{"kty":"EC"},{"kty":"RSA"}]}"#.into(),
            None,
        ),
        (
            r#"{"keys":[{"kty":"RSA"}]}"#.into(),
            r#"{"keys":[{"n":1}]}"#.into(),
            Some("body: keys.0.kty is missing"),
        ),
        (r#"{"a":1}"#.into(), "a".into(), Some("body: it is no JSON")),
        ("plain".into(), "other".into(), Some("body: the text differs")),
    ] {
        let (found, own) = compared(&recorded, &live, |_| {});
        assert_eq!((found.as_deref(), own), (differs, differs.is_none()), "{recorded} {live}");
    }
}

#[test]
fn what_is_ignored_makes_no_difference_and_is_told_only_when_asked_for() {
    let (recorded, live) = (r#"{"id":1,"secret":"old"}"#, r#"{"id":1,"secret":"new"}"#);
    assert_eq!(compared(recorded, live, |checks| checks.paths.ignore(["secret"]).unwrap()).0, None);
    let (found, _) = compared(recorded, live, |_| {});
    assert_eq!(found.unwrap(), "body: secret differs");
    let (found, _) = compared(recorded, live, |checks| checks.show = true);
    assert!(found.unwrap().contains("\"new\""));
}

#[test]
fn shapes_are_members_and_types() {
    let shape = |recorded: &str, live: &str| {
        compared(recorded, live, |checks| (checks.body, checks.schema) = (false, true)).0
    };
    let recorded = r#"{"items":[{"id":1,"tag":null}],"name":"a"}"#;
    assert_eq!(
        shape(recorded, r#"{"items":[{"id":7,"tag":"x"},{"id":8,"tag":null}],"name":"b"}"#),
        None
    );
    for (live, differs) in [
        (
            r#"{"items":[{"id":"7","tag":null}],"name":"b"}"#,
            "items.0.id is of the type string instead of number",
        ),
        (r#"{"items":[{"id":7,"tag":1},{"tag":1}],"name":"b"}"#, "items.1.id is missing"),
        (r#"{"items":[],"name":"b","more":1}"#, "more is new"),
        ("[]", "the document is of the type list instead of object"),
    ] {
        assert_eq!(shape(recorded, live).unwrap(), format!("schema: {differs}"));
    }
}

#[test]
fn statuses_and_fields_are_compared_but_for_those_of_a_moment() {
    let checks = Checks {
        status: true,
        headers: true,
        body: true,
        ignored_headers: vec!["X-Node".into()],
        ..Checks::default()
    };
    let recorded = [
        ("Content-Type", "application/json; charset=utf-8"),
        ("Date", "then"),
        ("X-Node", "1"),
        ("X-Kind", "a"),
    ];
    let made = recording(vec![pair("GET /a", &[], "", (200, &recorded, "{}"))]);
    let session = &made.sessions[0];
    let found = |status, fields: &[(&'static str, &'static str)]| {
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let answer = Answer { status, headers: &headers, trailers: None, body: b"[]" };
        let all = differences(&checks, &session.steps[0], &State::new(session), &answer);
        all.into_iter().map(|one| one.at).collect::<Vec<_>>()
    };
    let json = ("content-type", "application/json;charset=UTF-8");
    assert_eq!(found(503, &[json]), ["503 instead of 200", "x-kind is missing"]);
    let text = ("content-type", "text/plain");
    assert_eq!(
        found(200, &[text, ("x-kind", "a")]),
        ["content-type has another value", "the document differs"]
    );
}

#[test]
fn the_status_of_a_call_is_in_its_trailers() {
    let fields = [("Content-Type", "application/grpc")];
    let mut call = pair("POST /shop.v1.Shop/Get", &fields, "", (200, &fields, ""));
    call.extra_json = r#"{"http":{"res":{"trailers":{"grpc-status":["0"]}}}}"#.into();
    let made = recording(vec![call]);
    let session = &made.sessions[0];
    assert_eq!((made.summary.calls, session.steps[0].expected.grpc_status), (1, Some(0)));
    let checks = Checks { status: true, ..Checks::default() };
    for (status, expected) in [("0", None), ("14", Some("grpc-status 14 instead of 0"))] {
        let trailers = HeaderMap::from_iter([(
            HeaderName::from_static("grpc-status"),
            HeaderValue::from_static(status),
        )]);
        let headers = HeaderMap::new();
        let answer =
            Answer { status: 200, headers: &headers, trailers: Some(&trailers), body: b"" };
        let found = differences(&checks, &session.steps[0], &State::new(session), &answer);
        assert_eq!(found.first().map(|one| one.at.as_str()), expected);
    }
}
