//! What is known of the credentials that a request presents: whose they are, and what is the matter with them. Never the credential itself.

use std::collections::BTreeSet;

use serde::Serialize;

use super::known::{Known, Signed};
use crate::{
    compile::CompiledSnapshot,
    identity::{Credential, claims_of, presented},
    jwt::{Presented as Token, distance},
    request::Request,
};

const NANOS: i64 = 1_000_000_000;

/// A credential that a request presents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Presented {
    /// Where it stands, for example `header authorization`.
    pub place: String,
    /// What it is, in words that give nothing away.
    pub what: String,
    /// Whose it is, as recorded identities are called; absent when it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Whether somebody in the recording is recognised by it.
    pub recorded: bool,
    /// What is the matter with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// Something that is the matter with a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable code.
    pub code: &'static str,
    /// The same in words.
    pub message: String,
}

impl Finding {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Every credential of a request. `now` is the replay's time in nanoseconds since the epoch.
pub(crate) fn credentials(
    snapshot: &CompiledSnapshot,
    known: &Known,
    request: &Request<'_>,
    now: i64,
) -> Vec<Presented> {
    let look = |(place, credential): (String, Credential<'_>)| {
        let identities = &snapshot.identities;
        let whose = identities.recognise(&credential);
        let told = identities.tell(&credential);
        let identity = told.or_else(|| whose.map(|whose| identities.label(whose).to_owned()));
        let mut findings = Vec::new();
        if whose.is_none() && identities.len() > 1 {
            let all = identities.labels(identities.everybody()).join(", ");
            let message = match &identity {
                Some(own) => format!("{all} recorded, {own} presented"),
                None => format!("{all} recorded, another credential presented"),
            };
            findings.push(Finding::new("identity_not_recorded", message));
        }
        if let Credential::Jwt(token) = &credential {
            match Token::read(token) {
                Some(read) => {
                    times(&read, now.div_euclid(NANOS), &mut findings);
                    parties(snapshot, known, &read, &mut findings);
                    let claims = claims_of(token).unwrap_or_default();
                    signer(known, &read, &claims, &mut findings);
                }
                None => {
                    findings.push(Finding::new("token_unreadable", "the token cannot be read"));
                }
            }
        }
        let what = credential.tell(now);
        Presented { place, what, identity, recorded: whose.is_some(), findings }
    };
    presented(request).into_iter().map(look).collect()
}

fn times(token: &Token<'_>, now: i64, findings: &mut Vec<Finding>) {
    if let Some(ago) =
        token.moment("exp").map(|exp| now.saturating_sub(exp)).filter(|ago| *ago >= 0)
    {
        let message = format!("expired {} ago", distance(ago.unsigned_abs()));
        findings.push(Finding::new("token_expired", message));
    }
    if let Some(left) =
        token.moment("nbf").map(|nbf| nbf.saturating_sub(now)).filter(|left| *left > 0)
    {
        let message = format!("not valid before {} from now", distance(left.unsigned_abs()));
        findings.push(Finding::new("token_not_yet_valid", message));
    }
}

/// Claims whose values are all other than those of the tokens that were recorded or are given out.
fn parties(
    snapshot: &CompiledSnapshot,
    known: &Known,
    token: &Token<'_>,
    findings: &mut Vec<Finding>,
) {
    let several = snapshot.identities.len() > 2;
    for (claim, code) in
        [("iss", "issuer_differs"), ("aud", "audience_differs"), ("sub", "subject_differs")]
    {
        let values: BTreeSet<&String> = [snapshot.identities.heard(), known.heard()]
            .into_iter()
            .filter_map(|heard| heard.of(claim))
            .flatten()
            .collect();
        let own = token.texts(claim);
        // Of several users it was said already who was recorded.
        if values.is_empty()
            || own.iter().any(|own| values.contains(own))
            || (claim == "sub" && several)
        {
            continue;
        }
        let list = |texts: &mut dyn Iterator<Item = &String>| {
            let all: Vec<String> = texts.take(4).map(|text| format!("{claim}={text}")).collect();
            if all.is_empty() { format!("no {claim}") } else { all.join(", ") }
        };
        let recorded = list(&mut values.iter().copied());
        let message = format!("{recorded} recorded, {} presented", list(&mut own.iter()));
        findings.push(Finding::new(code, message));
    }
}

/// Who signed the token, where tokens are signed here at all.
fn signer(known: &Known, token: &Token<'_>, claims: &[u8], findings: &mut Vec<Finding>) {
    let Some(alg) = token.alg() else {
        let message = match token.alg_text().as_str() {
            "" => "the token names no alg".to_owned(),
            alg => format!("the token has alg {alg}, with which nobody signs"),
        };
        return findings.push(Finding::new("alg_not_allowed", message));
    };
    if !known.signs() {
        return;
    }
    let signed = known.signer_of(token, alg);
    if signed == Signed::Beside {
        let message = "signed by a key that signed here before, or will sign next";
        findings.push(Finding::new("key_not_in_use", message));
    }
    if signed != Signed::Elsewhere {
        return;
    }
    if known.was_recorded(claims) {
        let message = "it is the recorded token; the replay gives out a fresh one in its place";
        return findings.push(Finding::new("recorded_token", message));
    }
    let kids = known.kids();
    match token.kid() {
        Some(kid) if kids.contains(kid.as_str()) => {
            let message = format!("its signature does not verify with the key {kid}");
            findings.push(Finding::new("signature_invalid", message));
        }
        Some(kid) => {
            let ours: Vec<&str> = kids.into_iter().take(4).collect();
            let ours = if ours.is_empty() {
                "name no kid".to_owned()
            } else {
                format!("name {}", ours.join(", "))
            };
            findings.push(Finding::new(
                "kid_unknown",
                format!("kid {kid} is unknown: the tokens that are given out {ours}"),
            ));
            findings.push(elsewhere());
        }
        None => findings.push(elsewhere()),
    }
}

fn elsewhere() -> Finding {
    Finding::new("key_unknown", "its signature verifies with no key that this node has")
}
