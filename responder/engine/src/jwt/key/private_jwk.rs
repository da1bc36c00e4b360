//! Private keys as JWKs (RFC 7517; RFC 7518, section 6; RFC 8037, section 2), alone or as the one private key of a set.
//!
//! Members are borrowed from the file and decoded into memory that is cleared, so that no copy of a private number stays behind. A member that
//! stands twice, or is spelled with escapes, is refused: two readers of such a file could see two keys.

use aws_lc_rs::{
    rsa::{KeyPairComponents, PublicKeyComponents},
    signature::{EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};
use zeroize::Zeroizing;

use super::{Curve, KeyError, Mac, Material, SigningKey, der, load};
use crate::jwt::alg::Alg;

const UNSOUND: KeyError = KeyError::Malformed(
    "it is a JWK, but no sound one: each member stands once, and is text without escapes",
);

#[derive(Deserialize)]
struct Set<'d> {
    #[serde(borrow)]
    keys: Vec<Jwk<'d>>,
}

#[derive(Deserialize)]
struct Jwk<'d> {
    #[serde(borrow)]
    kty: &'d str,
    #[serde(borrow, rename = "use")]
    usage: Option<&'d str>,
    #[serde(borrow)]
    key_ops: Option<Vec<&'d str>>,
    #[serde(borrow)]
    alg: Option<&'d str>,
    #[serde(borrow)]
    crv: Option<&'d str>,
    #[serde(borrow)]
    x: Option<&'d str>,
    #[serde(borrow)]
    y: Option<&'d str>,
    #[serde(borrow)]
    n: Option<&'d str>,
    #[serde(borrow)]
    e: Option<&'d str>,
    #[serde(borrow)]
    d: Option<&'d str>,
    #[serde(borrow)]
    p: Option<&'d str>,
    #[serde(borrow)]
    q: Option<&'d str>,
    #[serde(borrow)]
    dp: Option<&'d str>,
    #[serde(borrow)]
    dq: Option<&'d str>,
    #[serde(borrow)]
    qi: Option<&'d str>,
    #[serde(borrow)]
    k: Option<&'d str>,
    oth: Option<IgnoredAny>,
}

/// Whether a text is meant as a JWK or a set of them, sound or not: as an HMAC secret it would sign what nobody verifies.
pub(super) fn is_meant(text: &[u8]) -> bool {
    text.starts_with(b"{")
        && [&b"\"kty\""[..], b"\"keys\""].iter().any(|name| load::holds(text, name))
}

pub(super) fn read(text: &[u8]) -> Result<SigningKey, KeyError> {
    if let Ok(jwk) = serde_json::from_slice::<Jwk<'_>>(text) {
        return if jwk.is_private() { jwk.key() } else { Err(KeyError::Public) };
    }
    let set: Set<'_> = serde_json::from_slice(text).map_err(|_| UNSOUND)?;
    let private: Vec<&Jwk<'_>> = set.keys.iter().filter(|jwk| jwk.is_private()).collect();
    match private.as_slice() {
        [jwk] => jwk.key(),
        [] => Err(KeyError::Public),
        several => Err(KeyError::Ambiguous(several.len())),
    }
}

impl Jwk<'_> {
    fn is_private(&self) -> bool {
        if self.kty == "oct" { self.k.is_some() } else { self.d.is_some() }
    }

    fn key(&self) -> Result<SigningKey, KeyError> {
        let is_for_signing = self.usage.is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.contains(&"sign"));
        if !is_for_signing {
            return Err(KeyError::Unsupported("JWK that is not for signing"));
        }
        let parse = |alg| Alg::parse(alg).ok_or(KeyError::Unsupported("JWK with another `alg`"));
        let only = self.alg.map(parse).transpose()?;
        let key = SigningKey { material: self.material()?, only: None };
        match only {
            Some(alg) if key.can_sign(alg).is_err() => Err(KeyError::Inconsistent("JWK's")),
            _ => Ok(SigningKey { only, ..key }),
        }
    }

    fn material(&self) -> Result<Material, KeyError> {
        match (self.kty, self.crv) {
            ("oct", _) => {
                let secret = bytes(self.k)?;
                if secret.is_empty() {
                    return Err(KeyError::Weak("the HMAC secret in the JWK is empty"));
                }
                Ok(Material::Hmac { exact: Box::new(Mac::new(&secret)), trimmed: None })
            }
            ("RSA", _) if self.oth.is_some() => {
                Err(KeyError::Unsupported("RSA with more than two primes"))
            }
            ("RSA", _) => self.rsa(),
            ("EC", Some("P-256")) => self.ec(Curve::P256),
            ("EC", Some("P-384")) => self.ec(Curve::P384),
            ("EC", Some("P-521")) => self.ec(Curve::P521),
            ("EC", Some("secp256k1")) => Err(KeyError::Unsupported("EC secp256k1")),
            ("EC", Some(_)) => {
                Err(KeyError::Unsupported("EC on another curve than P-256, P-384 and P-521"))
            }
            ("OKP", Some("Ed25519")) => {
                Ed25519KeyPair::from_seed_and_public_key(&bytes(self.d)?, &bytes(self.x)?)
                    .map(|pair| Material::Ed25519(Box::new(pair)))
                    .map_err(|_| KeyError::Inconsistent("Ed25519"))
            }
            ("OKP", Some(_)) => Err(KeyError::Unsupported("OKP on another curve than Ed25519")),
            ("EC" | "OKP", None) => Err(KeyError::Malformed("the JWK has no `crv`")),
            _ => Err(KeyError::Unsupported("JWK of another `kty`")),
        }
    }

    fn rsa(&self) -> Result<Material, KeyError> {
        let (modulus, exponent) = (bytes(self.n)?, bytes(self.e)?);
        let (n, e) = (der::without_zeros(&modulus), der::without_zeros(&exponent));
        let bits = load::judge_rsa(n, e)?;
        let pair = RsaKeyPair::from_components(&KeyPairComponents {
            public_key: PublicKeyComponents { n, e },
            d: bytes(self.d)?.as_slice(),
            p: bytes(self.p)?.as_slice(),
            q: bytes(self.q)?.as_slice(),
            dP: bytes(self.dp)?.as_slice(),
            dQ: bytes(self.dq)?.as_slice(),
            qInv: bytes(self.qi)?.as_slice(),
        })
        .map_err(|_| KeyError::Inconsistent("RSA"))?;
        Ok(Material::Rsa { pair: Box::new(pair), bits, pss_only: false })
    }

    fn ec(&self, curve: Curve) -> Result<Material, KeyError> {
        let (x, y, private) = (bytes(self.x)?, bytes(self.y)?, bytes(self.d)?);
        // Their length is fixed (RFC 7518, sections 6.2.1.2 and 6.2.2.1).
        if [&x, &y, &private].iter().any(|number| number.len() != curve.size()) {
            return Err(KeyError::Malformed(
                "a number of the JWK is shorter or longer than its curve asks",
            ));
        }
        let point = [&[4_u8], x.as_slice(), y.as_slice()].concat();
        EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &private, &point)
            .map(|pair| Material::Ec(curve, Box::new(pair)))
            .map_err(|_| KeyError::Inconsistent("EC"))
    }
}

/// What a member says in base64url, without padding (RFC 7515, section 2).
fn bytes(member: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = member.ok_or(KeyError::Malformed(
        "a member of the JWK is missing; RSA needs n, e, d, p, q, dp, dq and qi, EC crv, x, y and d, Ed25519 crv, x and d, HMAC k",
    ))?;
    let mut decoded = Zeroizing::new(vec![0; text.len()]);
    let length = URL_SAFE_NO_PAD
        .decode_slice(text, &mut decoded)
        .map_err(|_| KeyError::Malformed("a member of the JWK is not base64url without padding"))?;
    decoded.truncate(length);
    Ok(decoded)
}
