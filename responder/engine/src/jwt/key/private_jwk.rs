//! Private keys as JWKs (RFC 7517; RFC 7518, section 6; RFC 8037, section 2), alone or as the one private key of a set.
//!
//! Members are borrowed from the file and decoded into memory that is cleared, so that no copy of a private number stays behind. A member that
//! stands twice, or is spelled with escapes, is refused: two readers of such a file could see two keys. So is whatever looks like a part of a JWK: as an
//! HMAC secret it would sign what nobody verifies, and be told where a template asks for its text.

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
    "it is JSON, but no sound JWK: it is whole, and each member stands once, as text without escapes",
);
/// Whoever reads such a set may take one for the other, or publish it.
const MIXED: KeyError = KeyError::Malformed(
    "the key set has an HMAC secret beside public keys; give the secret a file of its own",
);
/// Members of JWKs and of their sets.
const MEMBERS: [&str; 17] = [
    "alg", "crv", "d", "dp", "dq", "e", "k", "key_ops", "keys", "kid", "kty", "n", "oth", "p", "q",
    "qi", "use",
];

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
    r#priv: Option<IgnoredAny>,
}

/// Whether a text is meant as JSON, or is a part of a JWK, in whatever encoding.
pub(super) fn is_meant(text: &[u8]) -> bool {
    let is_json = || text.starts_with(b"{") || text.starts_with(b"[");
    if is_json() && serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        return true;
    }
    // Without what UTF-16, a text within a text, and people put in between.
    let mut bare = Zeroizing::new(Vec::with_capacity(text.len()));
    bare.extend(
        text.iter().filter(|byte| !matches!(byte, 0 | b'\\' | b' ' | b'\t' | b'\r' | b'\n')),
    );
    let inner = bare.iter().rposition(|byte| !matches!(byte, b']' | b'}'));
    let ends = inner.is_some_and(|at| at + 1 < bare.len() && bare.get(at) == Some(&b'"'));
    bare.starts_with(b"{\"") || ends || names(&bare)
}

/// Whether a member of a JWK is named in it.
fn names(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| *byte == b'"');
    let mut name = parts.next().unwrap_or_default();
    parts.any(|part| {
        let is_name = part.starts_with(b":") && MEMBERS.iter().any(|it| name == it.as_bytes());
        name = part;
        is_name
    })
}

pub(super) fn read(text: &[u8]) -> Result<SigningKey, KeyError> {
    // Nothing has to be unfolded then, and so copied.
    if text.contains(&b'\\') {
        return Err(UNSOUND);
    }
    if let Ok(jwk) = serde_json::from_slice::<Jwk<'_>>(text) {
        return if jwk.is_private() { jwk.key() } else { Err(KeyError::Public) };
    }
    let set: Set<'_> = serde_json::from_slice(text).map_err(|_| UNSOUND)?;
    let private: Vec<&Jwk<'_>> = set.keys.iter().filter(|jwk| jwk.is_private()).collect();
    match private.as_slice() {
        [jwk] if jwk.kty == "oct" && set.keys.len() > 1 => Err(MIXED),
        [jwk] => jwk.key(),
        [] => Err(KeyError::Public),
        several => Err(KeyError::Ambiguous(several.len())),
    }
}

impl Jwk<'_> {
    fn is_private(&self) -> bool {
        let numbers = [self.d, self.p, self.q, self.dp, self.dq, self.qi, self.k];
        numbers.iter().any(Option::is_some) || self.oth.is_some() || self.r#priv.is_some()
    }

    fn key(&self) -> Result<SigningKey, KeyError> {
        let is_for_signing = self.usage.is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.contains(&"sign"));
        if !is_for_signing {
            return Err(KeyError::Unsupported("JWK that is not for signing"));
        }
        let parse = |alg| Alg::parse(alg).ok_or(KeyError::Unsupported("JWK with another `alg`"));
        let only = self.alg.map(parse).transpose()?;
        let key = SigningKey { material: self.material()?, only: None, is_plain: false };
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
        let [d, p, q, dp, dq, qi] = [self.d, self.p, self.q, self.dp, self.dq, self.qi].map(bytes);
        let (d, p, q, dp, dq, qi) = (d?, p?, q?, dp?, dq?, qi?);
        // Larger ones would take long to be found wrong.
        if [&d, &p, &q, &dp, &dq, &qi].iter().any(|number| number.len() > modulus.len()) {
            return Err(KeyError::Inconsistent("RSA"));
        }
        let pair = RsaKeyPair::from_components(&KeyPairComponents {
            public_key: PublicKeyComponents { n, e },
            d: d.as_slice(),
            p: p.as_slice(),
            q: q.as_slice(),
            dP: dp.as_slice(),
            dQ: dq.as_slice(),
            qInv: qi.as_slice(),
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
