//! Identities of small recordings, at every place where a credential may stand.

mod turns;

use std::sync::Arc;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    answer::Answer,
    compile::compile,
    jwt::key::KeyRing,
    request::Request,
    serving::Serving,
    snapshot::{Header, HttpRequest, HttpResponse, RrPair, Serve},
    test_config::TestConfig,
    transform::Template,
};

/// A request as a test writes it: what is not named is empty.
#[derive(Clone, Default)]
struct Ask {
    method: &'static str,
    path: &'static str,
    query: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

fn get(path: &'static str, header: &'static str, value: String) -> Ask {
    Ask { method: "GET", path, headers: vec![(header, value)], ..Ask::default() }
}

fn post(path: &'static str, body: impl Into<String>) -> Ask {
    Ask { method: "POST", path, body: body.into(), ..Ask::default() }
}

impl Ask {
    fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }

    fn answered(&self, response: &str) -> RrPair {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| Header { name: (*name).to_owned(), value: value.clone().into() });
        RrPair {
            request: Some(HttpRequest {
                method: self.method.into(),
                host: "api".into(),
                path: self.path.into(),
                query: self.query.clone(),
                headers: headers.collect(),
                body: self.body.clone().into(),
                ..HttpRequest::default()
            }),
            response: HttpResponse {
                status: 200,
                body: response.to_owned().into(),
                ..HttpResponse::default()
            },
            ..RrPair::default()
        }
    }

    fn of(&self, serving: &Serving) -> String {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| {
                let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                (name, value.parse().unwrap())
            })
            .collect();
        let request = Request {
            method: self.method,
            host: "api",
            path: self.path,
            query: &self.query,
            headers: &headers,
            body: self.body.as_bytes(),
            ..Request::default()
        };
        match serving.answer(&request, 0) {
            Answer::Hit(hit) => String::from_utf8(hit.body.to_vec()).unwrap(),
            Answer::Miss => "miss".to_owned(),
        }
    }
}

fn serve_with(mut pairs: Vec<RrPair>, template: &str, responder: &str) -> Serving {
    for (ordinal, pair) in (0..).zip(&mut pairs) {
        pair.ordinal = ordinal;
    }
    let (template, found) = Template::parse(template.as_bytes());
    assert_eq!(found.into_vec(), []);
    let config =
        TestConfig::parse(format!(r#"{{"id":"c","responder":{responder}}}"#).as_bytes()).unwrap();
    let (compiled, _) = compile(pairs, &template, &config, Serve::All);
    Serving::new(Arc::new(compiled), &KeyRing::default())
}

fn serve(pairs: Vec<RrPair>) -> Serving {
    serve_with(pairs, r#"{"id":"t"}"#, "{}")
}

fn token(claims: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let header = part(r#"{"alg":"HS256","typ":"JWT"}"#);
    format!("{header}.{}.{}", part(&claims.to_string()), part("signature"))
}

/// A user's token at some moment.
fn of(user: &str, moment: i64) -> String {
    token(&json!({"sub": user, "iat": 1_700_000_000 + moment, "jti": moment.to_string()}))
}

/// Records two users who differ only by what `ask` makes of them, and asks for them in another order, later, and twice.
fn tells_apart(ask: impl Fn(&str, i64) -> Ask) {
    let pairs = vec![
        ask("ann", 1).answered("ann"),
        ask("bob", 2).answered("bob"),
        ask("cid", 3).answered("cid"),
    ];
    let serving = serve(pairs);
    assert_eq!(serving.snapshot().signatures(), 1, "only the credential tells them apart");
    for (moment, user) in (10..).zip(["bob", "ann", "bob", "cid", "cid", "ann"]) {
        assert_eq!(ask(user, moment).of(&serving), user);
    }
    let unknown: Vec<_> = (20..23).map(|moment| ask("eve", moment).of(&serving)).collect();
    assert_eq!(unknown, ["ann", "bob", "cid"], "whom nobody recorded gets all in turn");
}

#[test]
fn tokens_are_recognised_in_every_header() {
    for (name, scheme) in [
        ("Authorization", "Bearer "),
        ("authorization", "JWT "),
        ("X-Amzn-Oidc-Data", ""),
        ("X-Auth-Token", ""),
    ] {
        tells_apart(|user, moment| get("/me", name, format!("{scheme}{}", of(user, moment))));
    }
}

#[test]
fn tokens_are_recognised_in_cookies() {
    tells_apart(|user, moment| {
        get("/me", "Cookie", format!("lang=en; id={}; theme=x", of(user, moment)))
    });
}

#[test]
fn basic_users_keys_and_session_cookies_are_recognised() {
    tells_apart(|user, moment| {
        let text = STANDARD.encode(format!("{user}:password {moment}"));
        get("/me", "Authorization", format!("Basic {text}"))
    });
    tells_apart(|user, _| get("/me", "X-Api-Key", format!("key-of-{user}")));
    tells_apart(|user, _| get("/me", "Authorization", format!("Bearer opaque-{user}")));
    tells_apart(|user, moment| {
        get("/me", "Cookie", format!("_ga={moment}; JSESSIONID=session-of-{user}"))
    });
}

/// Two users whom the credential alone tells apart, once a key is taken out of the signature.
fn tells_apart_without(extractor: &str, key: &str, ask: impl Fn(&str, i64) -> Ask) {
    let template = format!(
        r#"{{"id":"t","responder":[{{"extractor":{extractor},"transforms":[{{"type":"delete_sig","config":{{"key":"{key}"}}}}]}}]}}"#
    );
    let pairs = vec![ask("ann", 1).answered("ann"), ask("bob", 2).answered("bob")];
    let serving = serve_with(pairs, &template, "{}");
    assert_eq!(serving.snapshot().signatures(), 1);
    for (moment, user) in (10..).zip(["bob", "bob", "ann"]) {
        assert_eq!(ask(user, moment).of(&serving), user);
    }
}

#[test]
fn tokens_are_recognised_in_queries_forms_and_bodies() {
    let query = r#"{"type":"http_queryparam","config":{"name":"id"}}"#;
    let body = r#"{"type":"req_body"}"#;
    tells_apart_without(query, "http:queryparams:id", |user, moment| Ask {
        method: "GET",
        path: "/me",
        query: format!("id={}", of(user, moment)),
        ..Ask::default()
    });
    tells_apart_without(body, "http:requestBodyJSON", |user, moment| {
        post("/me", format!("a=1&id={}", of(user, moment)))
            .with("Content-Type", "application/x-www-form-urlencoded")
    });
    tells_apart_without(body, "http:requestBodyJSON", |user, moment| {
        post("/me", format!(r#"{{"auth":{{"id":"{}"}}}}"#, of(user, moment)))
    });
}

#[test]
fn a_session_that_a_chain_names_wins() {
    let template = r#"{"id":"t","responder":[{"extractor":{"type":"http_req_header","config":{"name":"x-user"}},"transforms":[{"type":"tag_session"}]}]}"#;
    let ask = |user: &str| {
        get("/me", "X-User", user.to_owned())
            .with("Authorization", format!("Bearer {}", of("app", 1)))
    };
    let pairs = vec![ask("ann").answered("ann"), ask("bob").answered("bob")];
    let serving = serve_with(pairs, template, "{}");
    for user in ["bob", "bob", "ann"] {
        assert_eq!(ask(user).of(&serving), user);
    }
}

#[test]
fn an_opaque_token_belongs_to_whom_it_was_issued_to() {
    let login = |user: &str, nth: u32| {
        post("/login", format!(r#"{{"username":"{user}","device":{nth}}}"#))
            .answered(&format!(r#"{{"access_token":"opaque-{user}-{nth}"}}"#))
    };
    let me =
        |user: &str, nth: u32| get("/me", "Authorization", format!("Bearer opaque-{user}-{nth}"));
    let refresh = |user: &str, nth: u32| {
        post("/refresh", format!(r#"{{"refresh_token":"opaque-{user}-{nth}"}}"#))
    };
    let serving = serve(vec![
        login("ann", 1),
        login("bob", 1),
        login("ann", 2),
        me("ann", 1).answered("ann, first"),
        me("bob", 1).answered("bob"),
        me("ann", 2).answered("ann, second"),
        refresh("bob", 1).answered(r#"{"access_token":"opaque-bob-9"}"#),
        me("bob", 9).answered("bob, refreshed"),
    ]);
    // Both tokens of ann are ann's; so is, over two steps, the refreshed one bob's.
    let seen: Vec<_> = [me("ann", 2), me("bob", 9), me("ann", 1), me("bob", 1), me("ann", 1)]
        .iter()
        .map(|ask| ask.of(&serving))
        .collect();
    assert_eq!(seen, ["ann, first", "bob", "ann, second", "bob, refreshed", "ann, first"]);
}

#[test]
fn who_presents_nothing_is_nobody_where_the_recording_has_nobody() {
    let nobody = Ask { method: "GET", path: "/me", ..Ask::default() };
    let ann = get("/me", "Authorization", format!("Bearer {}", of("ann", 1)));
    let serving = serve(vec![ann.answered("ann"), nobody.answered("log in")]);
    for _ in 0..2 {
        assert_eq!((nobody.of(&serving), ann.of(&serving)), ("log in".into(), "ann".into()));
    }
}

#[test]
fn a_token_that_everybody_has_tells_nobody_apart() {
    tells_apart(|user, moment| {
        get("/me", "Authorization", format!("Bearer {}", of("service", 1)))
            .with("X-User-Token", of(user, moment))
    });
}

#[test]
fn an_operators_claims_decide() {
    let ask = |sub: &str, role: &str| {
        get("/me", "Authorization", format!("Bearer {}", token(&json!({"sub": sub, "role": role}))))
    };
    let pairs = vec![ask("ann", "admin").answered("admin"), ask("bob", "guest").answered("guest")];
    let serving = serve_with(pairs, r#"{"id":"t"}"#, r#"{"identity":{"claims":["role"]}}"#);
    for role in ["guest", "guest", "admin"] {
        assert_eq!(ask("somebody else", role).of(&serving), role);
    }
}

#[test]
fn with_one_cursor_for_all_nobody_is_told_apart() {
    let ask = |user: &str| get("/me", "Authorization", format!("Bearer {}", of(user, 1)));
    let pairs = vec![ask("ann").answered("ann"), ask("bob").answered("bob")];
    let serving = serve_with(pairs, r#"{"id":"t"}"#, r#"{"sequence":{"scope":"replica"}}"#);
    let seen: Vec<_> = (0..4).map(|_| ask("ann").of(&serving)).collect();
    assert_eq!(seen, ["ann", "bob", "ann", "bob"]);
}

#[test]
fn tokens_in_signatures_are_compared_by_whose_they_are() {
    let refresh = |user: &str, moment: i64| {
        let refresh = token(&json!({"sub": user, "typ": "Refresh", "jti": moment.to_string()}));
        post("/token", format!("grant_type=refresh_token&refresh_token={refresh}"))
            .with("Content-Type", "application/x-www-form-urlencoded")
    };
    let access = |user: &str, moment: i64| {
        let access = token(&json!({"sub": user, "typ": "Bearer", "jti": moment.to_string()}));
        post("/token", format!("grant_type=refresh_token&refresh_token={access}"))
            .with("Content-Type", "application/x-www-form-urlencoded")
    };
    let query = |user: &str, moment: i64| Ask {
        method: "GET",
        path: "/logout",
        query: format!("x=1&id_token_hint={}", of(user, moment)),
        ..Ask::default()
    };
    let document = |user: &str, moment: i64| {
        post("/check", format!(r#"{{"list":[{{"token":"Bearer {}"}}]}}"#, of(user, moment)))
    };
    let mut pairs = Vec::new();
    for (moment, user) in (1..).zip(["ann", "bob"]) {
        for (ask, what) in [
            (refresh(user, moment), "refresh"),
            (access(user, moment), "access"),
            (query(user, moment), "query"),
            (document(user, moment), "document"),
        ] {
            pairs.push(ask.answered(&format!("{what} {user}")));
        }
    }
    let serving = serve(pairs);
    assert_eq!(serving.snapshot().signatures(), 8);
    for user in ["bob", "ann", "bob"] {
        assert_eq!(refresh(user, 77).of(&serving), format!("refresh {user}"));
        assert_eq!(access(user, 77).of(&serving), format!("access {user}"));
        assert_eq!(query(user, 77).of(&serving), format!("query {user}"));
        assert_eq!(document(user, 77).of(&serving), format!("document {user}"));
    }
    assert_eq!(query("eve", 1).of(&serving), "miss");
    assert_eq!(post("/check", r#"{"list":[{"token":"none"}]}"#).of(&serving), "miss");
}

#[test]
fn a_token_that_names_a_thing_stays_that_things() {
    let ask = |file: u32, moment: i64| Ask {
        method: "GET",
        path: "/download",
        query: format!(
            "t={}",
            token(&json!({"sub": "ann", "file": file, "iat": 1_700_000_000 + moment}))
        ),
        ..Ask::default()
    };
    let serving = serve(vec![ask(1, 0).answered("one"), ask(2, 0).answered("two")]);
    assert_eq!((ask(2, 9).of(&serving), ask(2, 9).of(&serving)), ("two".into(), "two".into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever users do in whatever order, each gets the own answers in recorded order.
    #[test]
    fn every_user_sees_the_own_recording(
        recorded in prop::collection::vec(0_usize..4, 1..24),
        asked in prop::collection::vec(0_usize..4, 0..60),
    ) {
        let users = ["ann", "bob", "cid", "dan"];
        let ask = |user: usize, moment| {
            get("/me", "Authorization", format!("Bearer {}", of(users[user], moment)))
        };
        let answers = |user: usize| -> Vec<String> {
            let of_one = recorded.iter().enumerate().filter(|(_, other)| **other == user);
            of_one.map(|(nth, user)| format!("{} {nth}", users[*user])).collect()
        };
        let pairs = recorded.iter().enumerate().map(|(nth, user)| {
            ask(*user, 1).answered(&format!("{} {nth}", users[*user]))
        });
        let serving = serve(pairs.collect());
        let mut turns = [0_usize; 4];
        let distinct = recorded.iter().collect::<std::collections::HashSet<_>>().len();
        for (moment, user) in (100..).zip(asked) {
            let own = answers(user);
            let seen = ask(user, moment).of(&serving);
            // With a single user in the recording, whoever presents a token is that one.
            if own.is_empty() || distinct == 1 {
                prop_assert_ne!(seen, "miss");
                continue;
            }
            prop_assert_eq!(&seen, &own[turns[user] % own.len()]);
            turns[user] += 1;
        }
    }

    /// What stands around a token is compared as it is, the token by whose it is.
    #[test]
    fn marks_take_the_place_of_tokens_only(
        before in "[a-z \\.:/-]{0,9}[ :/]",
        after in "[ ,;][ -~&&[^\"\\\\]]{0,9}",
        moment in 10_i64..1_000_000,
        other in prop::sample::select(vec!["ann", "bob"]),
    ) {
        let ask = |user: &str, moment: i64, after: &str| {
            post("/x", json!({"text": format!("{before}{}{after}", of(user, moment))}).to_string())
        };
        let serving = serve(vec![ask("ann", 1, &after).answered("ann"), ask("bob", 2, &after).answered("bob")]);
        prop_assert_eq!(ask(other, moment, &after).of(&serving), other);
        prop_assert_eq!(ask(other, moment, &format!("{after}!")).of(&serving), "miss");
    }

    /// No request is too odd to be asked for its identity.
    #[test]
    fn odd_requests_are_nobodys_harm(
        value in "[ -~]{0,60}",
        query in "[ -~&&[^#]]{0,40}",
        body in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let ann = get("/me", "Authorization", format!("Bearer {}", of("ann", 1)));
        let bob = ann.clone();
        let bob = Ask { headers: vec![("Cookie", format!("sid={}", of("bob", 2)))], ..bob };
        let serving = serve(vec![ann.answered("ann"), bob.answered("bob")]);
        let headers = http::HeaderMap::from_iter([
            (http::header::AUTHORIZATION, value.parse::<http::HeaderValue>().unwrap()),
            (http::header::COOKIE, value.parse().unwrap()),
        ]);
        for body in [&body[..], b""] {
            let request = Request { method: "GET", host: "api", path: "/me", query: &query, headers: &headers, body, ..Request::default() };
            drop(serving.answer(&request, 0));
        }
    }
}
