//! The JSONPath Compliance Test Suite: every case, values and places.

use serde::Deserialize;
use serde_json::Value;

use super::{MAX_DESCENTS, Query, QueryError};

#[derive(Deserialize)]
struct Suite {
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    selector: String,
    #[serde(default)]
    document: Value,
    result: Option<Vec<Value>>,
    results: Option<Vec<Vec<Value>>>,
    #[serde(default)]
    invalid_selector: bool,
}

const SUITE: &str = include_str!("../../tests/data/jsonpath/compliance_test_suite.json");

/// Why a case fails; `None` when it holds.
fn fails(case: &Case) -> Option<String> {
    let query = match (Query::parse(&case.selector), case.invalid_selector) {
        (Err(_), true) => return None,
        (Ok(_), true) => return Some("was accepted".to_owned()),
        (Err(why), false) => return Some(why.to_string()),
        (Ok(query), false) => query,
    };
    let found: Vec<Value> = query.values(&case.document).into_iter().cloned().collect();
    // Where the order of members is open, the suite has several answers.
    let expected = case.result.iter().chain(case.results.iter().flatten());
    if !expected.clone().any(|expected| *expected == found) {
        return Some(format!("found {found:?}"));
    }
    (query.ways(&case.document).len() != found.len()).then(|| "finds other places".to_owned())
}

#[test]
fn every_case_of_the_suite_holds() {
    let suite: Suite = serde_json::from_str(SUITE).unwrap();
    assert_eq!(suite.tests.len(), 703);
    let failed: Vec<String> = suite
        .tests
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case.name, fails(case)?)))
        .collect();
    assert!(failed.is_empty(), "{} of 703 fail:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn more_descents_than_are_bounded_are_refused() {
    let path = format!("${}", "..a".repeat(MAX_DESCENTS + 1));
    assert!(matches!(Query::parse(&path), Err(QueryError::TooLarge)));
}
