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
    let mut child = Command::new(&python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut stdin = child.stdin.take().expect("piped");
    let lines: String = asks
        .iter()
        .map(|ask| format!("{}\n", json!({"token": ask.token, "key": ask.key, "alg": ask.alg})))
        .collect();
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
