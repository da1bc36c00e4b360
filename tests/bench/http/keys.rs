//! Keys of every algorithm, signing with nothing but aws-lc-rs, and tokens verified with the public half.

use std::{fs, path::Path};

use anyhow::Context as _;
use aws_lc_rs::{
    encoding::AsDer as _,
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
        UnparsedPublicKey, VerificationAlgorithm,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::ask::subject;

/// What signs, parsed once.
pub(crate) enum Signer {
    Rsa(Box<RsaKeyPair>, SystemRandom),
    Ecdsa(Box<EcdsaKeyPair>, SystemRandom),
    Ed25519(Box<Ed25519KeyPair>),
    Hmac(Box<hmac::Key>),
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Signer")
    }
}

fn failed<E>(_: E) -> anyhow::Error {
    anyhow::anyhow!("aws-lc-rs refused a key, a signature or to make one")
}

/// Makes a key of each algorithm as a secret.
pub(crate) fn write(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    let rng = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
    let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().map_err(failed)?;
    fs::write(dir.join("rs256"), pkcs8.as_ref())?;
    let ecdsa = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng);
    fs::write(dir.join("es256"), ecdsa.map_err(failed)?.as_ref())?;
    fs::write(dir.join("eddsa"), Ed25519KeyPair::generate_pkcs8(&rng).map_err(failed)?.as_ref())?;
    fs::write(dir.join("hs256"), [7; 64])?;
    Ok(())
}

impl Signer {
    /// Of a key file that was made here.
    pub(crate) fn new(alg: &str, key: &[u8]) -> anyhow::Result<Self> {
        Ok(match alg {
            "RS256" => Self::Rsa(
                Box::new(RsaKeyPair::from_pkcs8(key).map_err(failed)?),
                SystemRandom::new(),
            ),
            "ES256" => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key);
                Self::Ecdsa(Box::new(pair.map_err(failed)?), SystemRandom::new())
            }
            "EdDSA" => Self::Ed25519(Box::new(Ed25519KeyPair::from_pkcs8(key).map_err(failed)?)),
            "HS256" => Self::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, key))),
            other => anyhow::bail!("{other} is not measured"),
        })
    }

    /// Signs.
    pub(crate) fn sign(&self, input: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(match self {
            Self::Rsa(key, rng) => {
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, rng, input, &mut out).map_err(failed)?;
                out
            }
            Self::Ecdsa(key, rng) => key.sign(rng, input).map_err(failed)?.as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(input).as_ref().to_vec(),
            Self::Hmac(key) => hmac::sign(key, input).as_ref().to_vec(),
        })
    }

    fn verify(&self, input: &[u8], signature: &[u8]) -> anyhow::Result<()> {
        let public = |alg: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(alg, key.to_vec()).verify(input, signature).map_err(failed)
        };
        match self {
            Self::Rsa(key, _) => public(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref()),
            Self::Ecdsa(key, _) => public(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref()),
            Self::Ed25519(key) => public(&ED25519, key.public_key().as_ref()),
            Self::Hmac(key) => hmac::verify(key, input, signature).map_err(failed),
        }
    }
}

/// Whether a body holds the token of this target, signed by this key less than some seconds ago; RSA ones may be a minute old.
pub(crate) fn verify(
    alg: &str,
    key: &[u8],
    lifetime: i64,
    nth: usize,
    body: &[u8],
) -> anyhow::Result<()> {
    let body: Value = serde_json::from_slice(body)?;
    let token = body.get("access_token").and_then(Value::as_str).context("an access_token")?;
    let (input, signature) = token.rsplit_once('.').context("a JWS signature")?;
    let signature = URL_SAFE_NO_PAD.decode(signature)?;
    Signer::new(alg, key)?.verify(input.as_bytes(), &signature).context("it does not verify")?;
    let claims = input.rsplit_once('.').context("claims")?.1;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    let number = |name: &str| claims.get(name).and_then(Value::as_i64).unwrap_or_default();
    let age = harness::now() - number("iat");
    let oldest = if alg.starts_with("RS") { 65 } else { 10 };
    anyhow::ensure!((-1..=oldest).contains(&age), "it was issued {age} s ago");
    anyhow::ensure!(number("exp") - number("iat") == lifetime, "its lifetime is another");
    let whose = claims.get("sub").and_then(Value::as_str);
    anyhow::ensure!(whose == Some(&subject(nth)), "it is the token of {whose:?}");
    Ok(())
}
