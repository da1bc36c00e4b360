//! Chains as users write them, from template to answer: what is fixed when compiling, what is made per request, what decides a match.

use std::time::Duration;

use super::*;

/// Asks with one more header field.
fn ask_as(serving: &Serving, target: &str, body: &str, field: (&'static str, &str)) -> Answer {
    let headers = HeaderMap::from_iter([
        (http::header::CONTENT_TYPE, "application/json".parse().unwrap()),
        (http::HeaderName::from_static(field.0), field.1.parse().unwrap()),
    ]);
    let (method, host) = ("POST", "api.example");
    let request = Request {
        method,
        host,
        path: target,
        query: "",
        headers: &headers,
        body: body.as_bytes(),
        ..Request::default()
    };
    serving.answer(&request, seconds(NOW))
}

fn template(chains: &[(&str, &str)]) -> String {
    let chains: Vec<String> = chains
        .iter()
        .map(|(extractor, steps)| format!(r#"{{"extractor":{extractor},"transforms":[{steps}]}}"#))
        .collect();
    format!(r#"{{"id":"t","responder":[{}]}}"#, chains.join(","))
}

#[test]
fn status_and_time_are_settled_when_compiling() {
    let json = template(&[
        (r#"{"type":"http_status_code"}"#, r#"{"type":"constant","config":{"new":"503"}}"#),
        (r#"{"type":"res_body"}"#, r#"{"type":"sleep","config":{"duration":"2s"}}"#),
        (r#"{"type":"latency"}"#, r#"{"type":"constant","config":{"new":"100ms"}}"#),
    ]);
    let serving = serve(vec![pair("POST", "/a", "", "{}")], &json, &ring(None));
    let hit = hit(ask(&serving, "POST", "/a", ""));
    assert_eq!((hit.status, hit.delay), (503, Duration::from_millis(2100)));
}

#[test]
fn waiting_counts_before_and_after_matching() {
    let json = template(&[
        (r#"{"type":"req_body"}"#, r#"{"type":"sleep","config":{"duration":"1s"}}"#),
        (r#"{"type":"res_body"}"#, r#"{"type":"sleep","config":{"duration":"2s"}}"#),
        (r#"{"type":"res_body"}"#, r#"{"type":"rand_string","config":{"pattern":"x"}}"#),
        (r#"{"type":"res_body"}"#, r#"{"type":"sleep","config":{"duration":"4s"}}"#),
    ]);
    let serving = serve(vec![pair("POST", "/a", "", "{}")], &json, &ring(None));
    let hit = hit(ask(&serving, "POST", "/a", ""));
    assert_eq!((hit.body.as_ref(), hit.delay), (&b"x"[..], Duration::from_secs(7)));
}

#[test]
fn dates_move_with_the_clock_on_both_sides() {
    let date = |path: &str| {
        format!(r#"{{"type":"json_path","config":{{"path":"{path}"}}}},{{"type":"date"}}"#)
    };
    let (since, at) = (date("since"), date("at"));
    let json = template(&[(r#"{"type":"req_body"}"#, &since), (r#"{"type":"res_body"}"#, &at)]);
    let recorded = pair(
        "POST",
        "/a",
        r#"{"since":"2023-11-14T21:13:20Z"}"#,
        r#"{ "at":"2023-11-14T22:13:25Z" }"#,
    );
    let serving = serve(vec![recorded], &json, &ring(None));
    // 2027-01-15T08:00:00Z is now.
    let answer = ask(&serving, "POST", "/a", r#"{"since":"2027-01-15T07:00:00Z"}"#);
    assert_eq!(hit(answer).body, r#"{ "at":"2027-01-15T08:00:05Z" }"#);
    let other = ask(&serving, "POST", "/a", r#"{"since":"2027-01-15T06:00:00Z"}"#);
    assert!(matches!(other, Answer::Miss), "of another age");
}

#[test]
fn each_user_gets_the_answers_of_the_own_session() {
    let json = template(&[
        (
            r#"{"type":"http_req_header","config":{"name":"Authorization"}}"#,
            r#"{"type":"jwt_claim","config":{"claim":"uid"}},{"type":"tag_session"}"#,
        ),
        (r#"{"type":"session"}"#, r#"{"type":"store_sig","config":{"key":"session"}}"#),
    ]);
    let of_user =
        |uid: u32, iat: i64| format!("Bearer {}", recorded_token(&json!({"uid": uid, "iat": iat})));
    let recorded = |uid: u32| {
        let mut pair = pair("POST", "/mine", "", &format!("{{\"of\":{uid}}}"));
        pair.request.as_mut().unwrap().headers.push(Header {
            name: "Authorization".to_owned(),
            value: of_user(uid, RECORDED_AT).into(),
        });
        pair
    };
    let serving = serve(vec![recorded(1), recorded(2)], &json, &ring(None));
    for uid in [2, 1, 2, 2, 1] {
        let answer = ask_as(&serving, "/mine", "", ("authorization", &of_user(uid, NOW)));
        assert_eq!(hit(answer).body, format!("{{\"of\":{uid}}}"));
    }
    let stranger = ask_as(&serving, "/mine", "", ("authorization", &of_user(3, NOW)));
    assert!(matches!(stranger, Answer::Miss));
}

#[test]
fn a_value_of_the_request_comes_back_in_the_answer() {
    let json = template(&[
        (
            r#"{"type":"http_req_header","config":{"name":"X-Id"}}"#,
            r#"{"type":"var_store","config":{"name":"id"}}"#,
        ),
        (
            r#"{"type":"json_path","config":{"path":"http.res.body.echo"}}"#,
            r#"{"type":"var_load","config":{"name":"id"}}"#,
        ),
    ]);
    let serving = serve(vec![pair("POST", "/a", "", r#"{"echo":"old"}"#)], &json, &ring(None));
    for id in ["one", "two"] {
        let answer = ask_as(&serving, "/a", "", ("x-id", id));
        assert_eq!(hit(answer).body, format!("{{\"echo\":\"{id}\"}}"));
    }
}

#[test]
fn scrubbed_and_deleted_values_do_not_count() {
    let json = template(&[
        (r#"{"type":"json_path","config":{"path":"http.req.body.id"}}"#, r#"{"type":"scrub"}"#),
        (r#"{"type":"req_body"}"#, r#"{"type":"json_delete","config":{"path":"nonce"}}"#),
        (
            r#"{"type":"http_url","config":{"index":"1"}}"#,
            r#"{"type":"constant","config":{"new":"*"}}"#,
        ),
    ]);
    let body =
        |id: &str, nonce: u32| format!(r#"{{"id":"{id}","note":"about {id}","nonce":{nonce}}}"#);
    let serving = serve(vec![pair("POST", "/v1/a", &body("a-1", 1), "{}")], &json, &ring(None));
    assert_eq!(hit(ask(&serving, "POST", "/v2/a", &body("b-2", 2))).body, "{}");
    let other = r#"{"id":"b-2","note":"about a-1","nonce":3}"#;
    assert!(matches!(ask(&serving, "POST", "/v2/a", other), Answer::Miss));
}
