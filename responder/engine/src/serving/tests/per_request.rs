//! Answers whose chains run for each request.

use super::*;
use crate::transform::Materials;

fn serve_with(pairs: Vec<RrPair>, template: &str, materials: Materials) -> Serving {
    let (template, found) = Template::parse(template.as_bytes());
    assert_eq!(found.into_vec(), []);
    let template = template.with_materials(Arc::new(materials));
    let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
    let (compiled, _) = compile(pairs, &template, &config, Serve::Out);
    Serving::new(Arc::new(compiled), &ring(Some(KEY)))
}

fn chain(extractor: &str, steps: &str) -> String {
    format!(r#"{{"extractor":{{"type":"{extractor}"}},"transforms":[{steps}]}}"#)
}

fn many(chains: &[String]) -> String {
    format!(r#"{{"id":"t","responder":[{}]}}"#, chains.join(","))
}

const ID: &str = r#"{"type":"json_path","config":{"path":"id"}}"#;

#[test]
fn an_answer_says_what_the_request_said() {
    // The recorded answer repeats the recorded id; the mock's answer repeats the live one.
    let mask = r#"{"type":"constant","config":{"new":"*"}}"#;
    let template = many(&[
        chain("req_body", &format!(r#"{ID},{{"type":"smart_replace_recorded"}}"#)),
        chain("req_body", &format!("{ID},{mask}")),
    ]);
    let pairs = vec![pair("POST", "/orders", r#"{"id":"rec-1"}"#, r#"{"order":"rec-1","n":1}"#)];
    let serving = serve(pairs, &template, &ring(None));
    let body = |id: &str| {
        text(&hit(ask(&serving, "POST", "/orders", &format!(r#"{{"id":"{id}"}}"#)))).to_owned()
    };
    assert_eq!(body("live-7"), r#"{"order":"live-7","n":1}"#);
    // The first stays: `overwrite` is off.
    assert_eq!(body("live-8"), r#"{"order":"live-7","n":1}"#);
}

#[test]
fn a_token_that_was_re_signed_is_known_in_later_answers() {
    let token = recorded_token(&json!({"sub": "alice", "exp": RECORDED_AT + 60}));
    let learn = r#"{"type":"json_path","config":{"path":"access_token"}},{"type":"smart_replace_recorded"}"#;
    let resign = r#"{"type":"json_path","config":{"path":"access_token"}},{"type":"jwt_resign","config":{"secretPath":"jwt-demo/tls.key"}}"#;
    let template = many(&[chain("res_body", resign), chain("res_body", learn)]);
    let pairs = vec![
        pair("POST", "/login", "", &json!({ "access_token": token }).to_string()),
        pair("GET", "/echo", "", &format!("you sent {token}.")),
    ];
    let serving = serve(pairs, &template, &ring(Some(KEY)));
    assert!(text(&hit(ask(&serving, "GET", "/echo", ""))).contains(&token));
    let login: Value =
        serde_json::from_slice(&hit(ask(&serving, "POST", "/login", "")).body).unwrap();
    let fresh = login["access_token"].as_str().unwrap();
    assert_eq!(verified(fresh)["sub"], "alice");
    assert_eq!(text(&hit(ask(&serving, "GET", "/echo", ""))), format!("you sent {fresh}."));
}

#[test]
fn claims_follow_what_was_learned() {
    let token = recorded_token(&json!({"sub": "rec-1", "exp": RECORDED_AT + 60}));
    let template = many(&[
        chain(
            "req_body",
            &format!(
                r#"{ID},{{"type":"smart_replace_recorded","config":{{"overwrite":"true"}}}},{{"type":"constant","config":{{"new":"*"}}}}"#
            ),
        ),
        chain(
            "res_body",
            r#"{"type":"json_path","config":{"path":"t"}},{"type":"jwt_resign","config":{"secretPath":"jwt-demo/tls.key"}}"#,
        ),
    ]);
    let pairs =
        vec![pair("POST", "/login", r#"{"id":"rec-1"}"#, &json!({ "t": token }).to_string())];
    let serving = serve(pairs, &template, &ring(Some(KEY)));
    for (asked, subject) in [("live-7", "live-7"), ("live-8", "live-8")] {
        let answer = hit(ask(&serving, "POST", "/login", &format!(r#"{{"id":"{asked}"}}"#)));
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(verified(answer["t"].as_str().unwrap())["sub"], subject);
    }
}

#[test]
fn secrets_go_into_answers_and_nowhere_else() {
    let constant = r#"{"type":"constant","config":{"new":"key ${{secret:jwt-demo/tls.key}}"}}"#;
    let template = many(&[
        chain("res_body", constant),
        chain("http_req_header\",\"config\":{\"name\":\"x\"},\"y\":\"", constant),
    ]);
    let serving = serve(vec![pair("GET", "/k", "", "old")], &template, &ring(Some(KEY)));
    let answer = hit(ask(&serving, "GET", "/k", ""));
    assert_eq!(text(&answer), format!("key {}", std::str::from_utf8(KEY).unwrap()));
    let nearest = format!(
        "{:?}",
        serving.near_miss(&Request { host: "api.example", path: "/z", ..Request::default() }, 0)
    );
    assert!(!nearest.contains(std::str::from_utf8(KEY).unwrap()));
    // Without the secret the placeholder stays, as every placeholder that cannot be resolved.
    let serving = serve(vec![pair("GET", "/k", "", "old")], &template, &ring(None));
    assert_eq!(text(&hit(ask(&serving, "GET", "/k", ""))), "key ${{secret:jwt-demo/tls.key}}");
}

#[test]
fn a_private_key_goes_into_no_answer() {
    const RSA: &[u8] = include_bytes!("../../jwt/vectors/rfc7515-a2.pem");
    let constant = r#"{"type":"constant","config":{"new":"key ${{secret:jwt-demo/tls.key}}"}}"#;
    let template = many(&[chain("res_body", constant)]);
    let serving = serve(vec![pair("GET", "/k", "", "old")], &template, &ring(Some(RSA)));
    assert_eq!(text(&hit(ask(&serving, "GET", "/k", ""))), "key ${{secret:jwt-demo/tls.key}}");
    assert!(serving.diagnostics().iter().any(|found| found.code == "secret_is_private_key"));
}

#[test]
fn variables_are_made_at_the_start_or_for_each_pair() {
    let template = r#"{"id":"t","responderVariables":[
        {"name":"boot","config":{"extractor":{"type":"empty"},"transforms":[{"type":"constant","config":{"new":"${{rand_string:\"[a-z]{8}\"}}"}}]}},
        {"name":"user","config":{"extractor":{"type":"empty"},"transforms":[{"type":"csv_iter","config":{"csv_name":"users"}}]}}
    ],"responder":[{"extractor":{"type":"res_body"},"transforms":[{"type":"constant","config":{"new":"${{boot}} ${{user}}"}}]}]}"#;
    let materials = Materials {
        files: BTreeMap::from([("dataframe:users__payload.csv".to_owned(), "ann\nbob\n".into())]),
        ..Materials::default()
    };
    let serving = serve_with(vec![pair("GET", "/v", "", "old")], template, materials);
    let answers: Vec<String> =
        (0..3).map(|_| text(&hit(ask(&serving, "GET", "/v", ""))).to_owned()).collect();
    let parts: Vec<_> = answers.iter().map(|answer| answer.split_once(' ').unwrap()).collect();
    assert_eq!([parts[0].1, parts[1].1, parts[2].1], ["ann", "bob", "ann"]);
    assert_eq!((parts[0].0, parts[0].0.len()), (parts[2].0, 8));
}

#[test]
fn what_depends_on_nothing_is_done_once_and_told() {
    let random = r#"{"type":"json_path","config":{"path":"r"}},{"type":"constant","config":{"new":"${{rand_string:\"[0-9]{9}\"}}"}}"#;
    let fixed = r#"{"type":"json_path","config":{"path":"f"}},{"type":"constant","config":{"new":"${{env_var:REGION}}"}}"#;
    let materials = Materials {
        environment: BTreeMap::from([("REGION".to_owned(), "eu".to_owned())]),
        ..Materials::default()
    };
    let template =
        many(&[chain("res_body", fixed), chain("res_body", random), chain("req_body", ID)]);
    let serving =
        serve_with(vec![pair("GET", "/r", "", r#"{"r":"x","f":"x"}"#)], &template, materials);
    let one = hit(ask(&serving, "GET", "/r", ""));
    let other = hit(ask(&serving, "GET", "/r", ""));
    assert_ne!(one.body, other.body);
    assert!(text(&one).ends_with(r#","f":"eu"}"#), "{}", text(&one));
    let told: Vec<&str> = serving
        .diagnostics()
        .iter()
        .filter(|found| found.code == "chain_compiled")
        .map(|found| found.message.as_str())
        .collect();
    assert_eq!(
        told,
        [
            "the chain is compiled into 1 response",
            "the chain runs for each request on 1 response and is compiled into 0",
            "the chain runs for each request, before it is matched",
        ]
    );
}

/// Two combinations of chains: what the filter asks is known of recorded pairs only.
const OF_CREATED: &str = r#"{"filters":{"filters":[{"include":true,"detectedStatus":"201"}]},"extractor":{"type":"req_body"},"transforms":[{"type":"constant","config":{"new":"x"}}]},"#;

#[test]
fn a_request_takes_one_row_however_often_it_is_tried_or_looked_at() {
    takes_one_row("");
    takes_one_row(OF_CREATED);
}

fn takes_one_row(request_chain: &str) {
    let variable = r#"{"name":"user","config":{"extractor":{"type":"empty"},"transforms":[{"type":"csv_iter","config":{"csv_name":"users"}}]}}"#;
    let answer = r#"{"extractor":{"type":"res_body"},"transforms":[{"type":"constant","config":{"new":"${{user}}"}}]}"#;
    let template = &format!(
        r#"{{"id":"t","responderVariables":[{variable}],"responder":[{request_chain}{answer}]}}"#
    );
    let materials = Materials {
        files: BTreeMap::from([(
            "dataframe:users__payload.csv".to_owned(),
            "ann\nbob\ncid\n".into(),
        )]),
        ..Materials::default()
    };
    let mut created = pair("GET", "/other", "", "old");
    created.response.status = 201;
    let serving = serve_with(vec![created, pair("GET", "/v", "", "old")], template, materials);
    let mut got = Vec::new();
    for _ in 0..3 {
        let headers = HeaderMap::new();
        // A host that was never recorded is looked up in another way.
        let request = Request {
            method: "GET",
            host: "localhost",
            path: "/v",
            query: "",
            headers: &headers,
            body: b"",
            ..Request::default()
        };
        got.push(text(&hit(serving.answer(&request, seconds(NOW)))).to_owned());
        drop((serving.explain(&request, 0), serving.near_miss(&request, 0)));
    }
    assert_eq!(got, ["ann", "bob", "cid"]);
}
