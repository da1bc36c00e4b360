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
    // No token ends then, so it is a day ahead of now as it was of the recording.
    assert_eq!(*theme, "theme=dark; Expires=Sat, 16 Jan 2027 08:00:00 GMT; Max-Age=86400");
}

#[test]
fn a_cookie_that_lives_as_long_as_a_token_goes_on_to_do_so() {
    let mut pair = login();
    for cookie in ["sid=1; Max-Age=600", "other=1; Max-Age=86400"] {
        pair.response.headers.push(Header { name: "Set-Cookie".into(), value: cookie.into() });
    }
    let template =
        resign("access_token").replace(r#"tls.key}}""#, r#"tls.key}}","expiresIn":"1h""#);
    let hit = hit(ask(&serve(vec![pair], &template, &ring(Some(KEY))), "GET", "/login", ""));
    let mut cookies: Vec<&str> =
        hit.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, ["other=1; Max-Age=86400", "sid=1; Max-Age=3600"]);
}

/// An answer without any token.
fn page() -> RrPair {
    let mut pair = pair("GET", "/page", "", "{}");
    for (name, value) in [
        ("Expires", "Tue, 14 Nov 2023 22:23:20 GMT"),
        ("Last-Modified", "Mon, 13 Nov 2023 22:13:20 GMT"),
        ("Set-Cookie", "sid=opaque; Path=/; Expires=Tue, 14-Nov-2023 23:13:20 GMT; Secure"),
        ("Set-Cookie", "gone=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
        ("Set-Cookie", "ever=1; Expires=Thu, 31 Dec 2037 23:55:55 GMT"),
        ("Set-Cookie", "session=1; Path=/"),
    ] {
        pair.response.headers.push(Header { name: name.into(), value: value.into() });
    }
    pair
}

#[test]
fn what_was_ahead_when_it_was_recorded_is_ahead_of_the_clock() {
    let per_request = r#"{"id":"t","responder":[{"extractor":{"type":"res_body"},"transforms":[
        {"type":"constant","config":{"new":"${{epoch}}"}}]}]}"#;
    for (clock, expires, cookie) in [
        ("{}", "Fri, 15 Jan 2027 08:10:00 GMT", "Fri, 15-Jan-2027 09:00:00 GMT"),
        (r#"{"offset":"-1h"}"#, "Fri, 15 Jan 2027 07:10:00 GMT", "Fri, 15-Jan-2027 08:00:00 GMT"),
        (
            r#"{"freeze":"2024-03-01T00:00:00Z"}"#,
            "Fri, 01 Mar 2024 00:10:00 GMT",
            "Fri, 01-Mar-2024 01:00:00 GMT",
        ),
        (r#"{"rate":60}"#, "Fri, 15 Jan 2027 08:19:50 GMT", "Fri, 15-Jan-2027 09:09:50 GMT"),
    ] {
        for template in [r#"{"id":"t"}"#, per_request] {
            let hit = hit(ask(&at(clock, vec![page()], template), "GET", "/page", ""));
            assert_eq!(hit.headers["expires"], expires, "{clock}");
            assert_eq!(hit.headers["last-modified"], "Mon, 13 Nov 2023 22:13:20 GMT");
            let cookies: Vec<&str> =
                hit.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).collect();
            assert_eq!(
                cookies,
                [
                    format!("sid=opaque; Path=/; Expires={cookie}; Secure").as_str(),
                    "gone=; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
                    "ever=1; Expires=Thu, 31 Dec 2037 23:55:55 GMT",
                    "session=1; Path=/",
                ],
                "{clock}"
            );
        }
    }
    // Without a `Date` the time of the recording tells.
    let mut undated = page();
    undated.response.headers.retain(|header| header.name != "Date");
    let hit = hit(ask(&at("{}", vec![undated], r#"{"id":"t"}"#), "GET", "/page", ""));
    assert_eq!(hit.headers["expires"], "Fri, 15 Jan 2027 08:10:00 GMT");
}
