//! Live requests, as clients send them, against recordings that were redacted and stripped.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::{
    answer::Answer,
    compile::compile_treated,
    dlp::{Tally, strip::Stripper},
    jwt::key::KeyRing,
    request::Request,
    serving::Serving,
    signature::Signature,
    snapshot::{HttpRequest, HttpResponse, RrPair, Serve},
    test_config::TestConfig,
    transform::Template,
};

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";

fn recorded() -> RrPair {
    RrPair {
        request: Some(HttpRequest {
            method: "POST".into(),
            path: "/users/ava@example.com".into(),
            query: format!("token={TOKEN}&password=p"),
            host: "api".into(),
            body: r#"{"ssn":"123-45-6789"}"#.into(),
            ..HttpRequest::default()
        }),
        response: HttpResponse { status: 200, body: "ok".into(), ..HttpResponse::default() },
        ..RrPair::default()
    }
}

fn hits(pair: RrPair, treatment: Treatment, query: &str) -> bool {
    let template = Template::default();
    let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
    let (compiled, _) = compile_treated(vec![pair], &template, &config, Serve::Out, treatment);
    let serving = Serving::new(Arc::new(compiled), &KeyRing::new(1, BTreeMap::new()));
    let request = Request {
        method: "POST",
        host: "api",
        path: "/users/ava@example.com",
        query,
        headers: &http::HeaderMap::new(),
        body: br#"{ "ssn": "123-45-6789" }"#,
        ..Request::default()
    };
    matches!(serving.answer(&request, 0), Answer::Hit(_))
}

#[test]
fn a_client_that_knows_nothing_of_it_gets_its_answer() {
    let redactor =
        Redactor::new(DlpConfig::built_in("standard").unwrap(), RedactionKey::from_seed(b"t"));
    let mut stored = recorded();
    assert!(redactor.redact_pair(&mut stored, &mut Tally::off()));
    assert_eq!(Stripper::all().strip(&mut stored).signatures, 1);
    let again = TOKEN.replace("c2lnbmF0dXJl", "b3RoZXJzaWdu");
    let (query, other) = (format!("password=p&token={again}"), format!("password=q&token={again}"));
    let treatment = || Treatment::new(Some(redactor.clone()), true);
    assert!(hits(stored.clone(), treatment(), &query));
    assert!(!hits(stored.clone(), treatment(), &other), "another password is another request");
    assert!(!hits(stored.clone(), Treatment::default(), &query), "it takes the treatment");
    let restored = StoredTreatment {
        config: DlpConfig::built_in_json("standard").unwrap().into(),
        key: Bytes::copy_from_slice(redactor.key().bytes()),
        stripped: true,
    };
    assert!(!format!("{restored:?}").contains(&format!("{:?}", restored.key)));
    let restored = restored.open().unwrap();
    assert!(hits(stored, restored, &query));
    assert!(hits(recorded(), Treatment::new(None, true), &query), "only some tokens were stripped");
}

#[test]
fn what_is_stored_is_checked() {
    let open = |config: &'static str, key: &'static [u8], stripped| {
        StoredTreatment { config: config.into(), key: key.into(), stripped }.open()
    };
    assert!(open("", b"", false).unwrap().is_empty());
    assert!(!open("", b"", true).unwrap().is_empty());
    assert!(open("{", &[0; 32], false).is_none());
    assert!(open(r#"{"keys":["a"]}"#, &[0; 31], false).is_none());
    assert!(open(r#"{"keys":["a"],"requests":false}"#, &[0; 32], false).unwrap().is_empty());
}

proptest! {
    /// Requests that are matched as they come have the signature that they would have after the treatment.
    #[test]
    fn what_is_left_as_it_comes_needs_no_treatment(
        path in prop::collection::vec(prop::sample::select(PIECES), 0..4),
        query in prop::collection::vec(prop::sample::select(PIECES), 0..4),
        body in prop::collection::vec(prop::sample::select(PIECES), 0..4),
    ) {
        let (path, query, body) = (format!("/{}", path.concat()), query.concat(), body.concat());
        let headers = http::HeaderMap::new();
        let request = Request {
            method: "POST", host: "api", path: &path, query: &query, headers: &headers, body: body.as_bytes(),
            ..Request::default()
        };
        let treatment = Treatment::new(None, true);
        let mut parts = Parts::of_live(&request);
        treatment.apply(&mut parts);
        let mut plain = Vec::new();
        Signature::write_live(&request, &mut plain);
        let same = plain.as_slice() == &*Signature::of(&parts, &[]).to_bytes();
        prop_assert!(same || treatment.may_change(&request));
        let tokens = [&path, &query, &body].iter().any(|text| text.contains(TOKEN));
        prop_assert!(!tokens || treatment.may_change(&request), "a token is never overlooked");
    }
}

/// What requests are made of: tokens, plain and escaped, what looks like them, and what stands between them.
const PIECES: &[&str] = &[
    TOKEN,
    "%65yJhbGciOiJIUzI1NiJ9%2EeyJzdWIiOiJhIn0.c2ln",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0",
    "exam.ple.com",
    "e%2E",
    "a=1&t=",
    "%20",
    "+",
    ".",
    "/v1/",
];
