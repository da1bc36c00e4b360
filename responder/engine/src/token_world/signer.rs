//! Who signs: the keys of a snapshot's tokens, and which key sets verify them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Discovery, Endpoint, KeySet};
use crate::jwt::{KeySource, TokenSlot, alg::Alg};

/// What tokens that are verified alike have in common.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) source: KeySource,
    pub(super) alg: Alg,
    /// The `kid` that a chain sets; else tokens name the key's thumbprint.
    pub(super) kid: Option<String>,
    pub(super) recorded_kid: String,
    pub(super) iss: String,
    pub(super) tokens: u64,
}

/// What is told apart: a key, an algorithm, both `kid`s and the issuer.
type Kind = (String, Alg, Option<String>, String, String);

impl Signer {
    /// The name of its key.
    pub(super) fn name(&self) -> String {
        match &self.source {
            KeySource::Secret(secret) => secret.to_string(),
            KeySource::Inline(_) => "the key in the template".to_owned(),
        }
    }

    /// Tells keys apart that have the same name.
    pub(super) fn source_key(&self) -> String {
        match &self.source {
            KeySource::Secret(secret) => secret.to_string(),
            KeySource::Inline(key) => format!("inline {}", key.thumbprint().unwrap_or_default()),
        }
    }

    /// Whether verifiers know its very secret, which no key set can tell.
    pub(super) fn is_symmetric(&self) -> bool {
        matches!(self.alg, Alg::Hs256 | Alg::Hs384 | Alg::Hs512)
    }
}

/// All signers of some tokens, in an order that is the same everywhere.
pub(super) fn of_slots(slots: &[TokenSlot]) -> Vec<Signer> {
    let mut found: BTreeMap<Kind, Signer> = BTreeMap::new();
    for slot in slots {
        let text = |json: Option<&[u8]>, name: &str| -> String {
            let value: Value =
                json.and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
            value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let header = slot.header_json();
        let configured = slot.configured_kid().map(str::to_owned);
        let recorded_kid = match configured {
            Some(_) => String::new(),
            None => text(header.as_deref(), "kid"),
        };
        let signer = Signer {
            source: slot.secret().clone(),
            alg: slot.alg(),
            kid: configured,
            recorded_kid,
            iss: text(Some(slot.recorded_claims_json()), "iss"),
            tokens: 0,
        };
        let kind = (
            signer.source_key(),
            signer.alg,
            signer.kid.clone(),
            signer.recorded_kid.clone(),
            signer.iss.clone(),
        );
        found.entry(kind).or_insert(signer).tokens += 1;
    }
    found.into_values().collect()
}

/// For each key set the signers that it publishes; and those that belong to none of them, which all publish.
///
/// A token belongs to the sets that know its recorded `kid`, else to those of its issuer. A set that no token belongs to publishes every key.
pub(super) fn assign(
    signers: &[Signer],
    sets: &[KeySet],
    discoveries: &[Discovery],
) -> (Vec<Vec<usize>>, Vec<usize>) {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); sets.len()];
    let mut strays = Vec::new();
    let asymmetric = || signers.iter().enumerate().filter(|(_, signer)| !signer.is_symmetric());
    for (nth, signer) in asymmetric() {
        let knows = |set: &KeySet| {
            !signer.recorded_kid.is_empty() && set.kids().any(|kid| kid == signer.recorded_kid)
        };
        // What one version of a key set has verified, another version at the same place may be asked for.
        let by_kid: Vec<&Endpoint> =
            sets.iter().filter(|set| knows(set)).map(|set| &set.endpoint).collect();
        let mut found = false;
        for (set, members) in sets.iter().zip(&mut members) {
            let belongs = if by_kid.is_empty() {
                is_of_issuer(&signer.iss, &set.endpoint, discoveries)
            } else {
                by_kid.contains(&&set.endpoint)
            };
            if belongs {
                members.push(nth);
                found = true;
            }
        }
        if !found {
            strays.push(nth);
        }
    }
    for members in &mut members {
        if members.is_empty() {
            members.extend(asymmetric().map(|(nth, _)| nth));
        } else {
            members.extend(&strays);
        }
    }
    (members, strays)
}

/// Whether a key set is the one that an issuer's discovery document names, or lies on the issuer's host if no document names one.
fn is_of_issuer(iss: &str, endpoint: &Endpoint, discoveries: &[Discovery]) -> bool {
    if iss.is_empty() {
        return false;
    }
    let mut named =
        discoveries.iter().filter(|discovery| same_issuer(&discovery.issuer, iss)).peekable();
    if named.peek().is_some() {
        return named.any(|discovery| Endpoint::of_url(&discovery.jwks_uri) == *endpoint);
    }
    let host = Endpoint::of_url(iss).host;
    !host.is_empty() && host == endpoint.host
}

pub(super) fn same_issuer(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}
