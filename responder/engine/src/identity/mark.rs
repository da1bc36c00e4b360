//! Token marks: a JWT that takes part in a signature is compared by whose it is and of which kind, not by its bytes.
//!
//! A re-signed token differs from the recorded one in each request, so a signature with the token itself would never be met again. The mark
//! that takes its place is made of the claims that stay. Opaque tokens are served as recorded and stay as they are.

use std::ops::Range;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    Identities,
    credential::{self, claims_of, is_jwt, is_token_byte},
};
use crate::signature::Signature;

/// How every JOSE header begins that a library wrote.
const BEGIN: &[u8] = b"eyJ";

/// Whether a text may hold a token. Cheap, and wrong at times.
pub(crate) fn may_hold_token(text: &[u8]) -> bool {
    memchr::memmem::find(text, BEGIN).is_some()
}

impl Identities {
    /// Puts marks in the place of tokens; tells whether there were any.
    pub(crate) fn mark(&self, signature: &mut Signature) -> bool {
        signature.rewrite(|value| may_hold_token(value).then(|| self.marked(value)).flatten())
    }

    /// The text with marks in the place of tokens; `None` when it holds none.
    pub(crate) fn marked(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(text.len());
        let mut from = 0;
        for span in runs(text) {
            let Some(mark) = text.get(span.clone()).and_then(|run| self.mark_of(run)) else {
                continue;
            };
            out.extend_from_slice(text.get(from..span.start)?);
            out.extend_from_slice(mark.as_bytes());
            from = span.end;
        }
        if from == 0 {
            return None;
        }
        out.extend_from_slice(text.get(from..)?);
        Some(out)
    }

    fn mark_of(&self, run: &[u8]) -> Option<String> {
        let claims = claims_of(run)?;
        let header = run.split(|byte| *byte == b'.').next()?;
        let header: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        header.get("alg")?;
        let typ = header.get("typ").and_then(serde_json::Value::as_str).unwrap_or_default();
        let whose = self.choice.identity.key(b'j', &claims)?;
        let kind = self.choice.kind.key(b'k', &claims)?;
        let mark = credential::key(b'm', &[&whose, &kind, typ.to_ascii_lowercase().as_bytes()]);
        let hex: String = mark.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(format!("<token {hex}>"))
    }
}

/// The runs of token bytes that look like a JWT.
pub(super) fn runs(text: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(from..)?;
            let start = from + rest.iter().position(|byte| is_token_byte(*byte))?;
            let run = text.get(start..)?;
            let len = run.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(run.len());
            from = start + len;
            if text.get(start..from).is_some_and(is_jwt) {
                return Some(start..from);
            }
        }
    })
}
