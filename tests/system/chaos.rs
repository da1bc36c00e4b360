//! Unsound tokens and key sets over HTTP, and an independent verifier that refuses each for the right reason; and other chaos as a client
//! meets it.

use std::{fs, process::Command};

use harness::{
    client::Client,
    has_openssl,
    process::Process,
    python::{self, AskStrictly},
    recording,
};
use serde_json::{Value, json};

const ISSUER: &str = "https://api.example";
const AUDIENCE: &str = "the-app";

/// A fault and the errors with which verifiers refuse it.
const FAULTS: [(&str, &[&str]); 10] = [
    ("expired", &["ExpiredSignatureError"]),
    ("not-yet-valid", &["ImmatureSignatureError"]),
    ("wrong-key", &["InvalidSignatureError"]),
    ("bad-signature", &["InvalidSignatureError"]),
    ("unknown-kid", &["PyJWKClientError"]),
    ("alg-none", &["InvalidAlgorithmError"]),
    ("alg-confusion", &["InvalidAlgorithmError"]),
    ("wrong-aud", &["InvalidAudienceError"]),
    ("wrong-iss", &["InvalidIssuerError"]),
    ("truncated", &["DecodeError"]),
];
const ALGS: [(&str, &str); 4] = [
    ("RS256", "genrsa 2048"),
    ("PS256", "genrsa 2048"),
    ("ES256", "ecparam -name prime256v1 -genkey -noout"),
    ("EdDSA", "genpkey -algorithm ed25519"),
];

/// A responder that serves a login for each algorithm and the key set, under some rules.
struct Mock {
    _process: Process,
    client: Client,
    keys: String,
}

impl Mock {
    async fn start(dir: &std::path::Path, chaos: &Value) -> Self {
        let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
        fs::write(dir.join("c.json"), json!({"id": "c", "chaos": chaos}).to_string()).unwrap();
        let mut process = Process::start(
            "countersign",
            [
                "dev",
                &path("all.jsonl"),
                "--transform",
                &path("t.json"),
                "--test-config",
                &path("c.json"),
                "--secret-dir",
                &path("secrets"),
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ],
        );
        let address = process.address("data").await;
        let client = Client::new(address);
        Self { _process: process, client, keys: format!("http://{address}/jwks") }
    }
}

fn prepare(dir: &std::path::Path) {
    let secrets = dir.join("secrets/keys");
    fs::create_dir_all(&secrets).unwrap();
    let mut lines = Vec::new();
    let mut chains = Vec::new();
    for (alg, make) in ALGS {
        let out = Command::new("openssl").args(make.split(' ')).output().unwrap();
        fs::write(secrets.join(alg), out.stdout).unwrap();
        let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": alg, "iat": 1_700_000_000, "exp": 1_700_003_600});
        let token = recording::old_token(alg, &claims);
        lines.push(recording::line("GET", &format!("/{alg}"), &json!({"access_token": token})));
        chains.push(recording::resign_chain(alg));
    }
    let recorded = json!({"keys": [{"kty": "RSA", "kid": "recorded", "n": "AQAB", "e": "AQAB", "x5c": ["MIIB"], "x5t": "AQAB"}]});
    lines.push(recording::line("GET", "/jwks", &recorded));
    fs::write(dir.join("all.jsonl"), lines.join("\n")).unwrap();
    fs::write(dir.join("t.json"), json!({"id": "t", "responder": chains}).to_string()).unwrap();
}

fn strictly(token: String, alg: &str, uri: &str) -> AskStrictly {
    AskStrictly {
        token,
        alg: alg.into(),
        uri: uri.into(),
        audience: AUDIENCE.into(),
        issuer: ISSUER.into(),
    }
}

#[tokio::test]
async fn a_verifier_refuses_each_fault_for_its_own_reason() {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    // Of ten answers to each login each meets another fault, and the next one meets none.
    let rules: Vec<Value> = (0..)
        .zip(FAULTS)
        .map(|(nth, (fault, _))| {
            json!({"id": fault, "filter": format!("(header[x-fault] IS \"{fault}\")"), "token": fault, "seed": nth})
        })
        .collect();
    let mock = Mock::start(dir.path(), &json!({"rules": rules})).await;
    let (mut asks, mut expected) = (Vec::new(), Vec::new());
    for (alg, _) in ALGS {
        for (fault, errors) in FAULTS.into_iter().chain([("", &[][..])]) {
            let headers = http::HeaderMap::from_iter([(
                http::HeaderName::from_static("x-fault"),
                fault.parse().unwrap(),
            )]);
            let target = format!("/{alg}");
            let answer =
                mock.client.send(http::Method::GET, &target, headers, bytes::Bytes::new()).await;
            let marker = answer.headers.get("x-speedscale-chaos").map(|m| m.to_str().unwrap());
            let wanted = format!("effect=token;token={fault};rule={fault}");
            assert_eq!(marker, (!fault.is_empty()).then_some(wanted.as_str()), "{alg}");
            let token = answer.json()["access_token"].as_str().unwrap().to_owned();
            asks.push(strictly(token, alg, &mock.keys));
            expected.push((alg, fault, errors));
        }
    }
    let Some(verdicts) = python::verify_strictly(&asks) else { return };
    for ((alg, fault, errors), verdict) in expected.into_iter().zip(verdicts) {
        match verdict {
            Ok(claims) => assert_eq!((fault, &claims["sub"]), ("", &json!(alg))),
            Err(why) => assert!(errors.contains(&why.as_str()), "{alg} {fault}: {why}"),
        }
    }
}

#[tokio::test]
async fn a_verifier_notices_key_sets_that_are_unsound() {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    for fault in ["error", "stale", "empty"] {
        let mock = Mock::start(dir.path(), &json!({"rules": [format!("jwks={fault}")]})).await;
        let answer = mock.client.get("/ES256").await;
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        let Some(verdicts) = python::verify_strictly(&[strictly(token, "ES256", &mock.keys)])
        else {
            return;
        };
        let why = verdicts.into_iter().next().unwrap().unwrap_err();
        let expected = match fault {
            "error" => ["PyJWKClientConnectionError", "PyJWKClientError"],
            _ => ["PyJWKClientError", "PyJWKSetError"],
        };
        assert!(expected.contains(&why.as_str()), "{fault}: {why}");
    }
}

#[tokio::test]
async fn flags_are_rules_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.jsonl");
    let lines = [("/a", json!({"a": 1})), ("/b", json!({"b": 1}))];
    let lines = lines.map(|(path, body)| recording::line("GET", path, &body));
    fs::write(&file, lines.join("\n")).unwrap();
    let mut process = Process::start(
        "countersign",
        [
            "dev",
            &file.to_string_lossy(),
            "--timing",
            "recorded",
            "--chaos",
            "(location IS \"/a\"): status=503",
            "--fault",
            "/b$:header=X-A: b,rate=1/2",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ],
    );
    let client = Client::new(process.address("data").await);
    let marker = |response: &harness::client::Response| {
        response.headers.get("x-speedscale-chaos").map(|value| value.to_str().unwrap().to_owned())
    };
    let failed = client.get("/a").await;
    assert_eq!((failed.status.as_u16(), failed.body.len()), (503, 0));
    assert_eq!(marker(&failed).unwrap(), "effect=status;status=503;rule=chaos-1");
    let (first, second) = (client.get("/b").await, client.get("/b").await);
    assert_eq!(first.headers["x-a"], "b");
    assert_eq!(marker(&first).unwrap(), "effect=header;header=x-a;rule=fault-1");
    assert_eq!((marker(&second), second.json()), (None, json!({"b": 1})));
}
