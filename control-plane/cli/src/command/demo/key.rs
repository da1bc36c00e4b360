//! The key that the demo makes, and what its public half says about tokens.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::Value;

use super::token::Token;
use crate::failure::Failure;

/// A key pair whose private half lies in a secret directory.
pub(super) struct DemoKey {
    path: PathBuf,
    public: DecodingKey,
}

impl DemoKey {
    /// Makes an RSA-2048 key at `jwt-demo/tls.key` below the secret directory.
    pub(super) fn generate(secrets: &Path) -> Result<Self, Failure> {
        let failed = || Failure::failed("cannot make an RSA key");
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| failed())?;
        let private: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| failed())?;
        let path = secrets.join("jwt-demo").join("tls.key");
        let written = fs::create_dir_all(secrets.join("jwt-demo"))
            .and_then(|()| write_private(&path, &pem(private.as_ref())));
        written.map_err(|source| Failure::io(format!("write {}", path.display()), source))?;
        Ok(Self { path, public: DecodingKey::from_rsa_der(pair.public_key().as_ref()) })
    }

    /// Where the private key lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a client that trusts this key takes the token: its JWS signature and its times.
    pub(super) fn accepts(&self, token: &Token) -> bool {
        let mut validation = validation();
        validation.leeway = 5;
        decode::<Value>(token.text(), &self.public, &validation).is_ok()
    }

    /// Whether the key made the token's JWS signature, whatever its times are.
    pub(super) fn verifies(&self, token: &Token) -> bool {
        let mut validation = validation();
        validation.validate_exp = false;
        decode::<Value>(token.text(), &self.public, &validation).is_ok()
    }
}

fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_aud = false;
    validation
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    for (at, c) in base64.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem.push_str("\n-----END PRIVATE KEY-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use countersign_engine::jwt::key::SigningKey;

    use super::*;

    #[test]
    fn the_file_is_a_key_that_the_engine_takes() {
        let root = tempfile::tempdir().unwrap();
        let key = DemoKey::generate(root.path()).unwrap();
        let text = fs::read(key.path()).unwrap();
        assert_eq!(SigningKey::parse(&text).unwrap().kind(), "RSA 2048");
        assert!(text.split(|byte| *byte == b'\n').all(|line| line.len() <= 64));
    }
}
