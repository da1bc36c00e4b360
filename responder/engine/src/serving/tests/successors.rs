//! What was recorded about a token is told of its successor, and by whom it was issued.

use super::*;

const ISSUER: &str = "https://kc.example/realms/a";

fn jwt(sub: &str) -> String {
    recorded_token(
        &json!({"iss": ISSUER, "sub": sub, "iat": RECORDED_AT, "exp": RECORDED_AT + 600}),
    )
}

fn form(token: &str, answer: &Value) -> RrPair {
    let mut pair =
        pair("POST", "/introspect", &format!("token={token}&hint=a"), &answer.to_string());
    let request = pair.request.as_mut().unwrap();
    request.headers.iter_mut().for_each(|header| header.value = FORM.into());
    pair
}

const FORM: &str = "application/x-www-form-urlencoded";

fn introspect(serving: &Serving, token: &str) -> Value {
    let body = format!("hint=a&token={token}");
    let headers =
        HeaderMap::from_iter([(http::header::CONTENT_TYPE, http::HeaderValue::from_static(FORM))]);
    let request = Request {
        method: "POST",
        host: "api.example",
        path: "/introspect",
        headers: &headers,
        body: body.as_bytes(),
        ..Request::default()
    };
    serde_json::from_slice(&hit(serving.answer(&request, seconds(NOW))).body).unwrap()
}

fn userinfo(serving: &Serving, token: &str) -> Value {
    let value = http::HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
    let request = Request {
        method: "GET",
        host: "api.example",
        path: "/userinfo",
        headers: &headers,
        ..Request::default()
    };
    serde_json::from_slice(&hit(serving.answer(&request, seconds(NOW))).body).unwrap()
}

fn asked_with(token: &str, answer: &Value) -> RrPair {
    let mut pair = pair("GET", "/userinfo", "", &answer.to_string());
    let bearer = format!("Bearer {token}");
    let header = Header { name: "Authorization".into(), value: bearer.into() };
    pair.request.as_mut().unwrap().headers.push(header);
    pair
}

#[test]
fn answers_about_tokens_are_found_for_their_successors() {
    let life = |iss: &str| json!({"active": true, "iss": iss, "exp": RECORDED_AT + 600, "iat": RECORDED_AT - 60, "scope": "a"});
    let opaque = |who: &str| format!("opaque-token-of-{who}");
    let mut pairs = Vec::new();
    for who in ["alice", "bob"] {
        let login = json!({"access_token": jwt(who), "refresh_token": opaque(who)});
        pairs.push(pair(
            "POST",
            "/login",
            &json!({"username": who}).to_string(),
            &login.to_string(),
        ));
    }
    for who in ["alice", "bob"] {
        let mut own = life(ISSUER);
        own["sub"] = json!(who);
        own["iat"] = json!(RECORDED_AT);
        pairs.push(form(&jwt(who), &own));
        pairs.push(form(&opaque(who), &life("https://else")));
        pairs.push(asked_with(&jwt(who), &json!({"name": who, "updated_at": RECORDED_AT})));
        pairs.push(asked_with(&opaque(who), &json!({"name": who, "by": "opaque"})));
    }
    pairs.push(form("revoked", &json!({"active": false})));
    let serving = serve(pairs, &resign("access_token"), &ring(Some(KEY)));
    for who in ["bob", "alice"] {
        let login = json!({"username": who}).to_string();
        let login = hit(ask(&serving, "POST", "/login", &login));
        let login: Value = serde_json::from_slice(&login.body).unwrap();
        let fresh = login["access_token"].as_str().unwrap();
        assert_ne!(fresh, jwt(who));
        let expected = json!({"active": true, "iss": ISSUER, "sub": who, "exp": NOW + 600, "iat": NOW, "scope": "a"});
        assert_eq!(introspect(&serving, fresh), expected);
        let expected = json!({"active": true, "iss": "https://else", "exp": NOW + 600, "iat": NOW - 60, "scope": "a"});
        assert_eq!(introspect(&serving, &opaque(who)), expected, "its life is as long as it was");
        assert_eq!(userinfo(&serving, fresh)["name"], who);
    }
    assert_eq!(introspect(&serving, "revoked"), json!({"active": false}));
}

#[test]
fn another_issuer_is_named_everywhere() {
    let discovery = json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/certs"), "other": "https://kc.example/x"});
    let pairs = vec![
        pair("GET", "/login", "", &json!({"access_token": jwt("alice")}).to_string()),
        pair("GET", "/.well-known/openid-configuration", "", &discovery.to_string()),
        form(&jwt("alice"), &json!({"active": true, "iss": ISSUER, "exp": RECORDED_AT + 600})),
    ];
    let template = resign("access_token");
    let served = |responder: Value| {
        let (template, _) = Template::parse(template.as_bytes());
        let config = json!({"id": "c", "responder": responder}).to_string();
        let config = TestConfig::parse(config.as_bytes()).unwrap();
        let (compiled, _) = compile(pairs.clone(), &template, &config, Serve::Out);
        Serving::new(Arc::new(compiled), &ring(Some(KEY)))
    };
    let get = |serving: &Serving, path: &str| -> Value {
        serde_json::from_slice(&hit(ask(serving, "GET", path, "")).body).unwrap()
    };
    const OURS: &str = "http://localhost:4140/realms/a";
    for issuer in [json!("http://localhost:4140"), json!({ISSUER: "http://localhost:4140/"})] {
        let serving = served(json!({"issuer": issuer}));
        assert_eq!(codes(serving.diagnostics()), [""; 0]);
        let token = get(&serving, "/login")["access_token"].as_str().unwrap().to_owned();
        let claims = json!({"iss": OURS, "sub": "alice", "iat": NOW, "exp": NOW + 600});
        assert_eq!(verified(&token), claims);
        let expected = json!({"issuer": OURS, "jwks_uri": format!("{OURS}/certs"), "other": "http://localhost:4140/x"});
        let mut served = get(&serving, "/.well-known/openid-configuration");
        served.as_object_mut().unwrap().retain(|name, _| expected.get(name).is_some());
        assert_eq!(served, expected);
        // Its successor is still known, though its issuer is another one.
        let told = introspect(&serving, &token);
        assert_eq!(told, json!({"active": true, "iss": OURS, "exp": NOW + 600}));
    }
    let elsewhere = served(json!({"issuer": "http://localhost/other"}));
    assert_eq!(codes(elsewhere.diagnostics()), ["issuer_path"]);
    let unknown = served(json!({"issuer": {"https://nobody": "http://localhost"}}));
    assert_eq!(verified(get(&unknown, "/login")["access_token"].as_str().unwrap())["iss"], ISSUER);
}
