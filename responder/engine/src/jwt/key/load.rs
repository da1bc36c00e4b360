//! Reading key files, and saying what is wrong with one.
//!
//! An HMAC secret is whatever is left: bytes that are another kind of key in any wrapping, or a damaged one, are refused by name.

use aws_lc_rs::{
    hmac,
    signature::{EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair},
};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use super::{
    KeyError, Mac, Material, SigningKey,
    der::{self, Shape},
    private_jwk,
    section::{Section, sections},
};

const EASY: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
/// Base64 as people and programs write it.
const ALPHABETS: [GeneralPurpose; 2] = [
    GeneralPurpose::new(&alphabet::STANDARD, EASY),
    GeneralPurpose::new(&alphabet::URL_SAFE, EASY),
];
const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 8192;
/// Enough primes to tell keys that one library made from a power of 65537 (CVE-2017-15361), and can be factored, from all others.
const ROCA_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

pub(super) fn load(bytes: &[u8]) -> Result<SigningKey, KeyError> {
    let plain = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if private_jwk::is_meant(plain.trim_ascii()) {
        return private_jwk::read(plain.trim_ascii());
    }
    material(bytes, plain).map(|material| SigningKey { material, only: None, is_plain: true })
}

fn material(bytes: &[u8], plain: &[u8]) -> Result<Material, KeyError> {
    if bytes.is_empty() {
        return Err(KeyError::Weak("the key file is empty"));
    }
    if holds(plain, b"-----BEGIN ") {
        return pem(plain);
    }
    refuse_other_wrappings(plain.trim_ascii())?;
    if der::shape(bytes).is_some() {
        return asymmetric(bytes);
    }
    if der::is_sequence(bytes) {
        return Err(KeyError::Malformed("it is DER, but no private key that can be used"));
    }
    Ok(hmac_secret(bytes))
}

pub(super) fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A line feed that an editor put at the end of a text is kept and remembered; at the end of random bytes it is one of them.
fn hmac_secret(bytes: &[u8]) -> Material {
    let trimmed = bytes
        .strip_suffix(b"\n")
        .filter(|_| std::str::from_utf8(bytes).is_ok())
        .map(|line| Box::new(Mac::new(line.strip_suffix(b"\r").unwrap_or(line))));
    Material::Hmac { exact: Box::new(Mac::new(bytes)), trimmed }
}

impl Mac {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self {
            length: secret.len(),
            keys: [hmac::HMAC_SHA256, hmac::HMAC_SHA384, hmac::HMAC_SHA512]
                .map(|alg| hmac::Key::new(alg, secret)),
        }
    }
}

/// Refuses keys that are neither PEM nor DER, and those whose wrapping was lost or doubled on the way.
fn refuse_other_wrappings(bytes: &[u8]) -> Result<(), KeyError> {
    let begins = |starts: &[&[u8]]| starts.iter().any(|start| bytes.starts_with(start));
    if begins(&[b"ssh-", b"sk-ssh-", b"sk-ecdsa-", b"ecdsa-sha2-", b"---- BEGIN SSH2 PUBLIC KEY"]) {
        return Err(KeyError::Public);
    }
    if begins(&[b"openssh-key-v1\0"]) {
        return Err(KeyError::OpenSsh);
    }
    if begins(&[b"PuTTY-User-Key-File-"]) {
        return Err(KeyError::Malformed("it is a PuTTY key; export it as PEM"));
    }
    if begins(&[b"\xff\xfe-\0", b"\xfe\xff\0-", b"-\0-\0-\0", b"\0-\0-\0-"]) {
        return Err(KeyError::Malformed("it is PEM in UTF-16; save it as UTF-8"));
    }
    const TWICE: KeyError = KeyError::Malformed(
        "it looks base64-encoded twice; in a Kubernetes secret encode it once under `data`, or not at all under `stringData`",
    );
    // `-----BEGIN ` in base64.
    if begins(&[b"LS0tLS1CRUdJTi"]) {
        return Err(TWICE);
    }
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len()));
    text.extend(bytes.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let inner = decoded(&text);
    if private_jwk::is_meant(inner.trim_ascii()) {
        return Err(TWICE);
    }
    if der::is_sequence(&inner) || der::shape(&inner).is_some() {
        return Err(KeyError::Malformed(
            "it is the inside of a PEM file; the BEGIN and END lines are missing",
        ));
    }
    Ok(())
}

/// What a text means in base64, of either alphabet; nothing when it is none.
fn decoded(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut inner = Zeroizing::new(vec![0; text.len()]);
    let length = ALPHABETS.iter().find_map(|engine| engine.decode_slice(text, &mut inner).ok());
    inner.truncate(length.unwrap_or_default());
    inner
}

/// The one private key of a PEM file. Certificates beside it do not matter, nor does a block of EC parameters.
fn pem(text: &[u8]) -> Result<Material, KeyError> {
    if holds(text, b"ENCRYPTED PRIVATE KEY-----") || holds(text, b"Proc-Type: 4,ENCRYPTED") {
        return Err(KeyError::Encrypted);
    }
    if holds(text, b"OPENSSH PRIVATE KEY-----") {
        return Err(KeyError::OpenSsh);
    }
    let mut private = Vec::new();
    let all = sections(text).ok_or(KeyError::Malformed("the PEM is cut short or garbled"))?;
    let (mut certificate, mut public) = (false, false);
    for section in all {
        match section {
            Section::Private(der) => private.push(der),
            Section::Certificate => certificate = true,
            Section::PublicKey => public = true,
            Section::Other => {}
        }
    }
    match private.as_slice() {
        [der] if nothing_follows(text) => asymmetric(der),
        [_] => Err(KeyError::Malformed("something follows the last END line")),
        [] if certificate => Err(KeyError::Certificate),
        [] if public || holds(text, b"RSA PUBLIC KEY-----") => Err(KeyError::Public),
        [] if holds(text, b"PRIVATE KEY-----") => {
            Err(KeyError::Malformed("the PEM is cut short or garbled"))
        }
        [] => Err(KeyError::Malformed("there is no private key in the PEM")),
        several => Err(KeyError::Ambiguous(several.len())),
    }
}

/// Whether the file ends with its last END line: what comes after may be the half of another key.
fn nothing_follows(text: &[u8]) -> bool {
    let last = text.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let last = last.trim_ascii();
    last.starts_with(b"-----END ") && last.ends_with(b"-----")
}

/// A private key from its DER: PKCS#8, PKCS#1 or SEC1.
fn asymmetric(document: &[u8]) -> Result<Material, KeyError> {
    let (shape, trailing) = der::shape(document).ok_or(KeyError::Malformed(
        "it is no RSA, EC (P-256, P-384, P-521) or Ed25519 private key",
    ))?;
    if !trailing.is_empty() {
        return Err(KeyError::Malformed("something follows the key"));
    }
    match shape {
        Shape::Rsa { pkcs1, pss_only } => rsa(pkcs1, pss_only),
        Shape::Ec(curve) => EcdsaKeyPair::from_private_key_der(curve.signing(), document)
            .map(|pair| Material::Ec(curve, Box::new(pair)))
            .map_err(|_| KeyError::Inconsistent("EC")),
        Shape::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(document)
            .map(|pair| Material::Ed25519(Box::new(pair)))
            .map_err(|_| KeyError::Inconsistent("Ed25519")),
        Shape::Other(kind) => Err(KeyError::Unsupported(kind)),
        Shape::Public => Err(KeyError::Public),
        Shape::Certificate => Err(KeyError::Certificate),
        Shape::Encrypted => Err(KeyError::Encrypted),
    }
}

fn rsa(pkcs1: &[u8], pss_only: bool) -> Result<Material, KeyError> {
    let (modulus, exponent) =
        der::rsa_numbers(pkcs1).ok_or(KeyError::Malformed("its RSA numbers are garbled"))?;
    let bits = judge_rsa(modulus, exponent)?;
    let pair = RsaKeyPair::from_der(pkcs1).map_err(|_| KeyError::Inconsistent("RSA"))?;
    Ok(Material::Rsa { pair: Box::new(pair), bits, pss_only })
}

/// Judges sizes before the numbers are checked, for checking a huge key takes long; how many bits the key has. Neither number has leading zeros.
pub(super) fn judge_rsa(modulus: &[u8], exponent: &[u8]) -> Result<usize, KeyError> {
    let bits = der::bits(modulus);
    if bits < MIN_RSA_BITS {
        return Err(KeyError::Weak("the RSA key is shorter than 2048 bits"));
    }
    if bits > MAX_RSA_BITS {
        return Err(KeyError::TooLarge(bits));
    }
    if matches!(exponent, [] | [0..=2]) {
        return Err(KeyError::Weak("the public exponent of the RSA key is below 3"));
    }
    if is_roca(modulus) {
        return Err(KeyError::Weak(
            "the RSA key was made by a library whose keys can be factored (ROCA); make a new one",
        ));
    }
    Ok(bits)
}

/// Whether a modulus is a power of 65537 modulo each of many primes, which is chance for one of 2²⁷ good keys.
fn is_roca(modulus: &[u8]) -> bool {
    ROCA_PRIMES.iter().all(|prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * 65_537 % prime;
            power == rest
        })
    })
}
