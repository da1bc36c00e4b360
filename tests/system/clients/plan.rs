//! What clients are asked to do: users of a recording, each with steps and the recorded answers that they must get.
//!
//! A plan is JSON: `base` and `jwks` are URLs, `tokens` the members of an answer that hold tokens, `algs` what they are signed with, `users` a list of
//! `{"steps": […]}`. A step has `method`, `path` with query, `headers`, `body` in which `{access_token}` stands for the one held, `auth` when the
//! token goes into `Authorization`, and what must come: `status`, `expected`, and the `subject` of tokens in it. Clients answer with the number of
//! `requests`, of `own` answers, of tokens that each library has `verified`, and a list of what is `wrong`.

use std::collections::BTreeMap;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign_engine::snapshot::RrPair;
use harness::recording;
use serde_json::{Value, json};

/// Where the key set of the recording below is.
pub(crate) const KEYS: &str = "/oauth/keys";

/// The subject of the token that a recorded request presents.
fn subject(pair: &RrPair) -> Option<String> {
    let headers = &pair.request.as_ref()?.headers;
    let field = headers.iter().find(|header| header.name.eq_ignore_ascii_case("authorization"))?;
    let token = std::str::from_utf8(&field.value).ok()?.strip_prefix("Bearer ")?;
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims["sub"].as_str().map(str::to_owned)
}

fn user(pair: &RrPair) -> Option<String> {
    let body: Option<Value> = serde_json::from_slice(&pair.request.as_ref()?.body).ok();
    subject(pair).or_else(|| Some(body?["username"].as_str()?.to_owned()))
}

fn step(pair: &RrPair, user: &str) -> Value {
    let request = pair.request.as_ref().unwrap();
    let response = &pair.response.body;
    let expected = serde_json::from_slice(response)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(response)));
    let query =
        if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    let headers = if request.body.is_empty() {
        json!({})
    } else {
        json!({"content-type": "application/json"})
    };
    json!({
        "method": request.method, "path": format!("{}{query}", request.path), "headers": headers,
        "body": String::from_utf8_lossy(&request.body), "auth": subject(pair).is_some(),
        "status": pair.response.status, "expected": expected, "subject": user,
    })
}

/// The first users of a recording who log in once, at first, and present the token of that login from then on.
pub(crate) fn users(pairs: &[RrPair], count: usize) -> Vec<Value> {
    let mut all: BTreeMap<String, Vec<&RrPair>> = BTreeMap::new();
    for pair in pairs {
        if let Some(name) = user(pair) {
            all.entry(name).or_default().push(pair);
        }
    }
    let is_login = |pair: &&RrPair| pair.request.as_ref().unwrap().path == "/login";
    all.retain(|_, pairs| {
        is_login(&pairs[0]) && pairs.iter().filter(|pair| is_login(pair)).count() == 1
    });
    let steps = |(name, pairs): (&String, &Vec<&RrPair>)| json!({"steps": pairs.iter().map(|pair| step(pair, name)).collect::<Vec<_>>()});
    all.iter().take(count).map(steps).collect()
}

fn token(user: &str, kind: &str, turn: i64) -> String {
    let iat = 1_700_000_000 + turn;
    recording::old_token(
        "RS256",
        &json!({"iss": "https://accounts.example", "sub": user, "use": kind, "iat": iat, "exp": iat + 3600}),
    )
}

fn issued(user: &str, turn: i64) -> Value {
    let (access, refresh) = (token(user, "access", turn), token(user, "refresh", turn));
    json!({"access_token": access, "refresh_token": refresh, "token_type": "Bearer"})
}

const FORM: &str = "application/x-www-form-urlencoded";

fn login(user: &str) -> String {
    format!("grant_type=password&username={user}&password=looking-glass")
}

/// A recording of two users of an OAuth server, who log in, ask who they are, refresh and ask again; and of its key set and discovery.
pub(crate) fn oauth_recording() -> String {
    let pair = |method: &str, path: &str, fields: Value, body: &str, answer: &Value| {
        json!({
            "msgType": "rrpair", "ts": "2024-01-02T03:04:05.678901234Z", "l7protocol": "http", "direction": "OUT",
            "network_address": "accounts.example:80", "command": method, "location": path, "status": "200",
            "http": {
                "req": {"url": path, "uri": path, "version": "1.1", "method": method, "host": "accounts.example",
                    "headers": fields, "bodyBase64": STANDARD.encode(body)},
                "res": {"statusCode": 200, "contentType": "application/json",
                    "headers": {"Content-Type": ["application/json"]}, "bodyBase64": STANDARD.encode(answer.to_string())}
            }
        })
        .to_string()
    };
    let form = || json!({"Content-Type": [FORM]});
    let mut lines = Vec::new();
    for user in ["carol", "dave"] {
        let bearer =
            |turn| json!({"Authorization": [format!("Bearer {}", token(user, "access", turn))]});
        let refresh =
            format!("grant_type=refresh_token&refresh_token={}", token(user, "refresh", 0));
        lines.push(pair("POST", "/oauth/token", form(), &login(user), &issued(user, 0)));
        lines.push(pair("GET", "/oauth/me", bearer(0), "", &json!({"user": user, "turn": 0})));
        lines.push(pair("POST", "/oauth/token", form(), &refresh, &issued(user, 1)));
        lines.push(pair("GET", "/oauth/me", bearer(1), "", &json!({"user": user, "turn": 1})));
    }
    let recorded = json!({"keys": [{"kty": "RSA", "kid": "recorded", "n": "AQAB", "e": "AQAB"}]});
    lines.push(pair("GET", KEYS, json!({}), "", &recorded));
    lines.join("\n")
}

/// What those two do.
pub(crate) fn oauth_users() -> Vec<Value> {
    let one = |user: &str| {
        let step = |method: &str, path: &str, body: &str, expected: Value| {
            let headers = if body.is_empty() { json!({}) } else { json!({"content-type": FORM}) };
            json!({
                "method": method, "path": path, "headers": headers, "body": body, "auth": body.is_empty(),
                "status": 200, "expected": expected, "subject": user,
            })
        };
        let refresh = "grant_type=refresh_token&refresh_token={refresh_token}";
        json!({"steps": [
            step("POST", "/oauth/token", &login(user), issued(user, 0)),
            step("GET", "/oauth/me", "", json!({"user": user, "turn": 0})),
            step("POST", "/oauth/token", refresh, issued(user, 1)),
            step("GET", "/oauth/me", "", json!({"user": user, "turn": 1})),
        ]})
    };
    ["carol", "dave"].map(one).into()
}

/// Re-signs whatever of it is there, with a key for RS256 also where HS256 was recorded, so that a key set verifies it.
pub(crate) fn template() -> String {
    let chain = |member: &str| {
        json!({
            "extractor": {"type": "res_body"},
            "transforms": [
                {"type": "json_path", "config": {"path": member, "create": "false"}},
                {"type": "jwt_resign", "config": {"secretPath": "${{secret:keys/rsa}}", "alg": "RS256"}}
            ]
        })
    };
    json!({"id": "clients", "responder": [chain("access_token"), chain("refresh_token")]})
        .to_string()
}

/// The issuer and audience of the tokens that a fault befalls.
pub(crate) const ISSUER: &str = "https://accounts.example";
pub(crate) const AUDIENCE: &str = "shop";

/// A recording that issues a token at a path for each fault, and a sound one, and its key set.
pub(crate) fn fault_recording(faults: &[&str]) -> String {
    let mut lines = Vec::new();
    for fault in faults {
        let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": fault, "iat": 1_700_000_000, "exp": 1_700_003_600});
        let issued = json!({"access_token": recording::old_token("RS256", &claims)});
        lines.push(recording::line("GET", &format!("/token/{fault}"), &issued));
    }
    let recorded = json!({"keys": [{"kty": "RSA", "kid": "recorded", "n": "AQAB", "e": "AQAB"}]});
    lines.push(recording::line("GET", KEYS, &recorded));
    lines.join("\n")
}

/// A test config in which each fault befalls the token at its path.
pub(crate) fn fault_config(faults: &[&str]) -> String {
    let rule = |fault: &&str| format!("(location IS \"/token/{fault}\"): token={fault}");
    let rules: Vec<String> = faults.iter().filter(|fault| **fault != "none").map(rule).collect();
    json!({"id": "faults", "chaos": {"seed": 7, "rules": rules}}).to_string()
}
