//! Every criterion in every form: what it selects, what a live request makes of it, and what is wrong with some.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    names::{ENTRIES, Place, Plain, find},
    test::Operator,
    value::TimeRange,
    *,
};
use crate::snapshot::{Direction, Header, HttpRequest};
use table::{ROWS, Row};

/// The criteria of FORMATS.md §4.3.
const DOCUMENTED: [&str; 26] = [
    "host",
    "tag",
    "requestBodyHash",
    "requestBodyJson",
    "requestBodyXml",
    "direction",
    "tech",
    "l7protocol",
    "network_address",
    "service",
    "cluster",
    "namespace",
    "optUrl",
    "detectedCommand",
    "detectedLocation",
    "detectedStatus",
    "timeRange",
    "header",
    "httpReqXPath",
    "httpReqSoapXPath",
    "reqFilter",
    "sample",
    "uuid",
    "snapshotId",
    "session",
    "source",
];

/// The keywords of FORMATS.md §4.3.
const DOCUMENTED_KEYWORDS: [&str; 23] = [
    "cluster",
    "command",
    "direction",
    "header",
    "l7protocol",
    "location",
    "namespace",
    "networkaddr",
    "req_json",
    "req_xml",
    "req_soapxpath",
    "req_xpath",
    "sample",
    "service",
    "session",
    "snapshot",
    "source",
    "status",
    "tag",
    "tech",
    "timerange",
    "url",
    "uuid",
];

fn pair(content_type: &str, body: &str) -> RrPair {
    let header = |name: &str, value: &str| Header {
        name: name.into(),
        value: Bytes::from(value.to_owned()),
    };
    RrPair {
        uuid: Some([0xab; 16]),
        ts: Some(1_714_564_800_000_000_000),
        direction: Direction::In,
        l7protocol: "https".into(),
        service: "shop".into(),
        namespace: "prod".into(),
        tech: "JSON".into(),
        network_address: "api.test:443".into(),
        command: "POST".into(),
        location: "/v1/login".into(),
        status: "201".into(),
        session: "JWT:ann".into(),
        tags: [("source", "goproxy"), ("k8sAppLabel", "a=b"), ("empty", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        request: Some(HttpRequest {
            method: "POST".into(),
            path: "/v1/login".into(),
            query: "b=2&a=x%20y".into(),
            host: "api.test:8443".into(),
            headers: vec![
                header("Content-Type", content_type),
                header("X-Tenant", "acme"),
                header("X-Tenant", "beta"),
            ],
            body: Bytes::from(body.to_owned()),
            ..HttpRequest::default()
        }),
        ..RrPair::default()
    }
}

fn json() -> RrPair {
    pair(
        "application/json",
        r#"{"user":{"name":"ann","n":1.50,"gone":null},"items":[{"k":"x"},{"k":"y"}],"fieldsMap":{"3":{"fields":[{"asString":"4"}]}}}"#,
    )
}

fn xml() -> RrPair {
    pair(
        "application/xml",
        r#"<q><user id="7">ann</user><items><item>x</item><item>y</item></items></q>"#,
    )
}

fn soap() -> RrPair {
    pair(
        "text/xml",
        r#"<s:Envelope xmlns:s="urn:s"><s:Body><m:Login><m:user>ann</m:user></m:Login></s:Body></s:Envelope>"#,
    )
}

fn read(json: &str) -> Filters {
    let mut found = Diagnostics::default();
    let node: Node = serde_json::from_str(json).unwrap();
    let filters = Filters::parse(Some(&node), "f", &mut found);
    assert!(!found.has_errors(), "{json}: {:?}", found.as_slice());
    filters.unwrap()
}

fn wrong(json: &str) -> Vec<(&'static str, String)> {
    let mut found = Diagnostics::default();
    let node: Node = serde_json::from_str(json).unwrap();
    assert!(Filters::parse(Some(&node), "f", &mut found).is_none(), "{json} is accepted");
    assert!(found.has_errors(), "{json} is refused without a reason");
    found.into_vec().into_iter().map(|found| (found.code, found.path)).collect()
}

fn selects(filters: &Filters, pair: &RrPair) -> bool {
    filters.selects(&Recorded::new(pair))
}

fn live(filters: &Filters, pair: &RrPair) -> Verdict {
    filters.admits_live(&Parts::of_recorded(&RrPair {
        request: pair.request.clone(),
        ..RrPair::default()
    }))
}

#[test]
fn no_documented_criterion_is_missing() {
    assert_eq!(ENTRIES.iter().map(|entry| entry.json).collect::<Vec<_>>(), DOCUMENTED);
    let keywords: BTreeSet<&str> = ENTRIES.iter().map(|entry| entry.query).collect();
    let documented: BTreeSet<&str> =
        DOCUMENTED_KEYWORDS.into_iter().chain(["", "host", "req_hash"]).collect();
    assert_eq!(keywords, documented);
    // What has no row has a test of its own.
    let tested: BTreeSet<&str> = ROWS
        .iter()
        .map(|row| row.name)
        .chain(["requestBodyHash", "sample", "snapshotId"])
        .map(|name| find(name).unwrap().json)
        .collect();
    assert_eq!(tested, BTreeSet::from(DOCUMENTED));
}

#[test]
fn every_criterion_is_documented() {
    let docs = include_str!("../../../../../docs/filters.md");
    for entry in &ENTRIES {
        for name in [entry.json, entry.query] {
            assert!(name.is_empty() || docs.contains(&format!("`{name}")), "{name}");
        }
    }
}

#[test]
fn each_criterion_selects_and_is_inverted_by_include() {
    for Row { name, holds, fails, live: expected, of } in &ROWS {
        let pair = of();
        let both = [(*holds, true), (*fails, false)];
        for ((value, holds), expected) in both.into_iter().zip(*expected) {
            let filter = read(&format!(r#"{{"include":true,"{name}":{value}}}"#));
            assert_eq!(selects(&filter, &pair), holds, "{filter}");
            assert_eq!(live(&filter, &pair), expected, "{filter}");
            let inverted = read(&format!(r#"{{"include":false,"{name}":{value}}}"#));
            assert_eq!(selects(&inverted, &pair), !holds, "{inverted}");
            let opposite = match expected {
                Verdict::Yes => Verdict::No,
                Verdict::No => Verdict::Yes,
                Verdict::Unknown => Verdict::Unknown,
            };
            assert_eq!(live(&inverted, &pair), opposite, "{inverted}");
        }
    }
}

#[test]
fn a_hash_is_of_the_whole_body() {
    let pair = pair("text/plain", "abc");
    let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let base64 = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    for text in [hex, base64, &hex.to_uppercase()] {
        let filter = read(&format!(r#"{{"requestBodyHash":"{text}"}}"#));
        assert!(selects(&filter, &pair));
        assert_eq!(live(&filter, &pair), Verdict::Yes);
        assert!(!selects(&filter, &json()));
        assert!(!selects(&filter, &RrPair { request: None, ..pair.clone() }), "no body");
        assert_eq!(filter.to_string(), format!(r#"(req_hash IS "{hex}")"#));
    }
    let by_hash = RrPair {
        request: None,
        signature: [("http:requestBodyHash".to_owned(), Bytes::from(value_bytes(hex)))].into(),
        ..RrPair::default()
    };
    assert!(selects(&read(&format!(r#"{{"requestBodyHash":"{base64}"}}"#)), &by_hash));
}

fn value_bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn a_form_is_searched_like_json() {
    let form = pair("application/x-www-form-urlencoded", "grant_type=password&user=a%20b");
    let filter = read(r#"{"reqFilter":{"key":"user","value":"a b"}}"#);
    assert!(selects(&filter, &form));
    assert_eq!(live(&filter, &form), Verdict::Yes);
    assert!(!selects(&filter, &pair("text/plain", "user=a%20b")));
}

#[test]
fn operators_compare_in_three_ways() {
    for (operator, value, holds) in [
        ("EQUAL", "/v1/login", true),
        ("equal", "/v1", false),
        ("", "/v1/login", true),
        ("CONTAINS", "/v1", true),
        ("contains", "", true),
        ("CONTAINS", "/v2", false),
        ("REGEX", "^/v[0-9]+/log", true),
        ("REGEX", "^login", false),
    ] {
        let filter = read(&format!(r#"{{"detectedLocation":"{value}","operator":"{operator}"}}"#));
        assert_eq!(selects(&filter, &json()), holds, "{operator} {value}");
    }
    let direction = read(r#"{"direction":"I","operator":"CONTAINS"}"#);
    assert!(selects(&direction, &json()));
    let uuid = read(r#"{"uuid":"^abab","operator":"REGEX"}"#);
    assert!(selects(&uuid, &json()));
    let source = read(r#"{"source":"RRPAIR_SOURCE_GO","operator":"CONTAINS"}"#);
    assert!(selects(&source, &json()));
    let bytes = RrPair {
        request: Some(HttpRequest {
            headers: vec![Header { name: "X".into(), value: Bytes::from_static(b"\xff\xfe") }],
            ..HttpRequest::default()
        }),
        ..RrPair::default()
    };
    assert!(selects(
        &read(r#"{"header":{"key":"x","value":"(?-u)\\xfe$"},"operator":"REGEX"}"#),
        &bytes
    ));
}

#[test]
fn sets_join_with_and_unless_they_say_or() {
    let yes = r#"{"include":true,"detectedCommand":"POST"}"#;
    let no = r#"{"include":true,"detectedCommand":"GET"}"#;
    for (set, holds) in [
        ("null".to_owned(), true),
        ("{}".to_owned(), true),
        ("[]".to_owned(), true),
        (r#"{"filters":[]}"#.to_owned(), true),
        (r#"{"filters":{}}"#.to_owned(), true),
        (r#"{"filters":[{"include":true}]}"#.to_owned(), true),
        (r#"{"filters":[{"include":false}]}"#.to_owned(), false),
        (r#"{"filters":[{"include":true,"detectedCommand":null}]}"#.to_owned(), true),
        (r#"{"operator":"OR","filters":[]}"#.to_owned(), true),
        (r#"{"operator":"OR","filters":[{}],"conditions":[]}"#.to_owned(), true),
        (format!("[{yes},{no}]"), false),
        (format!(r#"{{"filters":[{yes},{no}]}}"#), false),
        (format!(r#"{{"operator":"and","filters":[{yes},{no}]}}"#), false),
        (format!(r#"{{"Operator":"or","Filters":[{yes},{no}]}}"#), true),
        (format!(r#"{{"id":"x","conditions":[{{"filters":[{yes}]}},{{"filters":[{no}]}}]}}"#), false),
        (format!(r#"{{"operator":"OR","conditions":[{{"filters":[{yes}]}},{{"filters":[{no}]}}]}}"#), true),
        (format!(r#"{{"conditions":[{{"operator":"OR","filters":[{yes},{no}]}},{{"filters":[{yes}]}}]}}"#), true),
        (format!(r#"{{"conditions":[{{"operator":"OR","filters":[{no},{no}]}},{{"filters":[{yes}]}}]}}"#), false),
        (format!(r#"{{"filters":[{yes}],"conditions":[{{"filters":[{no}]}}]}}"#), false),
        (format!(r#"{{"operator":"OR","filters":[{no}],"conditions":[{{"filters":[{yes}]}}]}}"#), true),
        (r#"{"detectedLocation":"/v1/login","detectedCommand":"POST"}"#.to_owned(), true),
        (r#"{"detectedLocation":"/v1/login","detectedCommand":"GET"}"#.to_owned(), false),
        (r#"{"operator":"OR","detectedLocation":"/v1/login","detectedCommand":"GET"}"#.to_owned(), true),
        (r#"{"include":false,"detectedLocation":"/v1/login","detectedCommand":"GET"}"#.to_owned(), true),
        (r#"{"include":false,"detectedLocation":"/v1/login","detectedCommand":"POST"}"#.to_owned(), false),
        (r#"{"include":"false","detectedLocation":"/v1/login"}"#.to_owned(), false),
        (r#"{"include":false,"operator":"OR","detectedLocation":"/v1/login","detectedCommand":"GET"}"#.to_owned(), false),
        (r#"{"operator":"CONTAINS","detectedLocation":"/v1","detectedCommand":"OS"}"#.to_owned(), true),
    ] {
        assert_eq!(selects(&read(&set), &json()), holds, "{set}");
    }
}

#[test]
fn every_mistake_is_reported_at_its_place() {
    for (json, code, path) in [
        ("7", "wrong_type", "f"),
        ("[7]", "wrong_type", "f[0]"),
        (r#"{"filters":7}"#, "wrong_type", "f.filters"),
        (r#"{"filters":[{"include":3}]}"#, "wrong_type", "f.filters[0].include"),
        (r#"{"operator":"XOR","filters":[]}"#, "unknown_operator", "f.operator"),
        (r#"{"operator":"LIKE","host":"a"}"#, "unknown_operator", "f.operator"),
        (r#"{"include":false,"filters":[]}"#, "include_on_set", "f.include"),
        (r#"{"detectedLokation":"/"}"#, "unknown_filter", "f.detectedLokation"),
        (r#"{"host":["a"]}"#, "wrong_type", "f.host"),
        (r#"{"host":"(","operator":"REGEX"}"#, "bad_regex", "f.host"),
        (r#"{"host":"(a{100}){100}{100}","operator":"REGEX"}"#, "regex_too_large", "f.host"),
        (r#"{"header":"X"}"#, "wrong_type", "f.header"),
        (r#"{"header":{"value":"x"}}"#, "missing_field", "f.header.key"),
        (r#"{"header":{"key":["x"]}}"#, "wrong_type", "f.header.key"),
        (r#"{"header":{"key":"x","value":{}}}"#, "wrong_type", "f.header.value"),
        (r#"{"header":{"key":"x","value":"("},"operator":"REGEX"}"#, "bad_regex", "f.header.value"),
        (r#"{"tag":"=v"}"#, "missing_field", "f.tag"),
        (r#"{"direction":"UP"}"#, "bad_filter_value", "f.direction"),
        (r#"{"uuid":"1"}"#, "bad_filter_value", "f.uuid"),
        (r#"{"requestBodyHash":"abcd"}"#, "bad_filter_value", "f.requestBodyHash"),
        (
            r#"{"requestBodyHash":"ab","operator":"CONTAINS"}"#,
            "operator_not_applicable",
            "f.operator",
        ),
        (r#"{"requestBodyJson":{"key":"a..b","value":"x"}}"#, "bad_path", "f.requestBodyJson.key"),
        (r#"{"requestBodyXml":{"key":"a.b c","value":"x"}}"#, "bad_path", "f.requestBodyXml.key"),
        (r#"{"httpReqXPath":"//a["}"#, "bad_path", "f.httpReqXPath"),
        (r#"{"httpReqSoapXPath":{"key":"a|b"}}"#, "bad_path", "f.httpReqSoapXPath.key"),
        (r#"{"reqFilter":{"key":"a","type":"YAML"}}"#, "bad_filter_value", "f.reqFilter.type"),
        (r#"{"reqFilter":"a"}"#, "wrong_type", "f.reqFilter"),
        (r#"{"timeRange":{}}"#, "bad_filter_value", "f.timeRange"),
        (r#"{"timeRange":{"startTime":"yesterday"}}"#, "bad_filter_value", "f.timeRange"),
        (
            r#"{"timeRange":{"startTime":"2024-05-02T00:00:00Z","endTime":"2024-05-01T00:00:00Z"}}"#,
            "bad_filter_value",
            "f.timeRange",
        ),
        (
            r#"{"timeRange":{"startTime":"2024-05-02T00:00:00Z"},"operator":"REGEX"}"#,
            "operator_not_applicable",
            "f.operator",
        ),
        (r#"{"sample":{"keep":1}}"#, "bad_filter_value", "f.sample"),
        (r#"{"sample":{"keep":3,"out_of":2}}"#, "bad_filter_value", "f.sample"),
        (r#"{"sample":{"keep":0,"out_of":0}}"#, "bad_filter_value", "f.sample"),
        (r#"{"sample":{"keep":-1,"out_of":2}}"#, "bad_filter_value", "f.sample"),
        (r#"{"sample":"a fifth"}"#, "bad_filter_value", "f.sample"),
        (
            r#"{"sample":{"keep":1,"out_of":2},"operator":"CONTAINS"}"#,
            "operator_not_applicable",
            "f.operator",
        ),
    ] {
        assert_eq!(wrong(json), [(code, path.to_owned())], "{json}");
    }
    let all = wrong(
        r#"{"filters":[{"hots":"a"},{"direction":"UP","status":"x","operator":"REGEX","tag":"="}]}"#,
    );
    assert_eq!(all.len(), 2, "{all:?}");
}

#[test]
fn what_is_ignored_or_cannot_be_decided_is_named() {
    for (json, code, path) in [
        (r#"{"filters":[],"host":"a"}"#, "unknown_field", "host"),
        (r#"{"header":{"key":"a","values":["b"]}}"#, "unknown_field", "header.values"),
        (r#"{"snapshotId":"x"}"#, "filter_not_decidable", "snapshotId"),
    ] {
        let (filter, found) = PairFilter::parse_json(json.as_bytes());
        let found: Vec<_> = found.as_slice().iter().map(|f| (f.code, f.path.as_str())).collect();
        assert_eq!((filter.is_some(), found), (true, vec![(code, path)]), "{json}");
    }
}

#[test]
fn a_pair_does_not_know_its_snapshot_and_is_not_dropped_for_that() {
    for filter in [r#"{"snapshotId":"x"}"#, r#"{"include":false,"snapshotId":"x"}"#] {
        let filter = read(filter);
        assert!(selects(&filter, &json()));
        assert_eq!(live(&filter, &json()), Verdict::Unknown);
    }
    let either = read(r#"[{"snapshotId":"x"},{"detectedCommand":"GET"}]"#);
    assert!(!selects(&either, &json()), "what is known decides");
}

#[test]
fn older_recordings_leave_out_what_is_detected() {
    let bare = RrPair {
        location: String::new(),
        command: String::new(),
        status: String::new(),
        response: crate::snapshot::HttpResponse { status: 404, ..Default::default() },
        ..json()
    };
    for filter in [
        r#"{"detectedLocation":"/v1/login"}"#,
        r#"{"detectedCommand":"POST"}"#,
        r#"{"detectedStatus":"404"}"#,
    ] {
        assert!(selects(&read(filter), &bare), "{filter}");
    }
    let signed_only = RrPair {
        request: None,
        signature: [("http:url", "/p"), ("http:method", "PUT"), ("http:host", "h")]
            .map(|(key, value)| (key.to_owned(), Bytes::from_static(value.as_bytes())))
            .into(),
        ..RrPair::default()
    };
    for filter in [
        r#"{"detectedLocation":"/p"}"#,
        r#"{"detectedCommand":"PUT"}"#,
        r#"{"host":"h"}"#,
        r#"{"optUrl":"/p"}"#,
    ] {
        assert!(selects(&read(filter), &signed_only), "{filter}");
    }
    let timeless = RrPair { ts: None, uuid: None, ..json() };
    for filter in [
        r#"{"timeRange":{"startTime":"1970-01-01T00:00:00Z"}}"#,
        r#"{"uuid":"","operator":"CONTAINS"}"#,
    ] {
        assert!(!selects(&read(filter), &timeless), "{filter}");
    }
}

#[test]
fn what_is_not_known_decides_nothing() {
    let known = r#"{"detectedCommand":"POST"}"#;
    let not = r#"{"detectedCommand":"GET"}"#;
    let unknown = r#"{"detectedStatus":"500"}"#;
    for (set, verdict) in [
        (format!("[{known},{unknown}]"), Verdict::Unknown),
        (format!("[{not},{unknown}]"), Verdict::No),
        (format!(r#"{{"operator":"OR","filters":[{known},{unknown}]}}"#), Verdict::Yes),
        (format!(r#"{{"operator":"OR","filters":[{not},{unknown}]}}"#), Verdict::Unknown),
    ] {
        assert_eq!(live(&read(&set), &json()), verdict, "{set}");
    }
}

#[test]
fn a_pair_filter_is_json_or_a_query() {
    for text in [
        r#" {"conditions":[{"filters":[{"include":true,"detectedCommand":"POST"}]}]}"#,
        r#"[{"detectedCommand":"POST"}]"#,
        r#"(command IS "POST")"#,
    ] {
        let (filter, found) = PairFilter::parse(text);
        let filter = filter.unwrap();
        assert_eq!(
            (found.into_vec(), filter.to_string()),
            (vec![], r#"(command IS "POST")"#.to_owned())
        );
        assert!(filter.selects(&json()) && !filter.selects(&RrPair::default()));
        assert!(!filter.is_everything());
    }
    assert!(PairFilter::parse("").0.unwrap().is_everything());
    let refused = |text: &str| {
        let (filter, found) = PairFilter::parse(text);
        assert!(filter.is_none());
        found.as_slice()[0].code
    };
    assert_eq!(refused("{"), "not_json");
    assert_eq!(refused(&format!("[{}]", "[".repeat(100_000))), "not_json");
    assert_eq!(refused(&"(".repeat(100_000)), "bad_query");
    assert_eq!(refused(&" ".repeat(2_000_000)), "filter_too_large");
}

mod queries;
mod samples;
mod table;
