//! Samples: whole sessions, the same ones each time.

use super::*;

fn of_session(session: &str, id: u16) -> RrPair {
    let mut uuid = [0; 16];
    uuid[..2].copy_from_slice(&id.to_le_bytes());
    RrPair { uuid: Some(uuid), session: session.to_owned(), ..RrPair::default() }
}

#[test]
fn a_sample_keeps_sessions_whole_and_is_always_the_same() {
    let fifth = read(r#"{"sample":{"keep":1,"out_of":5}}"#);
    let kept = |filter: &Filters, session: &str| -> Vec<bool> {
        (0..50).map(|id| selects(filter, &of_session(session, id))).collect()
    };
    let sessions: Vec<String> = (0..500).map(|n| format!("s{n}")).collect();
    let whole = sessions.iter().filter(|session| {
        let kept = kept(&fifth, session);
        assert!(kept.iter().all(|one| *one == kept[0]), "a session is cut");
        kept[0]
    });
    assert!((60..140).contains(&whole.count()), "about a fifth of 500");
    let alone = (0..1000).filter(|id| selects(&fifth, &of_session("", *id))).count();
    assert!((140..260).contains(&alone), "about a fifth of 1000, {alone}");
    // A pair of a session may be chosen for itself.
    let each = read(r#"{"sample":{"keep":"1","outOf":"5","rrpair":true}}"#);
    let cut = kept(&each, "s1");
    assert!(cut.contains(&true) && cut.contains(&false));
    // A smaller sample is part of a larger one, what is left out is the rest, and the choice never changes.
    let two = read(r#"{"sample":"2/5"}"#);
    let rest = read(r#"{"include":false,"sample":"1/5"}"#);
    let chosen: Vec<u16> = (0..40)
        .filter(|id| {
            let pair = of_session("", *id);
            assert!(!selects(&fifth, &pair) || selects(&two, &pair));
            assert_ne!(selects(&fifth, &pair), selects(&rest, &pair));
            selects(&fifth, &pair)
        })
        .collect();
    assert_eq!(chosen, [14, 17, 23, 31, 33, 36]);
    let nameless = RrPair { ts: Some(1), ..RrPair::default() };
    assert_eq!(selects(&fifth, &nameless), selects(&fifth, &nameless.clone()));
    assert_eq!(live(&fifth, &nameless), Verdict::Unknown);
    assert!(
        read(r#"{"sample":"5/5"}"#).is_everything() && read(r#"{"sample":"0/5"}"#).is_nothing()
    );
}
