//! Key pairs for SUTs that verify by a key set and need no key of anybody's.
//!
//! A secret is created or it is there already; it is never read, so that the operator needs no right to.

use std::collections::BTreeMap;

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::{ByteString, api::core::v1::Secret};

use crate::{
    crd::KeyAlgorithm,
    desired::{MANAGER, REPLAY},
    plan::Plan,
};

/// A key cannot be made, which happens when the system has no randomness.
#[derive(Debug, thiserror::Error)]
#[error("no key could be made")]
pub struct KeyError;

/// The secret with a private key for each key that the chains name, all of one algorithm.
///
/// # Errors
/// When no key can be made.
pub fn secret(
    plan: &Plan,
    name: &str,
    keys: &[String],
    algorithm: KeyAlgorithm,
) -> Result<Secret, KeyError> {
    let mut data = BTreeMap::new();
    for key in keys {
        data.insert(key.clone(), ByteString(pem(&private_key(algorithm)?).into_bytes()));
    }
    let labels = [(REPLAY, plan.object.as_str()), ("app.kubernetes.io/managed-by", MANAGER)];
    let mut secret =
        Secret { data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.namespace = Some(plan.namespace.clone());
    secret.metadata.labels =
        Some(labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into());
    secret.metadata.owner_references = plan.owner.clone().map(|owner| vec![owner]);
    Ok(secret)
}

/// PKCS#8, DER.
fn private_key(algorithm: KeyAlgorithm) -> Result<Vec<u8>, KeyError> {
    let random = SystemRandom::new();
    let elliptic = |curve: &'static EcdsaSigningAlgorithm| {
        EcdsaKeyPair::generate_pkcs8(curve, &random).map(|key| key.as_ref().to_vec())
    };
    let made = match algorithm {
        KeyAlgorithm::RS256 => RsaKeyPair::generate(KeySize::Rsa2048).and_then(|key| {
            let der: Pkcs8V1Der<'_> = key.as_der()?;
            Ok(der.as_ref().to_vec())
        }),
        KeyAlgorithm::ES256 => elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING),
        KeyAlgorithm::ES384 => elliptic(&ECDSA_P384_SHA384_FIXED_SIGNING),
        KeyAlgorithm::ES512 => elliptic(&ECDSA_P521_SHA512_FIXED_SIGNING),
        KeyAlgorithm::EdDSA => {
            Ed25519KeyPair::generate_pkcs8v1(&random).map(|key| key.as_ref().to_vec())
        }
    };
    made.map_err(|_| KeyError)
}

/// RFC 7468.
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    let mut rest = text.as_str();
    while let Some((line, more)) =
        rest.split_at_checked(rest.len().min(64)).filter(|(line, _)| !line.is_empty())
    {
        lines.push_str(line);
        lines.push('\n');
        rest = more;
    }
    lines.push_str("-----END PRIVATE KEY-----\n");
    lines
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};

    use super::*;
    use crate::{
        plan::tests::{facts, replay},
        settings::tests::settings,
    };

    #[test]
    fn keys_can_be_used_by_others_and_belong_to_the_replay() {
        let asked = replay(&serde_json::json!({ "generateKey": "ES256" }));
        let plan = Plan::new(&asked, &facts(r#"{"id":"a"}"#), &settings(&[]));
        let names = ["tls.key".to_owned(), "other.pem".to_owned()];
        // P-521 signs no TLS of rustls, so it is not asked.
        for algorithm in
            [KeyAlgorithm::RS256, KeyAlgorithm::ES256, KeyAlgorithm::ES384, KeyAlgorithm::EdDSA]
        {
            let secret = secret(&plan, "from-chain", &names, algorithm).unwrap();
            assert_eq!(secret.metadata.owner_references.as_ref().unwrap()[0].uid, "u-1");
            let data = secret.data.unwrap();
            assert_ne!(data["tls.key"], data["other.pem"]);
            for text in data.values() {
                let key = PrivateKeyDer::from_pem_slice(&text.0).unwrap();
                rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
            }
        }
        assert!(secret(&plan, "s", &names, KeyAlgorithm::ES512).is_ok());
    }
}
