//! Every algorithm, end to end: keys made by openssl, tokens verified by PyJWT.

use std::{fs, path::Path, process::Command};

use harness::{
    client::Client,
    has_openssl,
    process::{self},
    python::{self, Ask},
    recording,
};
use serde_json::{Value, json};

/// Algorithm, how openssl makes its key, and the name of the key.
const TABLE: [(&str, &str); 13] = [
    ("HS256", ""),
    ("HS384", ""),
    ("HS512", ""),
    ("RS256", "genrsa -traditional -out KEY 2048"),
    ("RS384", "genpkey -algorithm rsa -out KEY"),
    ("RS512", "genrsa -out KEY 3072"),
    ("PS256", "genrsa -out KEY 2048"),
    ("PS384", "genrsa -out KEY 2048"),
    ("PS512", "genrsa -out KEY 2048"),
    ("ES256", "ecparam -name prime256v1 -genkey -out KEY"),
    ("ES384", "ecparam -name secp384r1 -genkey -noout -out KEY"),
    ("ES512", "ecparam -name secp521r1 -genkey -out KEY"),
    ("EdDSA", "genpkey -algorithm ed25519 -out KEY"),
];

fn openssl(arguments: &str, key: &Path) -> String {
    let key = key.to_string_lossy();
    let out = Command::new("openssl")
        .args(arguments.split(' ').map(|word| if word == "KEY" { &*key } else { word }))
        .output()
        .unwrap();
    assert!(out.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[tokio::test]
async fn each_is_signed_and_accepted_by_an_independent_verifier() {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("secrets");
    fs::create_dir_all(secrets.join("keys")).unwrap();
    let mut lines = String::new();
    let mut chains = Vec::new();
    let mut public = Vec::new();
    for (alg, make) in TABLE {
        let key = secrets.join("keys").join(alg);
        let verifier = if make.is_empty() {
            let secret = format!(
                "{alg} secret that is long enough for each of the three HMAC algorithms, even 512"
            );
            fs::write(&key, &secret).unwrap();
            secret
        } else {
            openssl(make, &key);
            openssl("pkey -in KEY -pubout", &key)
        };
        public.push(verifier);
        let token = recording::old_token(
            alg,
            &json!({"sub": alg, "iat": 1_700_000_000, "exp": 1_700_000_600}),
        );
        lines.push_str(&recording::line(
            "GET",
            &format!("/{alg}"),
            &json!({"access_token": token}),
        ));
        lines.push('\n');
        chains.push(recording::resign_chain(alg));
    }
    fs::write(dir.path().join("all.jsonl"), lines).unwrap();
    fs::write(dir.path().join("t.json"), json!({"id": "t", "responder": chains}).to_string())
        .unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();

    let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let grpc = plane.address("grpc").await;
    let mut responder = process::responder("r", grpc, &secrets, None);
    let server = format!("http://{grpc}");
    let cli = |arguments: &[&str]| {
        drop(process::run("countersign", ["--server", &server].iter().chain(arguments)).ok());
    };
    cli(&["snapshot", "import", &path("all.jsonl"), "--id", "all"]);
    cli(&["transform", "put", &path("t.json")]);
    let client = Client::new(responder.address("data").await);
    cli(&["replay", "start", "--snapshot", "all", "--transform", "t", "--wait"]);

    let mut asks = Vec::new();
    for ((alg, _), key) in TABLE.iter().zip(&public) {
        let token = client.get(&format!("/{alg}")).await.json()["access_token"]
            .as_str()
            .unwrap()
            .to_owned();
        asks.push(Ask { token, key: key.clone(), alg: (*alg).to_owned() });
    }
    for ((alg, _), verdict) in TABLE.iter().zip(python::verify(&asks)) {
        let claims: Value = verdict.unwrap_or_else(|why| panic!("{alg}: {why}"));
        assert_eq!(claims["sub"], *alg);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
    }
}
