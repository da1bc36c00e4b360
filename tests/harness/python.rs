//! PyJWT as an independent verifier of tokens.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{fallback, notice};

const SCRIPT: &str = r#"
import json, sys, warnings, jwt
warnings.simplefilter("ignore")
for line in sys.stdin:
    ask = json.loads(line)
    try:
        claims = jwt.decode(ask["token"], ask["key"], algorithms=[ask["alg"]], options={"verify_aud": False})
        print(json.dumps({"claims": claims}))
    except Exception as why:
        print(json.dumps({"error": type(why).__name__}))
"#;

/// One token to verify.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The token.
    pub token: String,
    /// The secret or the public key in PEM.
    pub key: String,
    /// The algorithm that it must have.
    pub alg: String,
}

/// The claims of each token, or the name of the error that PyJWT raised: signature, lifetime and form are checked. Where Python has no PyJWT,
/// which CI must have, they are checked without it, and a notice says so.
#[must_use]
pub fn verify(asks: &[Ask]) -> Vec<Result<Value, String>> {
    let python = std::env::var("COUNTERSIGN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_it = Command::new(&python)
        .args(["-c", "import jwt"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_it {
        assert!(std::env::var_os("CI").is_none(), "CI needs PyJWT");
        notice(&format!(
            "{python} has no PyJWT, tokens are verified with the library that signs them"
        ));
        return asks.iter().map(fallback::verify).collect();
    }
    let lines = asks.iter().map(|ask| json!({"token": ask.token, "key": ask.key, "alg": ask.alg}));
    run(&python, SCRIPT, lines)
}

const JWKS_SCRIPT: &str = r#"
import json, sys, warnings, jwt
warnings.simplefilter("ignore")
clients = {}
for line in sys.stdin:
    ask = json.loads(line)
    try:
        if ask["uri"]:
            client = clients.setdefault(ask["uri"], jwt.PyJWKClient(ask["uri"]))
            key = client.get_signing_key_from_jwt(ask["token"]).key
        else:
            kid = jwt.get_unverified_header(ask["token"])["kid"]
            key = jwt.PyJWKSet.from_json(ask["keys"])[kid].key
        claims = jwt.decode(ask["token"], key, algorithms=[ask["alg"]], options={"verify_aud": False})
        print(json.dumps({"claims": claims}))
    except Exception as why:
        print(json.dumps({"error": type(why).__name__ + ": " + str(why)}))
"#;

/// One token to verify with a key set.
#[derive(Debug, Clone)]
pub struct AskWithKeys {
    /// The token.
    pub token: String,
    /// The algorithm that it must have.
    pub alg: String,
    /// Where the key set is fetched from; empty to take `keys`.
    pub uri: String,
    /// A key set that the verifier has kept.
    pub keys: String,
}

/// The same with keys that `PyJWKClient` fetches, or that were kept. `None`, with a notice, where Python has no PyJWT with `cryptography`,
/// which CI must have.
#[must_use]
pub fn verify_with_keys(asks: &[AskWithKeys]) -> Option<Vec<Result<Value, String>>> {
    let python = with_cryptography()?;
    let lines = asks
        .iter()
        .map(|ask| json!({"token": ask.token, "alg": ask.alg, "uri": ask.uri, "keys": ask.keys}));
    Some(run(&python, JWKS_SCRIPT, lines))
}

const STRICT_SCRIPT: &str = r#"
import json, sys, warnings, jwt
warnings.simplefilter("ignore")
clients = {}
for line in sys.stdin:
    ask = json.loads(line)
    try:
        client = clients.setdefault(ask["uri"], jwt.PyJWKClient(ask["uri"]))
        header = jwt.get_unverified_header(ask["token"])
        if header["alg"] != ask["alg"]:
            key = client.get_signing_keys()[0].key
        else:
            key = client.get_signing_key_from_jwt(ask["token"]).key
        claims = jwt.decode(ask["token"], key, algorithms=[ask["alg"]], audience=ask["audience"], issuer=ask["issuer"])
        print(json.dumps({"claims": claims}))
    except Exception as why:
        print(json.dumps({"error": type(why).__name__}))
"#;

/// One token to verify as a careful application does.
#[derive(Debug, Clone)]
pub struct AskStrictly {
    /// The token.
    pub token: String,
    /// The algorithm that it must have.
    pub alg: String,
    /// Where the key set is fetched from.
    pub uri: String,
    /// Whom it must be meant for.
    pub audience: String,
    /// Whom it must be from.
    pub issuer: String,
}

/// The claims of each token, or the name of the error that PyJWT raised, with everything checked that can be. `None`, with a notice, where
/// Python has no PyJWT with `cryptography`, which CI must have.
#[must_use]
pub fn verify_strictly(asks: &[AskStrictly]) -> Option<Vec<Result<Value, String>>> {
    let python = with_cryptography()?;
    let lines = asks.iter().map(|ask| {
        json!({"token": ask.token, "alg": ask.alg, "uri": ask.uri, "audience": ask.audience, "issuer": ask.issuer})
    });
    Some(run(&python, STRICT_SCRIPT, lines))
}

/// The Python to run, if it has what fetching keys needs.
fn with_cryptography() -> Option<String> {
    let python = std::env::var("COUNTERSIGN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_it = Command::new(&python)
        .args(["-c", "import jwt, cryptography"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_it {
        assert!(std::env::var_os("CI").is_none(), "CI needs PyJWT and cryptography");
        notice(&format!("{python} has no PyJWT with cryptography, no key set is fetched with it"));
    }
    has_it.then_some(python)
}

/// The Python that has this module; `None` where none has, which CI must have.
#[must_use]
pub fn with(module: &str) -> Option<String> {
    let python = std::env::var("COUNTERSIGN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_it = Command::new(&python)
        .args(["-c", &format!("import {module}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    assert!(has_it || std::env::var_os("CI").is_none(), "CI needs the Python module {module}");
    has_it.then_some(python)
}

/// Runs a script that answers each line of JSON with a line.
fn run(
    python: &str,
    script: &str,
    asks: impl Iterator<Item = Value>,
) -> Vec<Result<Value, String>> {
    let asks: Vec<Value> = asks.collect();
    let mut child = Command::new(python)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut stdin = child.stdin.take().expect("piped");
    let lines: String = asks.iter().map(|ask| format!("{ask}\n")).collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let out = child.wait_with_output().expect("python ends");
    writer.join().expect("the writer ends").expect("python reads");
    let answers = String::from_utf8(out.stdout).expect("JSON is UTF-8");
    let answers: Vec<_> = answers
        .lines()
        .map(|line| {
            let answer: Value = serde_json::from_str(line).expect("a line is JSON");
            match answer.get("claims") {
                Some(claims) => Ok(claims.clone()),
                None => {
                    Err(answer.get("error").and_then(Value::as_str).unwrap_or_default().to_owned())
                }
            }
        })
        .collect();
    assert_eq!(answers.len(), asks.len(), "an answer to each");
    answers
}
