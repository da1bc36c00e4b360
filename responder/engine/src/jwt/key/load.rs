//! Reading key files, and saying what is wrong with one.

use aws_lc_rs::{
    error::KeyRejected,
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use zeroize::Zeroizing;

use super::{Curve, KeyError, Material};

const MAX_RSA_BITS: usize = 8192;

pub(super) fn load(bytes: &[u8]) -> Result<Material, KeyError> {
    if bytes.is_empty() {
        return Err(KeyError::Weak("the key file is empty"));
    }
    let plain = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if holds(plain, b"-----BEGIN ") {
        return pem(plain);
    }
    if plain.trim_ascii_start().starts_with(b"{") && holds(plain, b"\"kty\"") {
        return Err(KeyError::Jwk);
    }
    if [b"ssh-rsa ".as_slice(), b"ssh-ed25519 ", b"ecdsa-sha2-"]
        .iter()
        .any(|prefix| plain.starts_with(prefix))
    {
        return Err(KeyError::Public);
    }
    let unwrapped: Vec<u8> =
        plain.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if unwrapped.starts_with(b"LS0tLS1CRUdJTi")
        && STANDARD.decode(&unwrapped).is_ok_and(|inner| inner.starts_with(b"-----BEGIN "))
    {
        return Err(KeyError::Malformed("it is PEM encoded in base64 once more; decode it"));
    }
    if is_der(bytes) {
        return asymmetric(bytes).map_err(|why| match why {
            KeyError::Malformed(_) => {
                KeyError::Malformed("it is DER, but no private key that can be used")
            }
            other => other,
        });
    }
    Ok(Material::Hmac {
        keys: Box::new(
            [hmac::HMAC_SHA256, hmac::HMAC_SHA384, hmac::HMAC_SHA512]
                .map(|alg| hmac::Key::new(alg, bytes)),
        ),
        raw: Zeroizing::new(bytes.to_vec()),
    })
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Whether the bytes are one DER sequence, from the first to the last.
fn is_der(bytes: &[u8]) -> bool {
    let Some((0x30, rest)) = bytes.split_first().map(|(tag, rest)| (*tag, rest)) else {
        return false;
    };
    let Some((length, rest)) = rest.split_first() else { return false };
    match length {
        0..=0x7f => rest.len() == usize::from(*length),
        0x81..=0x84 => {
            let (digits, body) = rest.split_at(usize::from(length & 0x0f).min(rest.len()));
            digits.iter().fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit)) == body.len()
        }
        _ => false,
    }
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
    let mut seen = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) =
            section.map_err(|_| KeyError::Malformed("the PEM is cut short or garbled"))?;
        match kind {
            SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => {
                private.push(Zeroizing::new(der));
            }
            other => seen.push(other),
        }
    }
    match private.as_slice() {
        [der] => asymmetric(der),
        [] if seen.contains(&SectionKind::Certificate) => Err(KeyError::Certificate),
        [] if seen.contains(&SectionKind::PublicKey) || holds(text, b"RSA PUBLIC KEY-----") => {
            Err(KeyError::Public)
        }
        [] if holds(text, b"PRIVATE KEY-----") => {
            Err(KeyError::Malformed("the PEM is cut short or garbled"))
        }
        [] => Err(KeyError::Malformed("there is no private key in the PEM")),
        several => Err(KeyError::Ambiguous(several.len())),
    }
}

/// A private key from its DER: PKCS#8, PKCS#1 or SEC1.
fn asymmetric(der: &[u8]) -> Result<Material, KeyError> {
    let curves = [
        (Curve::P256, &ECDSA_P256_SHA256_FIXED_SIGNING),
        (Curve::P384, &ECDSA_P384_SHA384_FIXED_SIGNING),
        (Curve::P521, &ECDSA_P521_SHA512_FIXED_SIGNING),
    ];
    for (curve, alg) in curves {
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(alg, der) {
            return Ok(Material::Ec(curve, Box::new(pair)));
        }
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Ok(Material::Ed25519(Box::new(pair)));
    }
    let too_small = |why: &KeyRejected| why.to_string().contains("TooSmall");
    match RsaKeyPair::from_pkcs8(der)
        .or_else(|why| if too_small(&why) { Err(why) } else { RsaKeyPair::from_der(der) })
    {
        Ok(pair) => {
            let bits = pair.public_modulus_len() * 8;
            match bits {
                0..2048 => Err(KeyError::Weak("the RSA key is shorter than 2048 bits")),
                2048..=MAX_RSA_BITS => Ok(Material::Rsa(Box::new(pair))),
                _ => Err(KeyError::TooLarge(bits)),
            }
        }
        Err(why) if too_small(&why) => Err(KeyError::Weak("the RSA key is shorter than 2048 bits")),
        Err(_) => Err(KeyError::Malformed(
            "it is no RSA, EC (P-256, P-384, P-521) or Ed25519 private key, or its parts do not fit together",
        )),
    }
}
