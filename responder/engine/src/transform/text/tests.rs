//! Placeholders: every form, what stays, what is refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::transform::{Materials, world::World};

fn text(written: &str) -> Text {
    let mut found = Diagnostics::default();
    let text = Text::with_secrets(written, "at", &mut found);
    text.unwrap_or_else(|| panic!("{written}: {found:?}"))
}

fn scope() -> Scope {
    let materials = Materials {
        files: BTreeMap::from([
            ("notes.txt".to_owned(), Bytes::from_static(b"a\nb")),
            (
                "dataframe:users__payload.csv".to_owned(),
                Bytes::from_static(b"id,name\nu1,Ann\nu1,Anna\nu2,Bob\n"),
            ),
        ]),
        environment: BTreeMap::from([("REGION".to_owned(), "eu".to_owned())]),
        seed: 1,
    };
    let world = Arc::new(World::new(Arc::new(materials), Vec::new()));
    world.set_variable("user", Bytes::from_static(b"u1"));
    Scope::live(&world, Side::Response, 0)
}

#[test]
fn every_form_is_resolved() {
    for (written, resolved) in [
        ("plain", "plain"),
        ("", ""),
        ("<${{user}}|${{var:user}}>", "<u1|u1>"),
        ("${{ user }}", "u1"),
        ("${{env_var:REGION}}-${{env:REGION}}", "eu-eu"),
        ("[${{env_var:UNSET}}]", "[]"),
        ("${{file:notes.txt}}", "a\nb"),
        ("${{dataframe:users:${{user}}:name}}", "Anna"),
        ("${{dataframe:users:u2:name}}", "Bob"),
    ] {
        assert_eq!(text(written).resolve_string(&mut scope()), resolved, "{written}");
    }
}

#[test]
fn what_cannot_be_resolved_stays() {
    for written in [
        "${{nobody}}",
        "${{file:absent}}",
        "${{dataframe:users:u9:name}}",
        "${{dataframe:users:u1:id}}",
        "${{dataframe:absent:u1:name}}",
        "${{secret:a/b}}",
        "${{weird:x}}",
        "${{file:s3://bucket/x}}",
        "${{user",
        "$ {{user}}",
        "{{user}}",
    ] {
        assert_eq!(text(written).resolve_string(&mut scope()), written);
    }
}

#[test]
fn equal_patterns_in_one_text_make_equal_values() {
    let made = text(
        r#"${{rand_string:"[a-z]{12}"}}/${{rand_string:"[a-z]{12}"}}/${{rand_string:"[0-9]{3}"}}"#,
    )
    .resolve_string(&mut scope());
    let parts: Vec<&str> = made.split('/').collect();
    assert_eq!((parts[0].len(), parts[0]), (12, parts[1]));
    assert!(parts[2].parse::<u16>().is_ok(), "{made}");
}

#[test]
fn secrets_resolve_in_answers_only_and_where_they_are_allowed() {
    let mut found = Diagnostics::default();
    assert!(Text::parse("${{secret:a/b}}", "at", &mut found).is_none());
    assert!(Text::with_secrets("${{secret:../b}}", "at", &mut found).is_none());
    let codes: Vec<_> = found.as_slice().iter().map(|found| found.code).collect();
    assert_eq!(codes, ["secret_not_allowed", "secret_path_unsafe"]);
    let (mut required, mut secrets) = (Required::default(), Vec::new());
    text("k=${{secret:a/b}}").require(&mut required, &mut secrets);
    assert_eq!(secrets.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a/b"]);
}

#[test]
fn mistakes_are_named() {
    for (written, code) in
        [("${{rand_string:\"(\"}}", "bad_regex"), ("${{dataframe:users:u1}}", "bad_placeholder")]
    {
        let mut found = Diagnostics::default();
        assert!(Text::parse(written, "at", &mut found).is_none(), "{written}");
        assert_eq!(found.as_slice()[0].code, code);
    }
}

#[test]
fn knows_what_it_depends_on() {
    assert_eq!(text("x${{env_var:A}}${{file:f}}").nature(), Nature::Static);
    assert_eq!(text("${{user}}").nature(), Nature::PerRequest);
    assert_eq!(text("${{dataframe:t:${{user}}:f}}").nature(), Nature::PerRequest);
}

proptest! {
    #[test]
    fn text_without_placeholders_is_the_identity(written in "[^$]{0,40}") {
        prop_assert_eq!(text(&written).resolve_string(&mut scope()), written);
    }

    #[test]
    fn nothing_panics(written in "(\\$\\{\\{|\\}\\}|[a-z:\"\\\\]){0,12}") {
        let mut found = Diagnostics::default();
        if let Some(text) = Text::parse(&written, "at", &mut found) {
            text.resolve(&mut scope());
        }
    }
}
