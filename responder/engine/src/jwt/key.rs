//! Signing keys: parsed once, judged once, never printed.
//!
//! The key decides what it may sign; a token's `alg` only selects among that. So an HMAC secret that is in truth a PEM file is refused
//! rather than used as text, which is how key confusion begins.

mod der;
mod jwk;
mod load;
mod pem;
mod private_jwk;
mod public;
mod ring;
mod secret;
mod section;
mod verify;

use std::fmt;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
        KeyPair as _, RsaEncoding, RsaKeyPair,
    },
};

pub use self::{
    public::PublicKey,
    ring::{KeyEntry, KeyProblem, KeyRing},
    secret::{DEFAULT_SECRET_ROOT, SecretPathError, SecretRef},
};
use super::alg::Alg;

/// A key that signs.
pub struct SigningKey {
    material: Material,
    /// The one algorithm that its JWK lets it sign with.
    only: Option<Alg>,
    /// Whether it is not a JWK.
    is_plain: bool,
}

enum Material {
    Hmac { exact: Box<Mac>, trimmed: Option<Box<Mac>> },
    Rsa { pair: Box<RsaKeyPair>, bits: usize, pss_only: bool },
    Ec(Curve, Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// An HMAC secret, set up for each hash. The bytes themselves are not kept.
struct Mac {
    length: usize,
    keys: [hmac::Key; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum KeyError {
    #[error("a {kind} key cannot sign {alg}")]
    AlgMismatch { kind: String, alg: &'static str },
    #[error(
        "the file holds a certificate; the private key is needed, which in a TLS secret is named tls.key"
    )]
    Certificate,
    #[error("the file holds a public key; the private key is needed")]
    Public,
    #[error("the private key is encrypted; decrypt it, for example with `openssl pkey`")]
    Encrypted,
    #[error(
        "the file holds an OpenSSH key; convert it to PEM, for example with `ssh-keygen -p -m PEM`"
    )]
    OpenSsh,
    #[error("the key file is malformed: {0}")]
    Malformed(&'static str),
    #[error("the file holds {0} private keys; exactly one is needed")]
    Ambiguous(usize),
    #[error("the parts of the {0} key do not fit together")]
    Inconsistent(&'static str),
    #[error("a key of the kind {0} signs none of {names}", names = Alg::names())]
    Unsupported(&'static str),
    #[error("{alg} needs an RSA private key in PEM; the key is plain bytes, which fit HMAC only")]
    NotPrivateRsa { alg: &'static str },
    #[error("{0}")]
    Weak(&'static str),
    #[error("an RSA key of {0} bits is too large; 8192 is the most")]
    TooLarge(usize),
    #[error("the signature failed")]
    Sign,
}

impl KeyError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::AlgMismatch { .. } | Self::Unsupported(_) => "key_alg_mismatch",
            Self::NotPrivateRsa { .. } => "key_not_private_rsa",
            Self::Inconsistent(_) => "key_inconsistent",
            Self::Certificate => "key_is_certificate",
            Self::Public => "key_is_public",
            Self::Encrypted => "key_encrypted",
            Self::OpenSsh | Self::Malformed(_) => "key_malformed",
            Self::Ambiguous(_) => "key_ambiguous",
            Self::Weak(_) => "key_weak",
            Self::TooLarge(_) => "key_too_large",
            Self::Sign => "sign_failed",
        }
    }
}

impl SigningKey {
    /// Reads a key: PEM (PKCS#1, PKCS#8, SEC1), the DER of those, a JWK (RFC 7517), or else the raw bytes of an HMAC secret.
    ///
    /// # Errors
    /// When it is none of these, or too weak to be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        load::load(bytes)
    }

    /// What people call it: `HMAC`, `RSA 2048`, `EC P-256`, `Ed25519`.
    #[must_use]
    pub fn kind(&self) -> String {
        match &self.material {
            Material::Hmac { .. } => "HMAC".to_owned(),
            Material::Rsa { bits, pss_only: false, .. } => format!("RSA {bits}"),
            Material::Rsa { bits, pss_only: true, .. } => format!("RSA-PSS {bits}"),
            Material::Ec(curve, _) => format!("EC {}", curve.name()),
            Material::Ed25519(_) => "Ed25519".to_owned(),
        }
    }

    /// Whether it is an HMAC secret, which has no public part.
    #[must_use]
    pub fn is_hmac(&self) -> bool {
        matches!(self.material, Material::Hmac { .. })
    }

    /// Whether it is an HMAC secret that is what its file holds, byte for byte.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.is_hmac() && self.is_plain
    }

    /// About how many microseconds a signature takes.
    pub(crate) fn cost(&self) -> u32 {
        match &self.material {
            Material::Rsa { bits, .. } => match bits {
                ..=2048 => 900,
                ..=3072 => 2_600,
                ..=4096 => 5_800,
                _ => 40_000,
            },
            Material::Hmac { .. } => 2,
            Material::Ec(Curve::P256, _) => 25,
            Material::Ec(..) => 400,
            Material::Ed25519(_) => 15,
        }
    }

    /// Whether it signs with this algorithm.
    ///
    /// # Errors
    /// When it does not.
    pub fn can_sign(&self, alg: Alg) -> Result<(), KeyError> {
        if let Some(only) = self.only.filter(|only| *only != alg) {
            let kind = format!("{} ({} only)", self.kind(), only.as_str());
            return Err(KeyError::AlgMismatch { kind, alg: alg.as_str() });
        }
        let fits = match &self.material {
            Material::Hmac { .. } => matches!(alg, Alg::Hs256 | Alg::Hs384 | Alg::Hs512),
            Material::Rsa { pss_only, .. } => match alg {
                Alg::Rs256 | Alg::Rs384 | Alg::Rs512 => !pss_only,
                _ => is_rsa(alg),
            },
            Material::Ec(Curve::P256, _) => alg == Alg::Es256,
            Material::Ec(Curve::P384, _) => alg == Alg::Es384,
            Material::Ec(Curve::P521, _) => alg == Alg::Es512,
            Material::Ed25519(_) => alg == Alg::EdDsa,
        };
        match &self.material {
            _ if fits => Ok(()),
            Material::Hmac { .. } if is_rsa(alg) => {
                Err(KeyError::NotPrivateRsa { alg: alg.as_str() })
            }
            _ => Err(KeyError::AlgMismatch { kind: self.kind(), alg: alg.as_str() }),
        }
    }

    /// Whether it is an HMAC secret that is shorter than the hash (RFC 7518, section 3.2). `trimmed` leaves out a line feed at its end.
    #[must_use]
    pub fn is_short(&self, alg: Alg, trimmed: bool) -> bool {
        self.mac(trimmed).is_some_and(|mac| mac.is_short(alg))
    }

    /// The same in words.
    #[must_use]
    pub fn shortage(&self, alg: Alg, trimmed: bool) -> Option<String> {
        self.mac(trimmed).and_then(|mac| mac.shortage(alg))
    }

    fn mac(&self, without_line_feed: bool) -> Option<&Mac> {
        match &self.material {
            Material::Hmac { trimmed: Some(trimmed), .. } if without_line_feed => Some(trimmed),
            Material::Hmac { exact, .. } => Some(exact),
            _ => None,
        }
    }

    /// Why it is a poor choice for this algorithm, if it is.
    #[must_use]
    pub fn weakness(&self, alg: Alg) -> Option<String> {
        let Material::Hmac { exact, trimmed } = &self.material else { return None };
        let line_feed = trimmed.is_some().then(|| {
            "the HMAC secret ends in a line feed, which is part of it; write the file without one, or set `trim` to `trailing_newline`"
                .to_owned()
        });
        match (line_feed, exact.shortage(alg)) {
            (Some(line_feed), Some(short)) => Some(format!("{line_feed}; {short}")),
            (line_feed, short) => line_feed.or(short),
        }
    }

    /// Why it is a poor choice when the line feed at its end is left out.
    #[must_use]
    pub fn weakness_trimmed(&self, alg: Alg) -> Option<String> {
        match &self.material {
            Material::Hmac { trimmed: Some(trimmed), .. } => trimmed.shortage(alg),
            _ => self.weakness(alg),
        }
    }

    /// Signs a message and appends the raw JWS signature.
    ///
    /// # Errors
    /// When the key does not sign with this algorithm.
    pub fn sign(&self, alg: Alg, message: &[u8], out: &mut Vec<u8>) -> Result<(), KeyError> {
        self.can_sign(alg)?;
        match &self.material {
            Material::Hmac { exact, .. } => exact.sign(alg, message, out),
            Material::Rsa { pair, .. } => {
                let start = out.len();
                out.resize(start + pair.public_modulus_len(), 0);
                let room = out.get_mut(start..).unwrap_or_default();
                let signed = pair.sign(rsa_encoding(alg), &SystemRandom::new(), message, room);
                if signed.is_err() {
                    out.truncate(start);
                    return Err(KeyError::Sign);
                }
            }
            Material::Ec(_, pair) => {
                let signature =
                    pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Sign)?;
                out.extend_from_slice(signature.as_ref());
            }
            Material::Ed25519(pair) => {
                let signature = pair.try_sign(message).map_err(|_| KeyError::Sign)?;
                out.extend_from_slice(signature.as_ref());
            }
        }
        Ok(())
    }

    /// The same with an HMAC secret whose line feed at the end is left out; other keys have none.
    ///
    /// # Errors
    /// When the key does not sign with this algorithm, or nothing is left of the secret.
    pub fn sign_trimmed(
        &self,
        alg: Alg,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), KeyError> {
        let Material::Hmac { trimmed: Some(trimmed), .. } = &self.material else {
            return self.sign(alg, message, out);
        };
        self.can_sign(alg)?;
        if trimmed.length == 0 {
            return Err(KeyError::Weak("the key file holds a line feed and nothing else"));
        }
        trimmed.sign(alg, message, out);
        Ok(())
    }

    /// The public key as a JWK (RFC 7517); `None` for an HMAC secret, which has no public part.
    #[must_use]
    pub fn jwk(&self) -> Option<serde_json::Value> {
        jwk::of(self)
    }

    /// The thumbprint of the public key (RFC 7638, SHA-256, base64url); `None` for an HMAC secret, which could be guessed from it.
    #[must_use]
    pub fn thumbprint(&self) -> Option<String> {
        jwk::thumbprint(self)
    }

    fn rsa_public(&self) -> Option<&rsa::PublicKey> {
        if let Material::Rsa { pair, .. } = &self.material { Some(pair.public_key()) } else { None }
    }

    /// The uncompressed point and its curve.
    fn ec_public(&self) -> Option<(Curve, &[u8])> {
        if let Material::Ec(curve, pair) = &self.material {
            Some((*curve, pair.public_key().as_ref()))
        } else {
            None
        }
    }

    fn ed25519_public(&self) -> Option<&[u8]> {
        if let Material::Ed25519(pair) = &self.material {
            Some(pair.public_key().as_ref())
        } else {
            None
        }
    }
}

impl Mac {
    fn key(&self, alg: Alg) -> &hmac::Key {
        let [sha256, sha384, sha512] = &self.keys;
        match alg {
            Alg::Hs384 => sha384,
            Alg::Hs512 => sha512,
            _ => sha256,
        }
    }

    fn sign(&self, alg: Alg, message: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(hmac::sign(self.key(alg), message).as_ref());
    }

    fn is_short(&self, alg: Alg) -> bool {
        self.length < self.key(alg).algorithm().tag_len()
    }

    fn shortage(&self, alg: Alg) -> Option<String> {
        let wanted = self.key(alg).algorithm().tag_len();
        self.is_short(alg).then(|| {
            format!(
                "the HMAC secret has {} bytes, {} wants at least {wanted} (RFC 7518, section 3.2)",
                self.length,
                alg.as_str()
            )
        })
    }
}

impl Curve {
    fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// The size of a coordinate and of the private number, in bytes.
    fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }
}

fn is_rsa(alg: Alg) -> bool {
    matches!(alg, Alg::Rs256 | Alg::Rs384 | Alg::Rs512 | Alg::Ps256 | Alg::Ps384 | Alg::Ps512)
}

fn rsa_encoding(alg: Alg) -> &'static dyn RsaEncoding {
    match alg {
        Alg::Rs384 => &signature::RSA_PKCS1_SHA384,
        Alg::Rs512 => &signature::RSA_PKCS1_SHA512,
        Alg::Ps256 => &signature::RSA_PSS_SHA256,
        Alg::Ps384 => &signature::RSA_PSS_SHA384,
        Alg::Ps512 => &signature::RSA_PSS_SHA512,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.kind())
    }
}

#[cfg(test)]
mod tests;
