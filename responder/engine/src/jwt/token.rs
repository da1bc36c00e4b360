//! Reading a compact JWS (RFC 7515, section 7.1), strictly.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    alg::Alg,
    members::{self, Member},
};
use crate::json::Kind;

/// The longest token that is looked at.
const MAX_TOKEN: usize = 64 * 1024;
/// The longest key id.
const MAX_KID: usize = 4 * 1024;

/// Why a token is not re-signed. It is served as recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It has no resemblance to a JWT, for example an opaque access token.
    #[error("the value is no JWT")]
    NotAJwt,
    /// It resembles a JWT but cannot be read.
    #[error("the JWT is malformed: {0}")]
    Malformed(&'static str),
    /// A member stands twice in its header or claims.
    #[error("the JWT has a member twice, which readers disagree about")]
    DuplicateMember,
    /// Its `alg` is missing, `none`, or none that we sign with.
    #[error("the JWT's alg is not one of {names}", names = Alg::names())]
    AlgNotAllowed,
    /// It is a JWE, or a JWS with critical or unencoded parts.
    #[error("a JWT of the form {0} cannot be re-signed")]
    Form(&'static str),
    /// It is longer, deeper or larger than we look at.
    #[error("the JWT exceeds the limit of {0}")]
    Limit(&'static str),
    /// `matchAlg` leaves it alone; this is no mistake.
    #[error("matchAlg leaves tokens of this alg alone")]
    AlgFiltered,
}

impl TokenError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAJwt => "not_a_jwt",
            Self::Malformed(_) => "jwt_malformed",
            Self::DuplicateMember => "jwt_duplicate_member",
            Self::AlgNotAllowed => "alg_not_allowed",
            Self::Form(_) => "jwt_form_unsupported",
            Self::Limit(_) => "limit_exceeded",
            Self::AlgFiltered => "alg_filtered",
        }
    }
}

/// A JWT taken apart: a JWS whose payload is claims.
pub(super) struct Token {
    pub(super) header: Vec<u8>,
    pub(super) header_members: Vec<Member>,
    pub(super) alg: Alg,
    pub(super) claims: Vec<u8>,
    pub(super) claim_members: Vec<Member>,
}

impl Token {
    pub(super) fn parse(token: &[u8]) -> Result<Self, TokenError> {
        let Jws { header, header_members, alg, payload, .. } = Jws::parse(token)?;
        if payload.is_empty() {
            return Err(TokenError::Form("detached"));
        }
        let claim_members = members::of(&payload)?;
        Ok(Self { header, header_members, alg, claims: payload, claim_members })
    }
}

/// A compact JWS taken apart, whatever its payload is.
pub(super) struct Jws<'t> {
    pub(super) header: Vec<u8>,
    pub(super) header_members: Vec<Member>,
    pub(super) alg: Alg,
    pub(super) payload: Vec<u8>,
    /// What is signed.
    pub(super) message: &'t [u8],
    pub(super) signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    pub(super) fn parse(token: &'t [u8]) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Limit("size"));
        }
        // Never more than six parts are looked at, however many dots there are.
        let parts: Vec<&[u8]> = token.splitn(6, |byte| *byte == b'.').collect();
        let Some(header) = parts
            .first()
            .and_then(|part| decode(part))
            .filter(|header| header.trim_ascii_start().starts_with(b"{"))
        else {
            return Err(other_form(token));
        };
        let [first, second, third] = parts.as_slice() else {
            return Err(if parts.len() == 5 {
                TokenError::Form("JWE")
            } else {
                TokenError::Malformed("it has not three parts")
            });
        };
        let header_members = members::of(&header)?;
        let alg = alg(&header, &header_members)?;
        refuse_other_forms(&header, &header_members)?;
        let payload =
            decode(second).ok_or(TokenError::Malformed("its claims are not base64url"))?;
        if third.is_empty() {
            return Err(TokenError::Malformed("it has no JWS signature"));
        }
        let signature =
            decode(third).ok_or(TokenError::Malformed("its JWS signature is not base64url"))?;
        let message = token.get(..first.len() + 1 + second.len()).unwrap_or_default();
        Ok(Self { header, header_members, alg, payload, message, signature })
    }
}

/// What a text is whose first part is no JOSE header.
fn other_form(text: &[u8]) -> TokenError {
    let holds = |name: &[u8]| text.windows(name.len()).any(|window| window == name);
    if text.trim_ascii_start().starts_with(b"{")
        && [b"\"payload\"".as_slice(), b"\"ciphertext\""].into_iter().any(holds)
    {
        return TokenError::Form("JSON serialization");
    }
    // `{"` in base64url, as every JOSE header begins that a library wrote.
    if text.starts_with(b"eyJ") && text.contains(&b'.') {
        return TokenError::Malformed("its JOSE header is not base64url without padding");
    }
    TokenError::NotAJwt
}

fn refuse_other_forms(header: &[u8], members: &[Member]) -> Result<(), TokenError> {
    let value = |name: &str| {
        let member = members.iter().find(|member| member.name == name)?;
        header.get(member.value.clone())
    };
    for form in ["crit", "b64"] {
        if value(form).is_some() {
            return Err(TokenError::Form(form));
        }
    }
    if value("enc").is_some() {
        return Err(TokenError::Form("JWE"));
    }
    if value("cty").is_some_and(|cty| cty.eq_ignore_ascii_case(b"\"JWT\"")) {
        return Err(TokenError::Form("nested JWT"));
    }
    // Two bytes are the quotes.
    if value("kid").is_some_and(|kid| kid.len() > MAX_KID + 2) {
        return Err(TokenError::Limit("kid"));
    }
    Ok(())
}

fn decode(part: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

fn alg(header: &[u8], members: &[Member]) -> Result<Alg, TokenError> {
    let member = members
        .iter()
        .find(|member| member.name == "alg" && member.kind == Kind::String)
        .ok_or(TokenError::AlgNotAllowed)?;
    let text: String = header
        .get(member.value.clone())
        .and_then(|raw| serde_json::from_slice(raw).ok())
        .ok_or(TokenError::AlgNotAllowed)?;
    Alg::parse(&text).ok_or(TokenError::AlgNotAllowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(header: &str, claims: &str) -> &'static str {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        Token::parse(format!("{}.{}.c2ln", part(header), part(claims)).as_bytes())
            .map_or_else(|why| why.code(), |_| "ok")
    }

    #[test]
    fn the_algorithm_is_never_guessed() {
        for alg in [
            r#""none""#,
            r#""None""#,
            r#""nOnE""#,
            r#""""#,
            "5",
            r#"["RS256"]"#,
            "null",
            r#""rs256""#,
        ] {
            assert_eq!(code(&format!(r#"{{"alg":{alg}}}"#), "{}"), "alg_not_allowed", "{alg}");
        }
        assert_eq!(code("{}", "{}"), "alg_not_allowed");
        assert_eq!(code(r#"{"alg":"Ed25519"}"#, "{}"), "ok");
    }

    #[test]
    fn what_readers_disagree_about_is_refused() {
        assert_eq!(code(r#"{"alg":"none","alg":"RS256"}"#, "{}"), "jwt_duplicate_member");
        assert_eq!(code(r#"{"alg":"RS256"}"#, r#"{"sub":1,"s\u0075b":2}"#), "jwt_duplicate_member");
        assert_eq!(code(r#"{"alg":"RS256","crit":["x"]}"#, "{}"), "jwt_form_unsupported");
        assert_eq!(code(r#"{"alg":"RS256","b64":false}"#, "{}"), "jwt_form_unsupported");
        assert_eq!(code(r#"{"alg":"RS256"}"#, "[]"), "jwt_malformed");
        assert_eq!(
            code(r#"{"alg":"RS256"}"#, &format!(r#"{{"a":{}}}"#, "[".repeat(100))),
            "limit_exceeded"
        );
    }

    #[test]
    fn shapes_other_than_three_parts() {
        let parse =
            |text: &str| Token::parse(text.as_bytes()).map_or_else(|why| why.code(), |_| "ok");
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#);
        assert_eq!(parse("opaque"), "not_a_jwt");
        assert_eq!(parse("api.nasa.gov"), "not_a_jwt");
        assert_eq!(parse(&".".repeat(60_000)), "not_a_jwt");
        assert_eq!(parse(&format!("{header}.a.b.c.d")), "jwt_form_unsupported");
        assert_eq!(parse(&format!("{header}.e30")), "jwt_malformed");
        assert_eq!(parse(&format!("{header}..c2ln")), "jwt_form_unsupported");
        assert_eq!(parse(&format!("{header}.e30=.c2ln")), "jwt_malformed");
        assert_eq!(parse(&format!("{header}.e31.c2ln")), "jwt_malformed", "spare bits");
        assert_eq!(parse(&"a".repeat(70_000)), "limit_exceeded");
    }

    #[test]
    fn forms_that_we_do_not_sign_are_named() {
        let parse =
            |text: &str| Token::parse(text.as_bytes()).map_or_else(|why| why.code(), |_| "ok");
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#);
        assert_eq!(parse(&format!("{header}.e30.")), "jwt_malformed", "no JWS signature");
        assert_eq!(parse(&format!("{header}=.e30.c2ln")), "jwt_malformed", "padding");
        assert_eq!(parse(&format!("{header} .e30.c2ln")), "jwt_malformed", "white space");
        assert_eq!(parse(r#"{"payload":"e30","signatures":[]}"#), "jwt_form_unsupported");
        assert_eq!(
            parse(r#"{"protected":"e30","payload":"e30","signature":"x"}"#),
            "jwt_form_unsupported"
        );
        assert_eq!(parse(r#"{"access_token":"x"}"#), "not_a_jwt");
        assert_eq!(code(r#"{"alg":"RS256","cty":"JWT"}"#, "[]"), "jwt_form_unsupported");
        assert_eq!(code(r#"{"alg":"RS256","enc":"A128GCM"}"#, "{}"), "jwt_form_unsupported");
        assert_eq!(
            code(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(4097)), "{}"),
            "limit_exceeded"
        );
        assert_eq!(code(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(4096)), "{}"), "ok");
        assert_eq!(
            code(r#"{"alg":"RS256"}"#, &format!(r#"{{"a":[{}0]}}"#, "0,".repeat(10_000))),
            "limit_exceeded"
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), header in ".{0,60}", claims in ".{0,60}") {
            let _outcome = Token::parse(&bytes);
            let _outcome = code(&header, &claims);
        }
    }
}
