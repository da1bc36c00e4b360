//! Telling tokens from what only looks like one.
//!
//! A JWS has three parts, a JOSE header that is a JSON object with `alg`, and a payload in base64url; a JWE has five and a header with
//! `enc`. Other text of three dotted parts is a false friend: a host name, a version, a package. Of a token only its header, some claims and a
//! digest are kept; neither the token nor its JWS signature leaves this module.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

use crate::jwt::{self, TokenError};

/// The longest token that is looked at; also the longest that is re-signed.
const MAX_TOKEN: usize = 64 * 1024;
/// So many bytes of a header parameter or claim are kept.
const MAX_TEXT: usize = 256;

/// Names a token without giving it away: the first bytes of its digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; 16]);

impl TokenId {
    /// The id of a token.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(blake3::hash(token).as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
        Self(id)
    }
}

impl fmt::Display for TokenId {
    /// Twelve hexadecimal digits: enough to compare by eye.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a token is by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Signed: three parts.
    Jws,
    /// Encrypted: five parts.
    Jwe,
    /// No JWT, but an OAuth answer or request calls it a token.
    Opaque,
}

/// What tokens of one kind have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// Its form.
    pub form: Form,
    /// `alg` of the JOSE header.
    pub alg: String,
    /// `kid` of the JOSE header.
    pub kid: String,
    /// `typ` of the JOSE header.
    pub typ: String,
    /// The `iss` claim.
    pub iss: String,
    /// The `aud` claim; several are joined with commas.
    pub aud: String,
}

impl Kind {
    pub(super) fn opaque() -> Self {
        let none = String::new;
        Self { form: Form::Opaque, alg: none(), kid: none(), typ: none(), iss: none(), aud: none() }
    }
}

/// One token, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) id: TokenId,
    pub(super) kind: Kind,
    pub(super) sub: String,
    pub(super) iat: Option<i64>,
    pub(super) exp: Option<i64>,
    /// Why it could not be re-signed.
    pub(super) refusal: Option<TokenError>,
    /// The JOSE header, JSON text; empty when it has none.
    pub(super) header: String,
    /// The claims, JSON text; empty when they cannot be read.
    pub(super) claims: String,
}

/// What a text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Token(Box<Summary>),
    /// It looks like a token at a glance.
    FalseFriend(&'static str),
    /// It does not even look like one.
    Other,
}

#[derive(Deserialize)]
struct JoseHeader {
    alg: Option<Value>,
    enc: Option<Value>,
    kid: Option<Value>,
    typ: Option<Value>,
}

/// Whether a byte may stand in a token.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// Judges a text that holds nothing beside what may be a token.
pub(super) fn judge(text: &[u8]) -> Verdict {
    if text.len() > MAX_TOKEN || !text.iter().copied().all(is_token_byte) {
        return Verdict::Other;
    }
    let parts: Vec<&[u8]> = text.splitn(6, |byte| *byte == b'.').collect();
    let header = parts.first().and_then(|part| header(part));
    match (parts.as_slice(), header) {
        ([_, payload, _], Some(header)) if header.alg.is_some() => match decode(payload) {
            Some(payload) => {
                let decoded = decoded(parts.first());
                Verdict::Token(Box::new(Summary { header: decoded, ..jws(text, &header, payload) }))
            }
            None => {
                Verdict::FalseFriend("its header is one of a JWS, but its payload is no base64url")
            }
        },
        ([_, _, _, _, _], Some(header)) if header.enc.is_some() => {
            let kind = kind(Form::Jwe, &header);
            Verdict::Token(Box::new(Summary {
                kind,
                header: decoded(parts.first()),
                ..summary(text)
            }))
        }
        (parts, Some(header)) if header.alg.is_some() && parts.len() > 1 => {
            Verdict::FalseFriend("its header is one of a JWS, but it has not three parts")
        }
        ([first, second, third], _) => look_alike(first, second, third),
        _ => Verdict::Other,
    }
}

/// A token that is no JWT.
pub(super) fn opaque(text: &[u8]) -> Summary {
    summary(text)
}

fn summary(text: &[u8]) -> Summary {
    let none = String::new;
    Summary {
        id: TokenId::of(text),
        kind: Kind::opaque(),
        sub: none(),
        iat: None,
        exp: None,
        refusal: None,
        header: none(),
        claims: none(),
    }
}

fn decoded(part: Option<&&[u8]>) -> String {
    part.and_then(|part| String::from_utf8(decode(part)?).ok()).unwrap_or_default()
}

fn jws(text: &[u8], header: &JoseHeader, payload: Vec<u8>) -> Summary {
    let claims: Value = serde_json::from_slice(&payload).unwrap_or(Value::Null);
    let claim = |name: &str| claims.get(name);
    Summary {
        kind: Kind {
            iss: text_of(claim("iss")),
            aud: text_of(claim("aud")),
            ..kind(Form::Jws, header)
        },
        sub: text_of(claim("sub")),
        iat: moment(claim("iat")),
        exp: moment(claim("exp")),
        refusal: jwt::refusal(text),
        claims: String::from_utf8(payload).unwrap_or_default(),
        ..summary(text)
    }
}

fn kind(form: Form, header: &JoseHeader) -> Kind {
    Kind {
        form,
        alg: text_of(header.alg.as_ref()),
        kid: text_of(header.kid.as_ref()),
        typ: text_of(header.typ.as_ref()),
        iss: String::new(),
        aud: String::new(),
    }
}

fn header(part: &[u8]) -> Option<JoseHeader> {
    let header = decode(part)?;
    header.trim_ascii_start().starts_with(b"{").then_some(())?;
    // Two members of one name make the token one that cannot be re-signed, but a token it is.
    serde_json::from_slice::<JoseHeader>(&header).ok().or_else(|| {
        let value: Value = serde_json::from_slice(&header).ok()?;
        serde_json::from_value(value).ok()
    })
}

fn decode(part: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// A parameter or claim as text.
fn text_of(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| text_of(Some(item))).collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
    };
    shortened(&text)
}

/// A text of bounded length, for people.
pub(super) fn shortened(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_TEXT);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// Seconds since the epoch; a fraction is cut off.
fn moment(value: Option<&Value>) -> Option<i64> {
    let number = value?.as_number()?;
    number.as_i64().or_else(|| number.to_string().split('.').next()?.parse().ok())
}

/// Why a text of three dotted parts is no token.
fn look_alike(first: &[u8], second: &[u8], third: &[u8]) -> Verdict {
    let parts = [first, second, third];
    if parts.iter().any(|part| part.is_empty()) {
        return Verdict::Other;
    }
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let all = |holds: fn(&u8) -> bool| parts.iter().all(|part| part.iter().all(holds));
    Verdict::FalseFriend(if digits(first.strip_prefix(b"v").unwrap_or(first)) && digits(second) {
        "a version number"
    } else if REVERSED.contains(&first) {
        "a package name"
    } else if is_top_level(third) && all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
        "a host name"
    } else if parts.iter().all(|part| part.len() <= MAX_NAME)
        && all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    {
        "a dotted name"
    } else {
        "three dotted parts, of which the first is no JOSE header"
    })
}

/// A part of a name is no longer; a part of another kind of secret mostly is.
const MAX_NAME: usize = 20;
/// How names of packages begin.
const REVERSED: [&[u8]; 8] = [b"com", b"org", b"net", b"io", b"dev", b"java", b"javax", b"android"];

/// Whether a part may end a host name: short, letters only, and no part of a camel-case name.
fn is_top_level(part: &[u8]) -> bool {
    (2..=6).contains(&part.len()) && part.iter().all(u8::is_ascii_lowercase)
}

/// A false friend as it may be shown: short names in full, of anything else its shape only, for it may be another kind of secret.
pub(super) fn shown(text: &str) -> String {
    let harmless = text.len() <= 64 && text.split('.').all(|part| part.len() <= MAX_NAME);
    if harmless {
        return text.to_owned();
    }
    let shape: Vec<_> = text.split('.').map(|part| part.len().to_string()).collect();
    format!("({} characters)", shape.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    fn friend(text: &str) -> &'static str {
        match judge(text.as_bytes()) {
            Verdict::FalseFriend(why) => why,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn false_friends_are_told_by_what_they_are() {
        for (text, why) in [
            ("api.nasa.gov", "a host name"),
            ("api-2.nasa.gov", "a host name"),
            ("1.2.3", "a version number"),
            ("v1.22.3-rc1", "a version number"),
            ("com.example.app", "a package name"),
            ("a.b.c", "a dotted name"),
            ("window.foo.barBaz", "a dotted name"),
            (
                "key.0123456789abcdefghijkl.0123456789abcdefghijklmnopq",
                "three dotted parts, of which the first is no JOSE header",
            ),
        ] {
            assert_eq!(friend(text), why, "{text}");
        }
        let header = part(r#"{"alg":"HS256"}"#);
        assert!(friend(&format!("{header}.{}", part("{}"))).contains("not three parts"));
        assert!(friend(&format!("{header}.{}.x.y", part("{}"))).contains("not three parts"));
        assert!(friend(&format!("{header}.e31.c2ln")).contains("no base64url"));
        for text in ["", "a.b", "127.0.0.1", "..", "a..c", "a b.c.d", "a.b.c.d.e"] {
            assert_eq!(judge(text.as_bytes()), Verdict::Other, "{text}");
        }
    }

    #[test]
    fn a_token_is_summed_up_without_its_signature() {
        let text = format!(
            "{}.{}.c2ln",
            part(r#"{"alg":"RS256","kid":"k1","typ":"JWT"}"#),
            part(r#"{"iss":"https://id.example","aud":["a","b"],"sub":"u","iat":10,"exp":70.5}"#)
        );
        let Verdict::Token(token) = judge(text.as_bytes()) else { panic!("a token") };
        assert_eq!(
            token.kind,
            Kind {
                form: Form::Jws,
                alg: "RS256".into(),
                kid: "k1".into(),
                typ: "JWT".into(),
                iss: "https://id.example".into(),
                aud: "a,b".into()
            }
        );
        assert_eq!((token.sub.as_str(), token.iat, token.exp), ("u", Some(10), Some(70)));
        assert_eq!(token.refusal, None);
        assert!(!format!("{token:?}").contains("c2ln"));
    }

    #[test]
    fn tokens_that_cannot_be_re_signed_are_tokens() {
        let refusal = |header: &str, payload: &str, rest: &str| match judge(
            format!("{}.{}.{rest}", part(header), part(payload)).as_bytes(),
        ) {
            Verdict::Token(token) => token.refusal.map(|why| why.code()),
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal(r#"{"alg":"none"}"#, "{}", ""), Some("alg_not_allowed"));
        assert_eq!(refusal(r#"{"alg":"HS256"}"#, "not JSON", "c2ln"), Some("jwt_malformed"));
        assert_eq!(
            refusal(r#"{"alg":"none","alg":"RS256"}"#, "{}", "c2ln"),
            Some("jwt_duplicate_member")
        );
        let jwe = format!("{}.a.b.c.d", part(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#));
        let Verdict::Token(jwe) = judge(jwe.as_bytes()) else { panic!("a token") };
        assert_eq!((jwe.kind.form, jwe.kind.alg.as_str()), (Form::Jwe, "RSA-OAEP"));
    }

    #[test]
    fn secrets_of_other_kinds_are_not_shown() {
        assert_eq!(shown("api.nasa.gov"), "api.nasa.gov");
        assert_eq!(
            shown("key.0123456789abcdefghijkl.0123456789abcdefghijklmnopq"),
            "(3.22.27 characters)"
        );
        assert_eq!(shortened(&"é".repeat(200)).chars().count(), 129);
    }
}
