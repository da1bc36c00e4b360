//! What befalls answers, whom, and how often.

use std::time::Duration;

use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::{answer::Fate, chaos::MARKER, token_fault::TokenFault};

fn token(sub: &str) -> String {
    recorded_token(
        &json!({"iss": "https://i", "aud": "a", "sub": sub, "iat": RECORDED_AT, "exp": RECORDED_AT + 600}),
    )
}

/// Two logins, and a page that is no business of tokens.
fn pairs() -> Vec<RrPair> {
    let mut page =
        pair("GET", "/page", "", r#"{"page":"a page of some length, so that it can be cut"}"#);
    page.duration = 40_000_000;
    page.response.headers.push(Header { name: "ETag".into(), value: "\"1\"".into() });
    let mut all: Vec<RrPair> = ["alice", "bob"]
        .map(|who| {
            let body = json!({"access_token": token(who), "who": who}).to_string();
            let mut pair = pair("GET", &format!("/login/{who}"), "", &body);
            let cookie = format!("sid={}; Path=/", token(who));
            pair.response.headers.push(Header { name: "Set-Cookie".into(), value: cookie.into() });
            pair
        })
        .into();
    all.push(page);
    all
}

const RESIGN: &str = r#"{"id":"t","responder":[
    {"extractor":{"type":"res_body"},"transforms":[{"type":"json_path","config":{"path":"access_token"}},
        {"type":"jwt_resign","config":{"secretPath":"jwt-demo/tls.key"}}]},
    {"extractor":{"type":"http_res_cookie","config":{"name":"sid"}},"transforms":[
        {"type":"jwt_resign","config":{"secretPath":"jwt-demo/tls.key"}}]}]}"#;
fn with(chaos: &Value, template: &str) -> Serving {
    let (template, found) = Template::parse(template.as_bytes());
    assert!(!found.has_errors(), "{:?}", found.as_slice());
    let config = json!({"id": "c", "chaos": chaos}).to_string();
    let config = TestConfig::parse(config.as_bytes()).unwrap();
    let mut all = pairs();
    for (ordinal, pair) in (0..).zip(&mut all) {
        pair.ordinal = ordinal;
    }
    let (compiled, _) = compile(all, &template, &config, Serve::Out);
    Serving::new(Arc::new(compiled), &ring(Some(KEY))).started_at(seconds(NOW - 10))
}

fn rules(rules: &[&str]) -> Serving {
    with(&json!({"rules": rules}), RESIGN)
}

fn get(serving: &Serving, path: &str) -> Hit {
    hit(ask(serving, "GET", path, ""))
}

fn marker(hit: &Hit) -> Option<&str> {
    assert_eq!(hit.headers.contains_key(MARKER), hit.touched.is_some());
    hit.headers.get(MARKER).map(|value| value.to_str().unwrap())
}

fn kinds(hit: &Hit) -> Vec<&'static str> {
    let all = hit.touched.as_deref().copied().unwrap_or_default();
    all.kinds().map(|nth| crate::answer::Touched::KINDS[nth]).collect()
}

#[test]
fn every_effect_does_what_it_says() {
    let plain = get(&rules(&["(location IS \"/nowhere\"): status=500"]), "/page");
    assert_eq!(marker(&plain), None);
    for (rule, marked, kind, fate, status, delay) in [
        ("latency=2s", "effect=latency;latency=2s;rule=chaos-1", "latency", Fate::Sent, 200, 2000),
        (
            "latency=3x",
            "effect=latency;latency=120ms;rule=chaos-1",
            "latency",
            Fate::Sent,
            200,
            120,
        ),
        (
            "latency=50s",
            "effect=latency;latency=30s;rule=chaos-1",
            "latency",
            Fate::Sent,
            200,
            30_000,
        ),
        (
            "latency=50s,max-latency=60s,id=a",
            "effect=latency;latency=50s;rule=a",
            "latency",
            Fate::Sent,
            200,
            50_000,
        ),
        ("status=503", "effect=status;status=503;rule=chaos-1", "status", Fate::Sent, 503, 0),
        (
            "connection=refuse",
            "effect=refuse;refuse=1;rule=chaos-1",
            "refuse",
            Fate::Refused,
            200,
            0,
        ),
        ("connection=reset", "effect=reset;reset=1;rule=chaos-1", "reset", Fate::Reset, 200, 0),
        ("connection=stall", "effect=stall;stall=1;rule=chaos-1", "stall", Fate::Stalled, 200, 0),
        ("connection=drop", "effect=drop;drop=1;rule=chaos-1", "drop", Fate::Dropped, 200, 0),
        (
            "no-response",
            "effect=no-response;no-response=1;rule=chaos-1",
            "no-response",
            Fate::Stalled,
            200,
            0,
        ),
        ("body=corrupt", "effect=corrupt;corrupt=1;rule=chaos-1", "corrupt", Fate::Sent, 200, 0),
        (
            "body=truncate:5",
            "effect=truncate;truncate=5;rule=chaos-1",
            "truncate",
            Fate::Cut(5),
            200,
            0,
        ),
        ("header X-A: b", "effect=header;header=x-a;rule=chaos-1", "header", Fate::Sent, 200, 0),
        ("header=ETag:", "effect=header;header=etag;rule=chaos-1", "header", Fate::Sent, 200, 0),
    ] {
        let hit = get(&rules(&[rule]), "/page");
        assert_eq!(marker(&hit), Some(marked), "{rule}");
        assert_eq!(kinds(&hit), [kind], "{rule}");
        assert_eq!(hit.touched.as_ref().unwrap().fate, fate, "{rule}");
        assert_eq!((hit.status, hit.delay), (status, Duration::from_millis(delay)), "{rule}");
        assert_eq!(hit.body == plain.body, !matches!(kind, "status" | "corrupt"), "{rule}");
    }
    let hit = get(&rules(&["header X-A: b, header=ETag:"]), "/page");
    assert_eq!((hit.headers["x-a"].to_str().unwrap(), hit.headers.get("etag")), ("b", None));
    let hit = get(&rules(&["body=corrupt"]), "/page");
    assert!(
        serde_json::from_slice::<Value>(&hit.body).is_err() && hit.body.len() == plain.body.len()
    );
    let hit = get(&rules(&["latency=100ms-2s, status=500|503"]), "/page");
    assert!((100..=2000).contains(&hit.delay.as_millis()) && [500, 503].contains(&hit.status));
    assert!(get(&rules(&["body=truncate:5000"]), "/page").touched.is_none(), "nothing to cut");
}

#[test]
fn the_first_rule_that_fits_counts_even_if_its_dice_decline() {
    let serving = rules(&[
        "(location IS \"/page\"): status=500, percent=0",
        "(location CONTAINS \"/\"): status=503",
    ]);
    assert_eq!(get(&serving, "/page").status, 200);
    assert_eq!(get(&serving, "/login/bob").status, 503);
    // What a live request does not know, its recorded pair does.
    let serving = rules(&["(host IS \"api.example\") AND (status IS \"200\"): status=500"]);
    let request =
        Request { method: "GET", host: "localhost:4140", path: "/page", ..Request::default() };
    assert_eq!(hit(serving.answer(&request, seconds(NOW))).status, 500);
    let serving = rules(&["(status IS \"404\"): status=500"]);
    assert_eq!(get(&serving, "/page").status, 200);
    // A miss stays one.
    assert!(matches!(ask(&rules(&["status=500"]), "GET", "/nowhere", ""), Answer::Miss));
}

#[test]
fn rules_act_in_their_time_and_at_their_rate() {
    let touched = |rule: &str, elapsed: i64| {
        let serving = rules(&[rule]);
        let request =
            Request { method: "GET", host: "api.example", path: "/page", ..Request::default() };
        hit(serving.answer(&request, seconds(NOW - 10 + elapsed))).touched.is_some()
    };
    for (elapsed, expected) in [(0, false), (4, false), (5, true), (14, true), (15, false)] {
        assert_eq!(
            touched("status=500, start-after=5s, duration=10s", elapsed),
            expected,
            "{elapsed}"
        );
    }
    let run = |serving: &Serving, path: &str, times: usize| -> Vec<bool> {
        (0..times).map(|_| get(serving, path).touched.is_some()).collect()
    };
    let serving = rules(&["status=500, rate=1/3"]);
    assert_eq!(run(&serving, "/page", 6), [true, false, false, true, false, false]);
    assert_eq!(run(&serving, "/login/bob", 1), [true], "each signature is counted by itself");
    serving.snapshot().reset();
    assert_eq!(run(&serving, "/page", 2), [true, false]);
    let sticky = run(&rules(&["status=500, percent=50, sticky"]), "/page", 20);
    assert!(sticky.iter().all(|one| *one == sticky[0]), "{sticky:?}");
    let some = run(&rules(&["status=500, percent=30"]), "/page", 1000);
    let some = some.iter().filter(|one| **one).count();
    assert!((230..370).contains(&some), "{some}");
    let dosed = rules(&["status=500@50, header=X-A: b"]);
    let all: Vec<Hit> = (0..200).map(|_| get(&dosed, "/page")).collect();
    let failed = all.iter().filter(|hit| hit.status == 500).count();
    assert!((60..140).contains(&failed) && all.iter().all(|hit| hit.headers.contains_key("x-a")));
}

#[test]
fn the_older_form_meets_one_of_its_effects() {
    let serving = with(
        &json!({"chaosPercent": 100, "badStatusCodes": true, "intermittentResponses": true, "randomLatency": true, "randomHighlatencyMs": 700}),
        RESIGN,
    );
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let hit = get(&serving, "/page");
        let kinds = kinds(&hit);
        assert_eq!(kinds.len(), 1);
        seen.extend(kinds);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["latency", "no-response", "status"]);
}

fn tokens(hit: &Hit) -> [String; 2] {
    let body: Value = serde_json::from_slice(&hit.body).unwrap();
    let cookie = hit.headers["set-cookie"].to_str().unwrap();
    let cookie = cookie.strip_prefix("sid=").unwrap().split(';').next().unwrap();
    [body["access_token"].as_str().unwrap().to_owned(), cookie.to_owned()]
}

#[test]
fn tokens_are_unsound_in_one_way_wherever_they_stand() {
    let sound = tokens(&get(&rules(&["(location IS \"/x\"): status=500"]), "/login/alice"));
    assert_eq!(sound[0], sound[1]);
    for fault in TokenFault::ALL.into_iter().filter(|fault| *fault != TokenFault::AlgConfusion) {
        let serving = rules(&[&format!("token={}", fault.as_str())]);
        let unsound = get(&serving, "/login/alice");
        let marked = format!("effect=token;token={};rule=chaos-1", fault.as_str());
        assert_eq!(marker(&unsound), Some(marked.as_str()));
        let made = tokens(&unsound);
        assert!(made[0] == made[1] && made[0] != sound[0], "{fault:?}");
        assert_eq!(marker(&get(&serving, "/page")), None, "there is no token in it");
    }
    // An HMAC key has no public half to be confused with.
    let serving = rules(&["token=alg-confusion"]);
    let hit = get(&serving, "/login/alice");
    assert_eq!((marker(&hit), tokens(&hit)), (None, sound));
}

#[test]
fn faults_hit_whom_they_are_meant_for_and_are_kept_by_nobody() {
    let serving = rules(&[
        "token=bad-signature, claims=sub:alice, percent=50",
        "status=500, claims=sub:alice",
    ]);
    let (mut sound, mut unsound) = (0, 0);
    for _ in 0..100 {
        assert_eq!(marker(&get(&serving, "/login/bob")), None);
        let hit = get(&serving, "/login/alice");
        let [token, _] = tokens(&hit);
        let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
        rules.validate_exp = false;
        rules.validate_aud = false;
        let key = jsonwebtoken::DecodingKey::from_secret(KEY);
        let good = jsonwebtoken::decode::<Value>(&token, &key, &rules).is_ok();
        assert_eq!(good, hit.touched.is_none());
        *(if good { &mut sound } else { &mut unsound }) += 1;
    }
    assert!(sound > 25 && unsound > 25, "{sound} {unsound}");
    // Who presents a token is somebody, too.
    let headers = HeaderMap::from_iter([(
        http::header::AUTHORIZATION,
        HeaderValue::from_str(&format!("Bearer {}", token("alice"))).unwrap(),
    )]);
    let request = Request {
        method: "GET",
        host: "api.example",
        path: "/page",
        headers: &headers,
        ..Request::default()
    };
    assert_eq!(hit(serving.answer(&request, seconds(NOW))).status, 500);
    assert_eq!(get(&serving, "/page").status, 200);
}

#[test]
fn chains_that_run_for_a_request_make_unsound_tokens_too() {
    let per_request = r#"{"id":"t","responder":[{"extractor":{"type":"res_body"},"transforms":[
        {"type":"json_path","config":{"path":"access_token"}},
        {"type":"jwt_resign","config":{"secretPath":"jwt-demo/tls.key"}},
        {"type":"base64","config":{"encode":"true"}}]}]}"#;
    let serving = with(&json!({"rules": ["token=truncated, claims=sub:alice"]}), per_request);
    let hit = get(&serving, "/login/alice");
    assert_eq!(marker(&hit), Some("effect=token;token=truncated;rule=chaos-1"));
    assert_eq!(marker(&get(&serving, "/login/bob")), None);
}

proptest! {
    #[test]
    fn without_a_rule_that_fits_bytes_are_the_same(path in prop::sample::select(vec!["/page", "/login/alice", "/login/bob"])) {
        let plain = serve(pairs(), RESIGN, &ring(Some(KEY)));
        let never = rules(&["(location IS \"/x\"): status=500", "percent=0, token=expired, latency=2s"]);
        let (plain, never) = (get(&plain, path), get(&never, path));
        prop_assert_eq!(plain.body, never.body);
        prop_assert_eq!(plain.headers, never.headers);
        prop_assert_eq!((plain.status, plain.delay), (never.status, never.delay));
        prop_assert!(plain.touched.is_none() && never.touched.is_none());
    }

    #[test]
    fn the_same_seed_befalls_the_same_answers(seed in 0_u64..1000, asks in prop::collection::vec(prop::sample::select(vec!["/page", "/login/alice", "/login/bob"]), 1..20)) {
        let rules = ["(location IS \"/page\"): latency=1ms-9s@50, status=500|502|503@30, body=corrupt@20", "percent=60, token=expired|wrong-key|bad-signature|unknown-kid"];
        let one = with(&json!({"seed": seed, "rules": rules}), RESIGN);
        let other = with(&json!({"seed": seed, "rules": rules}), RESIGN);
        for path in asks {
            let (one, other) = (get(&one, path), get(&other, path));
            prop_assert_eq!(one.body, other.body);
            prop_assert_eq!(one.headers, other.headers);
            prop_assert_eq!((one.status, one.delay), (other.status, other.delay));
        }
    }
}

#[test]
fn key_sets_are_unsound_where_they_are_meant() {
    const EC: &[u8] = include_bytes!("../../jwt/vectors/rfc7515-a3.pem");
    let recorded = json!({"keys": [{"kty": "EC", "kid": "old", "crv": "P-256", "x": "a", "y": "b", "d": "private"}]});
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"old"}"#);
    let claims = URL_SAFE_NO_PAD.encode(json!({"iat": RECORDED_AT}).to_string());
    let login = json!({"access_token": format!("{header}.{claims}.b2xk")}).to_string();
    let all =
        vec![pair("GET", "/login", "", &login), pair("GET", "/keys", "", &recorded.to_string())];
    let (template, _) = Template::parse(resign("access_token").as_bytes());
    let served = |rule: &str, path: &str| {
        let config =
            json!({"id": "c", "responder": {"serveJwks": true}, "chaos": {"rules": [rule]}});
        let config = TestConfig::parse(config.to_string().as_bytes()).unwrap();
        let (compiled, _) = compile(all.clone(), &template, &config, Serve::Out);
        get(&Serving::new(Arc::new(compiled), &ring(Some(EC))), path)
    };
    for path in ["/keys", "/.well-known/jwks.json"] {
        let sound = served("jwks=error, percent=0", path);
        let keys = |hit: &Hit| {
            let set: Value = serde_json::from_slice(&hit.body).unwrap();
            set["keys"].as_array().unwrap().clone()
        };
        for (rule, marked, status, seconds) in [
            ("jwks=error", "effect=jwks;jwks=500;rule=chaos-1", 500, 0),
            ("jwks=503", "effect=jwks;jwks=503;rule=chaos-1", 503, 0),
            ("jwks=slow:2s", "effect=jwks;jwks=slow;rule=chaos-1", 200, 2),
            ("jwks=stale", "effect=jwks;jwks=stale;rule=chaos-1", 200, 0),
            ("jwks=empty", "effect=jwks;jwks=empty;rule=chaos-1", 200, 0),
        ] {
            let hit = served(rule, path);
            assert_eq!(marker(&hit), Some(marked), "{path}");
            assert_eq!((hit.status, hit.delay), (status, Duration::from_secs(seconds)), "{rule}");
            if rule.ends_with("stale") {
                let recorded =
                    json!([{"kty": "EC", "kid": "old", "crv": "P-256", "x": "a", "y": "b"}]);
                let expected = if path == "/keys" { recorded } else { json!([]) };
                assert_eq!(Value::from(keys(&hit)), expected);
            } else if rule.ends_with("empty") {
                assert!(keys(&hit).is_empty());
            } else {
                assert_eq!(hit.body == sound.body, status == 200);
            }
            assert!(served(rule, "/login").touched.is_none(), "{rule} is about key sets");
        }
        assert!(keys(&sound)[0]["kid"] != "old");
    }
}
