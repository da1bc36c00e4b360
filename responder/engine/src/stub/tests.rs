//! Which stub answers: order, scenarios, and many requests at once.

use http::HeaderMap;

use super::*;
use crate::snapshot::stub::{Condition, Test};

fn sent<'a>(method: &'a str, path: &'a str, headers: &'a HeaderMap) -> Request<'a> {
    Request { method, host: "h", path, query: "", headers, body: b"", ..Request::default() }
}

fn stub(priority: i32, conditions: &[(Part, Test)]) -> Stub {
    let conditions = conditions
        .iter()
        .map(|(part, test)| Condition { part: part.clone(), test: test.clone() })
        .collect();
    Stub { conditions, priority, ..Stub::default() }
}

fn sealed(stubs: &[Stub]) -> Stubs {
    let mut all = Stubs::default();
    for (nth, stub) in stubs.iter().enumerate() {
        all.add(stub, format!("stub {nth}"), nth).unwrap();
    }
    all.seal();
    all
}

fn path(path: &str) -> (Part, Test) {
    (Part::Path, Test::equals(path))
}

fn matching(pattern: &str) -> (Part, Test) {
    (Part::Path, Test::Matches(pattern.into()))
}

#[test]
fn priority_comes_first_then_the_newest() {
    let stubs = sealed(&[
        stub(5, &[path("/a")]),
        stub(5, &[matching("/a")]),
        stub(9, &[]),
        stub(1, &[matching("/a/.*")]),
        stub(5, &[path("/b")]),
        stub(5, &[(Part::Url, Test::equals("/b%20c"))]),
        stub(-1, &[(Part::Method, Test::equals("DELETE"))]),
    ]);
    let headers = HeaderMap::new();
    for (method, path, expected) in [
        ("GET", "/a", 1),
        ("GET", "/a/x", 3),
        ("GET", "/b", 4),
        ("GET", "/b%20c", 5),
        ("GET", "/b c", 5),
        ("GET", "/elsewhere", 2),
        ("DELETE", "/a", 6),
    ] {
        assert_eq!(stubs.find(&sent(method, path, &headers)), Some(expected), "{method} {path}");
    }
    assert_eq!(Stubs::default().find(&sent("GET", "/", &headers)), None);
}

fn step(required: Option<&str>, next: Option<&str>) -> Vec<Scenario> {
    vec![Scenario {
        name: "cart".into(),
        required: required.map(str::to_owned),
        next: next.map(str::to_owned),
    }]
}

#[test]
fn scenarios_go_from_state_to_state() {
    let get =
        |required, next| Stub { scenarios: step(required, next), ..stub(5, &[path("/cart")]) };
    let stubs = sealed(&[
        get(Some("Started"), Some("one")),
        get(Some("one"), Some("two")),
        get(Some("two"), None),
        Stub { scenarios: step(None, Some("Started")), ..stub(5, &[path("/reset")]) },
    ]);
    let headers = HeaderMap::new();
    let ask = |path| stubs.find(&sent("GET", path, &headers));
    let seen =
        ["/cart", "/cart", "/cart", "/cart", "/reset", "/cart"].map(|path| ask(path).unwrap());
    assert_eq!(seen, [0, 1, 2, 2, 3, 0]);
    let failing = stubs.nearest(&sent("GET", "/other", &headers), 9);
    assert_eq!(failing[0].name, "stub 3", "its path alone is wrong");
    assert!(failing.iter().any(|stub| stub.failed.iter().any(|failed| {
        failed.scenario == "cart"
            && failed.expected == "is `two`"
            && failed.presented.as_deref() == Some("one")
    })));
}

#[test]
fn a_stub_may_ask_for_several_scenarios() {
    let scenario = |name: &str, required: Option<&str>, next: Option<&str>| Scenario {
        name: name.into(),
        required: required.map(str::to_owned),
        next: next.map(str::to_owned),
    };
    let stubs = sealed(&[
        Stub { scenarios: vec![scenario("b", None, Some("on"))], ..stub(5, &[path("/on")]) },
        Stub {
            scenarios: vec![
                scenario("a", Some("Started"), Some("done")),
                scenario("b", Some("on"), Some("off")),
            ],
            ..stub(5, &[path("/use")])
        },
    ]);
    let headers = HeaderMap::new();
    let ask = |path| stubs.find(&sent("GET", path, &headers));
    assert_eq!(
        ["/use", "/on", "/use", "/on", "/use"].map(ask),
        [None, Some(0), Some(1), Some(0), None]
    );
}

#[test]
fn a_transition_is_made_by_one_request() {
    const STEPS: usize = 200;
    let states: Vec<String> = (0..=STEPS)
        .map(|n| if n == 0 { Stub::STARTED.to_owned() } else { n.to_string() })
        .collect();
    let chain: Vec<Stub> = states
        .windows(2)
        .map(|pair| Stub {
            scenarios: step(Some(&pair[0]), Some(&pair[1])),
            ..stub(5, &[path("/")])
        })
        .collect();
    let stubs = sealed(&chain);
    let mut seen = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let headers = HeaderMap::new();
                    (0..STEPS / 4)
                        .map(|_| stubs.find(&sent("GET", "/", &headers)).unwrap())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    seen.sort_unstable();
    assert_eq!(seen, (0..STEPS).collect::<Vec<_>>(), "each answer once");
}

#[test]
fn the_nearest_stub_tells_what_failed() {
    let header = |value: &str| (Part::Header("x".into()), Test::equals(value));
    let stubs = sealed(&[
        stub(5, &[(Part::Method, Test::equals("GET")), path("/a"), header("1")]),
        stub(5, &[(Part::Method, Test::equals("POST")), path("/b")]),
    ]);
    let headers = HeaderMap::from_iter([(
        http::HeaderName::from_static("x"),
        http::HeaderValue::from_static("2"),
    )]);
    let nearest = stubs.nearest(&sent("GET", "/a", &headers), 1);
    assert_eq!(
        nearest,
        [Failing {
            name: "stub 0".into(),
            failed: vec![Failed {
                part: Some(Part::Header("x".into())),
                scenario: String::new(),
                expected: "is `1`".into(),
                presented: Some("2".into()),
            }],
        }]
    );
}

#[test]
fn an_invalid_stub_is_not_added() {
    let mut stubs = Stubs::default();
    let bad = stub(5, &[matching("(")]);
    assert!(stubs.add(&bad, String::new(), 0).is_err());
    assert!(stubs.is_empty());
}
