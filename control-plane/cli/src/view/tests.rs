//! What is shown of what the control plane says.

use super::*;

#[test]
fn a_finding_says_where_what_and_how_to_mend() {
    let found = Diagnostic {
        severity: Severity::Error.into(),
        code: "not_json".into(),
        message: "the line is no JSON".into(),
        hint: "was the file cut off?".into(),
        subject: "a/raw.jsonl".into(),
        line: 7,
        count: 3,
        ..Diagnostic::default()
    };
    assert_eq!(
        finding(&found),
        "error: a/raw.jsonl:7: the line is no JSON [not_json] (3 times); was the file cut off?"
    );
    let at_field = Diagnostic { field_path: "responder[0].type".into(), ..Diagnostic::default() };
    assert_eq!(at_field.row()[1], "responder[0].type");
    assert!(is_error(&at_field), "what has no severity refuses");
}

#[test]
fn a_replay_shows_why_it_is_not_ready() {
    let condition = Condition {
        r#type: "Ready".into(),
        status: ConditionStatus::False.into(),
        reason: "NoResponders".into(),
        ..Condition::default()
    };
    let replay = Replay {
        name: "projects/default/replays/login".into(),
        snapshot: "projects/default/snapshots/s".into(),
        state: ReplayState::Running.into(),
        conditions: vec![condition],
        ..Replay::default()
    };
    assert_eq!(replay.row(), ["login", "running", "no (NoResponders)", "out", "s", "", "", "0/0"]);
    let json = replay.json();
    assert_eq!((&json["ready"], &json["serve"]), (&json!(false), &json!("OUT")));
    assert_eq!(json["conditions"][0]["reason"], "NoResponders");
}

#[test]
fn every_row_has_a_cell_under_each_heading() {
    fn check<T: View + Default>() {
        assert_eq!(T::default().row().len(), T::HEADINGS.len());
        assert!(T::default().json().is_object());
    }
    check::<Snapshot>();
    check::<Transform>();
    check::<TestConfig>();
    check::<Replay>();
    check::<Responder>();
    check::<Diagnostic>();
}

#[test]
fn times_and_digests_are_text() {
    let at = prost_types::Timestamp { seconds: 1_709_629_200, nanos: 5 };
    assert_eq!(time(Some(at)).unwrap(), "2024-03-05T09:00:00Z");
    let of = Digest { hash: vec![0, 255].into(), ..Digest::default() };
    assert_eq!(digest(Some(&of)).unwrap(), "00ff");
}
