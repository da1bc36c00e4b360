//! Reports of one run, in every form.

use std::collections::BTreeMap;

use super::*;
use crate::{
    compare::Difference,
    goal::Goal,
    measure::{Endpoint, Second, histogram},
    recording::tests::{pair, recording},
};

fn report() -> Report {
    let made = recording(vec![
        pair("GET /a<b>", &[], "", (200, &[], "")),
        pair("GET /orders/17", &[], "", (200, &[], "")),
    ]);
    let counts = Counts {
        requests: 100,
        answered: 98,
        errors: 3,
        asserted: 100,
        failed: 4,
        compared: 100,
        own: 96,
        presented: 80,
        accepted: 79,
        missed: 1,
        bytes: 1234,
        chains_failed: 0,
    };
    let mut times = histogram(3);
    (1..=100).for_each(|ms| times.record(ms * 1000).unwrap());
    let endpoint = Endpoint { counts, response: times.clone() };
    let difference = Difference { check: "body", at: "a & <b> differs".into() };
    let totals = Totals {
        counts,
        service: times.clone(),
        response: times,
        endpoints: BTreeMap::from([(0, endpoint)]),
        errors: BTreeMap::from([("timeout", 2)]),
        statuses: BTreeMap::from([(200, 97), (500, 1)]),
        findings: BTreeMap::from([((0, difference), 4)]),
        seconds: vec![
            Second { requests: 60, errors: 0, quantiles: [1.0, 2.0, 3.0] },
            Second { requests: 40, errors: 3, quantiles: [2.0, 4.0, 9.0] },
        ],
        elapsed: Duration::from_secs(2),
    };
    let about = About {
        target: "http://sut/<x>".into(),
        source: "recording".into(),
        pattern: "once through".into(),
        began: "2026-11-30T23:00:00Z".into(),
        ..About::default()
    };
    let goals: Vec<Goal> = ["p99<250ms", "errors<1%"].map(|goal| goal.parse().unwrap()).into();
    let verdicts = goals.iter().map(|goal| goal.judge(&totals)).collect();
    Report::new(about, &made, totals, verdicts)
}

#[test]
fn the_text_is_as_it_is_documented() {
    assert_eq!(report().text(), include_str!("tests/report.txt"));
}

#[test]
fn programs_are_told_everything() {
    let json = report().json();
    for (pointer, expected) in [
        ("/version", "1"),
        ("/passed", "false"),
        ("/rates/tokenAcceptance", "98.75"),
        ("/rates/ownAnswers", "96.0"),
        ("/rates/errors", "3.0"),
        ("/requestsPerSecond", "50.0"),
        ("/counts/tokensAccepted", "79"),
        ("/statuses/500", "1"),
        ("/noAnswer/timeout", "2"),
        ("/endpoints/0/endpoint", "\"GET /a<b>\""),
        ("/differences/0/count", "4"),
        ("/goals/0/reached", "true"),
        ("/goals/1/reached", "false"),
        ("/seconds/1/p99", "9.0"),
    ] {
        assert_eq!(json.pointer(pointer).unwrap().to_string(), expected, "{pointer}");
    }
}

#[test]
fn build_servers_see_endpoints_and_goals_that_failed() {
    let xml = report().junit();
    for part in [
        "<testsuite name=\"endpoints\" tests=\"1\" failures=\"1\"",
        "name=\"GET /a&lt;b&gt;\"",
        "4 × body: a &amp; &lt;b&gt; differs",
        "<testsuite name=\"goals\" tests=\"2\" failures=\"1\">",
        "name=\"p99&lt;250ms\"/>",
        "<failure message=\"3.000%\"/>",
    ] {
        assert!(xml.contains(part), "{part} in {xml}");
    }
}

#[test]
fn the_page_is_one_file_in_which_nothing_of_the_traffic_is_markup() {
    let html = report().html();
    assert!(
        html.contains("Load on http://sut/&lt;x&gt;") && html.contains("a &amp; &lt;b&gt; differs")
    );
    assert_eq!(html.matches("<svg").count(), 2);
    for banned in ["<x>", "<b> ", "<script", "http-equiv=\"refresh", "src=", "href="] {
        assert!(!html.contains(banned), "{banned}");
    }
    assert!(html.contains("98.75 %") && html.contains("class=\"bad\">missed"));
}
