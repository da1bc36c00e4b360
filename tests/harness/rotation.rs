//! Keys that are swapped while clients verify: the world that both the system test and the bench set up, and clients that keep a key set.
//!
//! A client here is of the strict kind: it fetches the key set when the one that it keeps has become too old, and never because a token names a key that it
//! does not know.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Value, json};

use crate::{client::Client, recording};

/// Algorithms whose keys are published, and how openssl makes their keys.
pub const KEYS: [(&str, &str); 3] = [
    ("RS256", "genrsa 2048"),
    ("ES256", "ecparam -name prime256v1 -genkey -noout"),
    ("EdDSA", "genpkey -algorithm ed25519"),
];

/// Tokens that a client keeps, to verify them again later.
const HELD: usize = 32;
/// After so many tokens a client connects anew, so that it meets all replicas.
const PER_CONNECTION: usize = 20;

fn openssl(arguments: &str) -> Vec<u8> {
    let out = Command::new("openssl").args(arguments.split(' ')).output().unwrap();
    assert!(out.status.success(), "openssl {arguments}");
    out.stdout
}

/// Writes a generation of keys as the kubelet does: a new directory, then the link replaced by renaming.
pub fn mount(secrets: &Path, generation: u32) {
    prepare(secrets, generation);
    switch(secrets, generation);
}

/// Makes the directory of a generation; nothing shows it yet.
pub fn prepare(secrets: &Path, generation: u32) {
    let dir = secrets.join("keys");
    let name = format!("..generation_{generation}");
    fs::create_dir_all(dir.join(&name)).unwrap();
    let hmac = b"a secret of at least thirty-two bytes".to_vec();
    let fresh = KEYS.map(|(alg, make)| (alg, openssl(make)));
    for (alg, key) in fresh.into_iter().chain([("HS256", hmac)]) {
        fs::write(dir.join(&name).join(alg), key).unwrap();
        if !dir.join(alg).is_symlink() {
            symlink(format!("..data/{alg}"), dir.join(alg)).unwrap();
        }
    }
}

/// Replaces the generation that is shown, at once.
pub fn switch(secrets: &Path, generation: u32) {
    let dir = secrets.join("keys");
    let name = format!("..generation_{generation}");
    symlink(&name, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

/// A recording of a login for each algorithm, of the key set that verified them, and the template that re-signs them: `all.jsonl` and `t.json`.
pub fn write_recording(dir: &Path) {
    let mut lines = Vec::new();
    let mut chains = Vec::new();
    for alg in KEYS.map(|(alg, _)| alg).into_iter().chain(["HS256"]) {
        let token = recording::old_token(
            alg,
            &json!({"iss": "https://api.example", "sub": alg, "iat": 1_700_000_000, "exp": 1_700_003_600}),
        );
        lines.push(recording::line("GET", &format!("/{alg}"), &json!({"access_token": token})));
        chains.push(recording::resign_chain(alg));
    }
    let recorded = json!({"keys": [{"kty": "RSA", "kid": "recorded", "n": "AQAB", "e": "AQAB"}]});
    lines.push(recording::line("GET", "/jwks", &recorded));
    fs::write(dir.join("all.jsonl"), lines.join("\n")).unwrap();
    fs::write(dir.join("t.json"), json!({"id": "t", "responder": chains}).to_string()).unwrap();
}

/// A fresh token of an algorithm.
pub async fn login(client: &Client, alg: &str) -> String {
    let answer = client.get(&format!("/{alg}")).await.json();
    answer["access_token"].as_str().unwrap().to_owned()
}

/// What clients have seen.
#[derive(Debug, Default)]
pub struct Tally {
    /// Tokens that were verified at once.
    pub fresh: usize,
    /// Tokens that were verified again later.
    pub again: usize,
    /// What could not be verified, and why.
    pub refused: Vec<String>,
    /// The keys that have signed, by algorithm.
    pub kids: BTreeMap<&'static str, BTreeSet<String>>,
    /// Some tokens with the key set that the client kept at that time.
    pub samples: Vec<(String, String, String)>,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.fresh += other.fresh;
        self.again += other.again;
        self.refused.extend(other.refused);
        for (alg, kids) in other.kids {
            self.kids.entry(alg).or_default().extend(kids);
        }
        self.samples.extend(other.samples);
        self
    }
}

/// A client that keeps a key set.
#[derive(Debug)]
pub struct Verifier {
    server: SocketAddr,
    cache: Duration,
    kept: Option<(Instant, String, JwkSet)>,
    held: Vec<(&'static str, String)>,
    tally: Tally,
}

impl Verifier {
    /// A client of this server that keeps a key set for so long.
    #[must_use]
    pub fn new(server: SocketAddr, cache: Duration) -> Self {
        Self { server, cache, kept: None, held: Vec::new(), tally: Tally::default() }
    }

    /// Logs in, verifies, and verifies again what it was given before, until told to end.
    pub async fn run(mut self, ended: impl Fn() -> bool) -> Tally {
        loop {
            // A whole round comes after the end was told, so that whatever signed before it is seen.
            let last = ended();
            let client = Client::new(self.server);
            for nth in 0..PER_CONNECTION {
                let (alg, _) = KEYS[nth % KEYS.len()];
                let token = login(&client, alg).await;
                self.refresh().await;
                self.look(alg, &token, nth == 0);
                self.tally.fresh += 1;
                self.held.push((alg, token));
                if self.held.len() == HELD {
                    let (alg, old) = self.held.remove(0);
                    self.look(alg, &old, false);
                    self.tally.again += 1;
                }
            }
            if last {
                return self.tally;
            }
        }
    }

    /// Fetches the key set if the one that is kept is too old.
    async fn refresh(&mut self) {
        if self.kept.as_ref().is_some_and(|(since, ..)| since.elapsed() < self.cache) {
            return;
        }
        // What was fetched is as old as the question for it.
        let since = Instant::now();
        let body = Client::new(self.server).get("/jwks").await.body;
        let text = String::from_utf8(body.to_vec()).unwrap();
        let keys = serde_json::from_str(&text).unwrap();
        self.kept = Some((since, text, keys));
    }

    fn look(&mut self, alg: &'static str, token: &str, sample: bool) {
        let Some((_, text, keys)) = &self.kept else { return };
        let kid = decode_header(token).unwrap().kid.unwrap_or_default();
        if let Err(why) = verify(alg, token, &kid, keys) {
            self.tally.refused.push(format!("{alg} {kid}: {why}"));
        }
        self.tally.kids.entry(alg).or_default().insert(kid);
        if sample {
            self.tally.samples.push((alg.to_owned(), token.to_owned(), text.clone()));
        }
    }
}

fn verify(alg: &str, token: &str, kid: &str, keys: &JwkSet) -> Result<(), String> {
    let key = keys.find(kid).ok_or_else(|| "no key has this kid".to_owned())?;
    let key = DecodingKey::from_jwk(key).map_err(|why| why.to_string())?;
    let mut validation = Validation::new(match alg {
        "RS256" => Algorithm::RS256,
        "ES256" => Algorithm::ES256,
        _ => Algorithm::EdDSA,
    });
    validation.leeway = 0;
    let claims = decode::<Value>(token, &key, &validation).map_err(|why| why.to_string())?.claims;
    (claims["sub"] == alg).then_some(()).ok_or_else(|| "another subject".to_owned())
}
