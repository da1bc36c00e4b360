//! Every recording at hand is replayed against itself: each recorded request has to be a hit.
//!
//! The recordings are third-party data and not part of the repository; where they are absent the test says so and passes.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test that reads files and reports"
)]

mod shared;

use std::{collections::BTreeMap, fs, sync::Arc};

use countersign_engine::{
    answer::Answer,
    compile::{compile, compile_treated},
    dlp::{DlpConfig, RedactionKey, Redactor, Tally, Treatment},
    jwt::key::KeyRing,
    request::Request,
    serving::Serving,
    snapshot::{RrPair, Serve},
    test_config::TestConfig,
    transform::Template,
};

use shared::{read, shared_data};

/// How many recorded requests get an answer, of how many.
fn replay(pairs: &[RrPair], serving: &Serving) -> (usize, usize) {
    let mut hits = 0;
    for pair in pairs {
        let recorded = pair.request.as_ref().unwrap();
        let headers = recorded
            .headers
            .iter()
            .filter_map(|header| {
                let name = http::HeaderName::from_bytes(header.name.as_bytes()).ok()?;
                Some((name, http::HeaderValue::from_bytes(&header.value).ok()?))
            })
            .collect();
        let request = Request {
            method: &recorded.method,
            host: &recorded.host,
            path: &recorded.path,
            query: &recorded.query,
            headers: &headers,
            body: &recorded.body,
            ..Request::default()
        };
        match serving.answer(&request, 1_800_000_000_000_000_000) {
            Answer::Hit(_) => hits += 1,
            Answer::Miss => eprintln!(
                "miss: {} {}: {:?}",
                recorded.method,
                recorded.path,
                serving.near_miss(&request, 0).nearest.first()
            ),
        }
    }
    (hits, pairs.len())
}

#[test]
fn every_recorded_request_is_a_hit() {
    let Some(root) = shared_data("recordings are") else { return };
    let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
    for folder in fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
        let (pairs, refused) = read(&folder);
        let (compiled, found) = compile(pairs.clone(), &Template::default(), &config, Serve::All);
        let serving = Serving::new(Arc::new(compiled), &KeyRing::default());
        let (hits, all) = replay(&pairs, &serving);
        eprintln!(
            "{}: {hits} of {all}, {} signatures, refused {refused:?}, found {found:?}",
            folder.display(),
            serving.snapshot().signatures()
        );
        assert_eq!(hits, all, "{}", folder.display());
    }
}

#[test]
fn the_recorded_demo_loses_what_belongs_to_people_and_still_answers() {
    let Some(data) = shared_data("recordings are") else { return };
    let recorded = read(&data.join("dlp-demo")).0;
    assert_eq!(recorded.len(), 5);
    let (config, found) = DlpConfig::parse(
        br#"{"extends":"standard","keys":["name"],"patterns":["phone","ipv4","ipv6"]}"#,
    );
    assert!(found.as_slice().is_empty(), "{found:?}");
    let redactor = Redactor::new(config, RedactionKey::from_seed(b"demo"));
    let mut tally = Tally::new(redactor.config());
    let mut stored = recorded.clone();
    for pair in &mut stored {
        redactor.redact_pair(pair, &mut tally);
    }
    let (before, after) = (format!("{recorded:?}"), format!("{stored:?}"));
    for secret in [
        "ava.sullivan",
        "Ava Sullivan",
        "4155552671",
        "123-45-6789",
        "4111 1111",
        "orders_user:secret",
        "192.168.20.15",
        "2001:0db8",
    ] {
        assert!(before.contains(secret), "the recording has {secret}");
        assert!(!after.contains(secret), "{secret} is still there");
    }
    let report = tally.report(redactor.config());
    assert!(report.rules.len() >= 7, "{report:?}");
    assert_eq!(report.tokens_left.unwrap().values, 1, "of a session");
    let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
    let treatment = Treatment::new(Some(redactor), false);
    let (compiled, _) =
        compile_treated(stored, &Template::default(), &config, Serve::All, treatment);
    let serving = Serving::new(Arc::new(compiled), &KeyRing::default());
    assert_eq!(replay(&recorded, &serving), (5, 5));
}

/// What a pair's request is answered.
fn answer(serving: &Serving, pair: &RrPair) -> Answer {
    let recorded = pair.request.as_ref().unwrap();
    let headers = http::HeaderMap::new();
    let request = Request {
        method: &recorded.method,
        host: &recorded.host,
        path: &recorded.path,
        query: &recorded.query,
        headers: &headers,
        body: &recorded.body,
        ..Request::default()
    };
    serving.answer(&request, 1_800_000_000_000_000_000)
}

/// Header fields with the values of a repeated name joined, which means the same and is how mappings write them.
fn joined(headers: &http::HeaderMap) -> BTreeMap<String, String> {
    let values = |name| {
        let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap());
        values.collect::<Vec<_>>().join(", ")
    };
    headers.keys().map(|name| (name.to_string(), values(name))).collect()
}

#[test]
fn mappings_answer_like_the_recording_that_they_were_made_from() {
    let Some(root) = shared_data("recordings are") else { return };
    let folder = root.join("wiremock-export-demo");
    let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
    let serving = |pairs: &[RrPair]| {
        let (compiled, _) = compile(pairs.to_vec(), &Template::default(), &config, Serve::All);
        Serving::new(Arc::new(compiled), &KeyRing::default())
    };
    let pairs = read(&folder.join("recording")).0;
    let (mappings, refused) = read(&folder.join("mappings.json"));
    assert_eq!((mappings.len(), refused.len()), (pairs.len(), 0));
    let (recorded, stubbed) = (serving(&pairs), serving(&mappings));
    for pair in &pairs {
        let (Answer::Hit(one), Answer::Hit(other)) =
            (answer(&recorded, pair), answer(&stubbed, pair))
        else {
            panic!("a miss: {:?}", pair.location)
        };
        assert_eq!(one.status, other.status);
        assert_eq!(one.body, other.body, "{}", pair.location);
        assert_eq!(joined(&one.headers), joined(&other.headers), "{}", pair.location);
    }
}
