//! Lines as people write them, and whose a credential is then.

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hash(token: &str) -> TokenHash {
    TokenHash::of(token)
}

fn good(known: Known) -> Principal {
    match known {
        Known::Good(principal) => (*principal).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_for_one_credential_add_up_until_they_end() {
    let (one, ci) = (hash("one"), hash("ci"));
    let text = format!(
        "# who works here\n\
         anna editor shop,web {one}   # by token\n\
         anna operator web {one} expires=2027-01-01T00:00:00Z\n\
         \n\
         user/bob viewer * certificate\n\
         ci responder shop {ci} expires=2027-01-01T00:00:00Z\n"
    );
    let users = Users::parse(&text).unwrap();
    let (before, after) = (at("2026-12-31T23:59:59Z"), at("2027-01-01T00:00:00Z"));
    let anna = good(users.of_token("one", before));
    assert_eq!((&*anna.name, anna.means), ("anna", Means::Token));
    assert_eq!(anna.rights.level("web"), Some(Level::Operator));
    assert_eq!(anna.rights.level("shop"), Some(Level::Editor));
    assert_eq!(anna.rights.level("other"), None);
    assert_eq!(good(users.of_token("one", after)).rights.level("web"), Some(Level::Editor));
    let responder = Rights::Responder { project: "shop".into(), name: None };
    assert_eq!(good(users.of_token("ci", before)).rights, responder);
    assert_eq!(users.of_token("ci", after), Known::Expired("ci".into()));
    assert_eq!(users.of_token("two", before), Known::Unknown);
    assert_eq!(users.of_token("", before), Known::Unknown);

    let bob: Identity = "spiffe://a.example/user/bob".parse().unwrap();
    let bob = good(users.of_certificate(&bob, before));
    assert_eq!((&*bob.name, bob.means), ("spiffe://a.example/user/bob", Means::Certificate));
    assert_eq!(bob.rights.level("any"), Some(Level::Viewer));
    let eve: Identity = "spiffe://a.example/user/eve".parse().unwrap();
    assert_eq!(users.of_certificate(&eve, before), Known::Unknown);
}

#[test]
fn a_line_that_is_wrong_is_told_of() {
    let (one, two) = (hash("one"), hash("two"));
    let wrong = |text: &str| Users::parse(text).unwrap_err();
    let cases = [
        ("anna editor shop".to_owned(), LineError::Words),
        (format!("anna editor shop {one} until=x"), LineError::Words),
        (format!("anna editor shop {one} expires=tomorrow"), LineError::Expires),
        (format!("a;b editor shop {one}"), LineError::Name),
        (format!("anna root shop {one}"), LineError::Role(UnknownRole("root".into()))),
        (format!("anna editor shop,,web {one}"), LineError::Project(String::new())),
        (format!("anna editor shop,* {one}"), LineError::Project("*".into())),
        ("anna editor shop secret".to_owned(), LineError::Credential(NotAHash)),
        (format!("ci responder * {one}"), LineError::Responder),
        (format!("ci responder a,b {one}"), LineError::Responder),
        ("anna editor shop certificate".to_owned(), LineError::Certificate),
        ("user/ci responder shop certificate".to_owned(), LineError::Certificate),
    ];
    for (text, expected) in cases {
        assert_eq!(wrong(&text), (1, expected), "{text}");
    }
    let text = format!("a editor p {one}\nb editor p {two}\nc editor p {one}\n");
    assert_eq!(wrong(&text), (3, LineError::Twice("a".into())));
    let text = format!("a editor p {one}\na responder p {one}\n");
    assert_eq!(wrong(&text), (2, LineError::Responder));
}

#[test]
fn the_line_of_a_new_token_reads_as_it_was_meant() {
    let end = at("2027-02-28T00:00:00Z");
    let line = line("anna", "viewer", "shop", hash("t"), Some(end)).unwrap();
    assert!(line.ends_with(" expires=2027-02-28T00:00:00Z"), "{line}");
    let users = Users::parse(&line).unwrap();
    assert_eq!(users.of_token("t", end), Known::Expired("anna".into()));
    assert!(super::line("anna", "viewer", "no project", hash("t"), None).is_err());
    assert!(super::line("an\nna", "viewer", "p", hash("t"), None).is_err());
}

#[test]
fn a_file_is_read_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    assert!(matches!(Users::read(&path), Err(UsersError::Read { .. })));
    let long = usize::try_from(MAX_FILE).unwrap() + 1;
    fs::write(&path, "#".repeat(long)).unwrap();
    assert!(matches!(Users::read(&path), Err(UsersError::TooLong { .. })));
    fs::write(&path, "x\n").unwrap();
    assert!(matches!(Users::read(&path), Err(UsersError::Line { line: 1, .. })));
}
