//! The users of a recording, interleaved at random, each with the tokens that it is given: everybody gets the own recorded answer.
//!
//! The recording is third-party data and not part of the repository; where it is absent the test says so and passes.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test that reads files and reports"
)]

mod shared;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{
    answer::Answer,
    compile::compile,
    jwt::key::{KeyEntry, KeyRing, SecretRef, SigningKey},
    request::Request,
    serving::Serving,
    snapshot::{RrPair, Serve},
    test_config::TestConfig,
    transform::Template,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde_json::Value;

use shared::{read, shared_data};

const KEY: &[u8] = b"a secret of at least thirty-two bytes";
const NOW: i64 = 1_900_000_000_000_000_000;
const RESIGN: &str = r#"{"id":"t","responder":[{"extractor":{"type":"res_body"},"transforms":[
    {"type":"json_path","config":{"path":"access_token","create":"false"}},
    {"type":"jwt_resign","config":{"secretPath":"${{secret:demo/key}}"}}]}]}"#;
const SHUFFLES: u64 = 20;

fn recording() -> Option<Vec<RrPair>> {
    let root = shared_data("identities of recorded users are")?;
    Some(read(&root.join("sessions-demo")).0)
}

fn serving(pairs: &[RrPair], config: &str) -> Serving {
    let config = TestConfig::parse(config.as_bytes()).unwrap();
    let (template, found) = Template::parse(RESIGN.as_bytes());
    assert!(found.as_slice().is_empty(), "{found:?}");
    let (compiled, _) = compile(pairs.to_vec(), &template, &config, Serve::All);
    let key = KeyEntry {
        key: Some(Arc::new(SigningKey::parse(KEY).unwrap())),
        problem: None,
        generation: 1,
        text: None,
        beside: Vec::new(),
    };
    let secret = SecretRef { secret: "demo".into(), key: "key".into() };
    Serving::new(Arc::new(compiled), &KeyRing::new(1, [(secret, key)].into()))
}

fn bearer(pair: &RrPair) -> Option<&str> {
    let headers = &pair.request.as_ref()?.headers;
    let field = headers.iter().find(|header| header.name.eq_ignore_ascii_case("authorization"))?;
    std::str::from_utf8(&field.value).ok()?.strip_prefix("Bearer ")
}

fn claims(token: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?).ok()
}

/// The user behind a pair: who presents a token or another credential, or logs in.
fn user(pair: &RrPair) -> Option<String> {
    if let Some(claims) = bearer(pair).and_then(claims) {
        return Some(claims["sub"].as_str()?.to_owned());
    }
    let credentials = ["authorization", "x-api-key", "cookie"];
    let presented = pair
        .request
        .as_ref()?
        .headers
        .iter()
        .find(|header| credentials.iter().any(|name| header.name.eq_ignore_ascii_case(name)));
    if let Some(header) = presented {
        return Some(String::from_utf8_lossy(&header.value).into_owned());
    }
    let body: Value = serde_json::from_slice(&pair.request.as_ref()?.body).ok()?;
    Some(body["username"].as_str()?.to_owned())
}

fn access_token(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(body["access_token"].as_str()?.to_owned())
}

/// A body without its token.
fn told(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    match access_token(body) {
        Some(token) => text.replace(&token, ""),
        None => text,
    }
}

/// A client: what it has to ask, and the tokens that it was given for the recorded ones.
struct Client<'p> {
    pairs: std::slice::Iter<'p, &'p RrPair>,
    given: HashMap<String, String>,
}

impl Client<'_> {
    /// Asks for the next pair; tells whether its own answer came, and how many fresh tokens it presented.
    fn step(&mut self, serving: &Serving) -> Option<(bool, usize)> {
        let pair = self.pairs.next()?;
        let recorded = pair.request.as_ref()?;
        let fresh = bearer(pair).and_then(|token| self.given.get(token).cloned());
        let headers: HeaderMap = recorded
            .headers
            .iter()
            .map(|header| {
                let name = HeaderName::from_bytes(header.name.as_bytes()).unwrap();
                let value = HeaderValue::from_bytes(&header.value).unwrap();
                let swapped = fresh.as_ref().filter(|_| name == http::header::AUTHORIZATION);
                let value = swapped.map_or(value, |f| format!("Bearer {f}").parse().unwrap());
                (name, value)
            })
            .collect();
        let request = Request {
            method: &recorded.method,
            host: &recorded.host,
            path: &recorded.path,
            query: &recorded.query,
            headers: &headers,
            body: &recorded.body,
            ..Request::default()
        };
        let Answer::Hit(hit) = serving.answer(&request, NOW) else {
            return Some((false, 0));
        };
        if let (Some(old), Some(new)) = (access_token(&pair.response.body), access_token(&hit.body))
        {
            assert_ne!(old, new, "tokens are signed anew");
            self.given.insert(old, new);
        }
        let own =
            hit.status == pair.response.status && told(&hit.body) == told(&pair.response.body);
        Some((own, usize::from(fresh.is_some())))
    }
}

/// How many requests get their own answer, of how many, and how many of them presented a fresh token.
fn interleaved(pairs: &[RrPair], serving: &Serving, seed: u64) -> (usize, usize, usize) {
    let mut users: BTreeMap<String, Vec<&RrPair>> = BTreeMap::new();
    for pair in pairs {
        // Who is nobody asks once.
        let name = user(pair).unwrap_or_else(|| format!("nobody {}", pair.ordinal));
        users.entry(name).or_default().push(pair);
    }
    let lists: Vec<Vec<&RrPair>> = users.into_values().collect();
    let mut clients: Vec<Client<'_>> =
        lists.iter().map(|list| Client { pairs: list.iter(), given: HashMap::new() }).collect();
    let mut chance = SmallRng::seed_from_u64(seed);
    let (mut own, mut all, mut fresh) = (0, 0, 0);
    while !clients.is_empty() {
        let turn = chance.random_range(0..clients.len());
        match clients[turn].step(serving) {
            Some((mine, presented)) => {
                all += 1;
                own += usize::from(mine);
                fresh += presented;
            }
            None => drop(clients.swap_remove(turn)),
        }
    }
    (own, all, fresh)
}

#[test]
fn interleaved_users_get_their_own_answers() {
    let Some(pairs) = recording() else { return };
    let rate = |config: &str| {
        let serving = serving(&pairs, config);
        let (mut own, mut all, mut fresh) = (0, 0, 0);
        for seed in 0..SHUFFLES {
            serving.snapshot().reset();
            let (o, a, f) = interleaved(&pairs, &serving, seed);
            (own, all, fresh) = (own + o, all + a, fresh + f);
        }
        (own, all, fresh)
    };
    let percent = |own: usize, all: usize| {
        f64::from(u32::try_from(own).unwrap()) * 100.0 / f64::from(u32::try_from(all).unwrap())
    };
    let (own, all, fresh) = rate(TestConfig::STANDARD);
    let (blind, _, _) = rate(r#"{"id":"c","responder":{"sequence":{"scope":"replica"}}}"#);
    eprintln!(
        "{SHUFFLES} shuffles of {} requests, {} of them with a fresh token: own answers {:.3} %, with identity off {:.3} %",
        pairs.len(),
        fresh / usize::try_from(SHUFFLES).unwrap(),
        percent(own, all),
        percent(blind, all),
    );
    assert!(own * 1000 >= all * 999, "{own} of {all}");
    assert!(blind < own, "the recording has users whom signatures do not tell apart");
}
