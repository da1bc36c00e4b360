//! As much DER as it takes to tell what a key file holds.
//!
//! The keys themselves are read by aws-lc; this only decides which reader a document is for, so that a certificate or a public key gets
//! its own message and is never taken for the bytes of an HMAC secret.

use super::Curve;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const PARAMETERS: u8 = 0xa0;

impl Curve {
    /// The curve of the parameters of an EC key, or what they are instead.
    fn of(parameters: &[u8]) -> Result<Self, &'static str> {
        match take(parameters) {
            Some((OID, [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], _)) => Ok(Self::P256),
            Some((OID, [0x2b, 0x81, 0x04, 0x00, 0x22], _)) => Ok(Self::P384),
            Some((OID, [0x2b, 0x81, 0x04, 0x00, 0x23], _)) => Ok(Self::P521),
            Some((OID, [0x2b, 0x81, 0x04, 0x00, 0x0a], _)) => Err("EC secp256k1"),
            Some((SEQUENCE, ..)) => Err("EC with explicit curve parameters"),
            _ => Err("EC on another curve than P-256, P-384 and P-521"),
        }
    }
}

/// What a DER document holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape<'d> {
    /// PKCS#1, alone or in PKCS#8; `pss_only` when the key may sign with RSASSA-PSS only.
    Rsa {
        pkcs1: &'d [u8],
        pss_only: bool,
    },
    /// SEC1, alone or in PKCS#8.
    Ec(Curve),
    Ed25519,
    /// A private key that no JWS algorithm of ours fits.
    Other(&'static str),
    Public,
    Certificate,
    Encrypted,
}

/// Tells the shape of a document and what follows it; `None` when it is no DER that we know.
pub(super) fn shape(document: &[u8]) -> Option<(Shape<'_>, &[u8])> {
    let (SEQUENCE, body, trailing) = take(document)? else { return None };
    let whole = document.get(..document.len() - trailing.len())?;
    let shape = match take(body)? {
        (INTEGER, version, rest) => private(whole, version, rest)?,
        (SEQUENCE, first, rest) => match (take(first)?.0, take(rest)?) {
            (OID, (BIT_STRING, ..)) => Shape::Public,
            (OID, (OCTET_STRING, _, [])) => Shape::Encrypted,
            (_, (SEQUENCE, _, rest)) if take(rest)?.0 == BIT_STRING => Shape::Certificate,
            _ => return None,
        },
        _ => return None,
    };
    Some((shape, trailing))
}

fn private<'d>(whole: &'d [u8], version: &[u8], rest: &'d [u8]) -> Option<Shape<'d>> {
    match take(rest)? {
        (SEQUENCE, algorithm, rest) => {
            let (OCTET_STRING, key, _) = take(rest)? else { return None };
            let (OID, algorithm, parameters) = take(algorithm)? else { return None };
            Some(pkcs8(algorithm, parameters, key))
        }
        (INTEGER, _, []) => Some(Shape::Public),
        (INTEGER, ..) if version == [0] => Some(Shape::Rsa { pkcs1: whole, pss_only: false }),
        (OCTET_STRING, secret, rest) if version == [1] => {
            let curve = match take(rest) {
                Some((PARAMETERS, parameters, _)) => Curve::of(parameters),
                // Without its name the size of the private number tells the curve.
                _ => [Curve::P256, Curve::P384, Curve::P521]
                    .into_iter()
                    .find(|curve| curve.size() == secret.len())
                    .ok_or("EC without the name of its curve"),
            };
            Some(curve.map_or_else(Shape::Other, Shape::Ec))
        }
        _ => None,
    }
}

fn pkcs8<'d>(algorithm: &[u8], parameters: &[u8], key: &'d [u8]) -> Shape<'d> {
    match algorithm {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01] => {
            Shape::Rsa { pkcs1: key, pss_only: false }
        }
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a] => {
            Shape::Rsa { pkcs1: key, pss_only: true }
        }
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01] => {
            Curve::of(parameters).map_or_else(Shape::Other, Shape::Ec)
        }
        [0x2b, 0x65, 0x70] => Shape::Ed25519,
        [0x2b, 0x65, 0x71] => Shape::Other("Ed448"),
        [0x2b, 0x65, 0x6e] => Shape::Other("X25519"),
        [0x2b, 0x65, 0x6f] => Shape::Other("X448"),
        _ => Shape::Other("private key of an unknown kind"),
    }
}

/// Whether the bytes begin with a DER sequence, of whatever kind, that is well-formed one level down. What a text begins with is too short
/// or too irregular for that.
pub(super) fn is_sequence(bytes: &[u8]) -> bool {
    let Some((SEQUENCE, mut body, _)) = take(bytes) else { return false };
    let long_enough = body.len() >= 32;
    while let Some((_, _, rest)) = take(body) {
        body = rest;
    }
    long_enough && body.is_empty()
}

/// The numbers of a PKCS#1 private key that are judged before it is read: modulus and public exponent, without leading zeros.
pub(super) fn rsa_numbers(pkcs1: &[u8]) -> Option<(&[u8], &[u8])> {
    let (SEQUENCE, body, []) = take(pkcs1)? else { return None };
    let (INTEGER, _version, body) = take(body)? else { return None };
    let (INTEGER, modulus, rest) = take(body)? else { return None };
    let (INTEGER, exponent, _) = take(rest)? else { return None };
    Some((without_zeros(modulus), without_zeros(exponent)))
}

/// How many bits a number has that is written without leading zeros.
pub(super) fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |first| first.leading_zeros());
    (number.len() * 8).saturating_sub(usize::try_from(unused).unwrap_or_default())
}

/// A big-endian number without what does not count.
pub(super) fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Tag, content and what follows.
fn take(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let bytes = usize::from(first & 0x7f);
        if bytes == 0 || bytes > 3 {
            return None;
        }
        let (length, rest) = rest.split_at_checked(bytes)?;
        (length.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}
