//! A replay with a time of its own, and header fields that tell the time of a token.

use super::*;

fn at(clock: &str, pairs: Vec<RrPair>, template: &str) -> Serving {
    let (template, _) = Template::parse(template.as_bytes());
    let config = format!(r#"{{"id":"c","responder":{{"clock":{clock}}}}}"#);
    let config = TestConfig::parse(config.as_bytes()).unwrap();
    let (compiled, _) = compile(pairs, &template, &config, Serve::Out);
    Serving::new(Arc::new(compiled), &ring(Some(KEY))).started_at(seconds(NOW - 10))
}

fn login() -> RrPair {
    let claims = json!({"sub": "alice", "iat": RECORDED_AT, "exp": RECORDED_AT + 600});
    pair("GET", "/login", "", &json!({"access_token": recorded_token(&claims)}).to_string())
}

#[test]
fn tokens_and_date_follow_the_clock() {
    for (clock, iat, date) in [
        (r#"{"offset":"-1h"}"#, NOW - 3600, "Fri, 15 Jan 2027 07:00:00 GMT"),
        (r#"{"freeze":"2027-01-15T07:00:00Z"}"#, NOW - 3600, "Fri, 15 Jan 2027 07:00:00 GMT"),
        (r#"{"rate":60}"#, NOW - 10 + 600, "Fri, 15 Jan 2027 08:09:50 GMT"),
    ] {
        let serving = at(clock, vec![login()], &resign("access_token"));
        for serving in [&serving, &serving.rebind(&ring(Some(KEY)))] {
            let hit = hit(ask(serving, "GET", "/login", ""));
            let body: Value = serde_json::from_slice(&hit.body).unwrap();
            let claims = verified(body["access_token"].as_str().unwrap());
            assert_eq!(
                (&claims["iat"], &claims["exp"]),
                (&json!(iat), &json!(iat + 600)),
                "{clock}"
            );
            assert_eq!(hit.headers["date"], date, "{clock}");
        }
    }
    let serving = at("{}", vec![login()], &resign("access_token"));
    assert!(hit(ask(&serving, "GET", "/login", "")).headers.get("date").is_none());
}

#[test]
fn header_fields_that_tell_the_end_of_a_token_move_with_it() {
    let mut pair = login();
    let token = recorded_token(&json!({"iat": RECORDED_AT, "exp": RECORDED_AT + 3600}));
    for (name, value) in [
        // The moment at which the token in the body ends.
        ("Expires", "Tue, 14 Nov 2023 22:23:20 GMT"),
        ("Set-Cookie", "sid=1; Path=/; expires=Tue, 14-Nov-2023 22:23:21 GMT; Secure"),
        ("Set-Cookie", "theme=dark; Expires=Wed, 15 Nov 2023 22:13:20 GMT; Max-Age=86400"),
        ("Set-Cookie", "old=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0"),
    ] {
        pair.response.headers.push(Header { name: name.into(), value: value.into() });
    }
    let cookie = format!("jwt={token}; Expires=Tue, 14 Nov 2023 23:13:00 GMT; Max-Age=3600");
    pair.response.headers.push(Header { name: "Set-Cookie".into(), value: cookie.into() });
    let template = r#"{"id":"t","responder":[
        {"extractor":{"type":"res_body"},"transforms":[{"type":"json_path","config":{"path":"access_token"}},
            {"type":"jwt_resign","config":{"secretPath":"jwt-demo/tls.key"}}]},
        {"extractor":{"type":"http_res_cookie","config":{"name":"jwt"}},"transforms":[
            {"type":"jwt_resign","config":{"secretPath":"jwt-demo/tls.key","expiresIn":"2h"}}]}]}"#;
    let serving = serve(vec![pair], template, &ring(Some(KEY)));
    let hit = hit(ask(&serving, "GET", "/login", ""));
    assert_eq!(hit.headers["expires"], "Fri, 15 Jan 2027 08:10:00 GMT");
    let mut cookies: Vec<&str> =
        hit.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    cookies.sort_unstable();
    let [jwt, old, sid, theme] = cookies.as_slice() else { panic!("{cookies:?}") };
    assert!(jwt.ends_with("; Expires=Fri, 15 Jan 2027 09:59:40 GMT; Max-Age=7200"), "{jwt}");
    assert_eq!(*old, "old=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0");
    assert_eq!(*sid, "sid=1; Path=/; expires=Fri, 15-Jan-2027 08:10:01 GMT; Secure");
    assert_eq!(*theme, "theme=dark; Expires=Wed, 15 Nov 2023 22:13:20 GMT; Max-Age=86400");
}
