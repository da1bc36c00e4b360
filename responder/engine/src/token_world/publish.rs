//! Making key sets of a key ring. The same ring makes the same bytes on every node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{KeySet, TokenWorld, signer::Signer};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    jwt::{
        KeySource,
        alg::Alg,
        key::{KeyRing, PublicKey, SigningKey},
    },
};

/// Members of a JWK that are private, or belong to a key that is (RFC 7518, sections 6.2.2, 6.3.2 and 6.4; RFC 8037, section 2).
const PRIVATE: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// The key sets of a snapshot under one key ring.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// In the order of the recorded sets; `None` where the recorded bytes are served.
    pub(crate) sets: Vec<Option<Bytes>>,
    /// Sets that were not recorded, by path.
    pub(crate) well_known: BTreeMap<String, Bytes>,
}

/// The path of a key set below its issuer.
const WELL_KNOWN: &str = "/.well-known/jwks.json";

/// Makes all key sets, and tells what is in them.
pub(crate) fn publish(world: &TokenWorld, ring: &KeyRing) -> (Published, Vec<Diagnostic>) {
    let mut found = Diagnostics::default();
    let mut published = Published::default();
    for set in &world.sets {
        let members = set.members.iter().filter_map(|nth| world.signers.get(*nth));
        let keys = Keys::of(members, ring);
        if !keys.is_empty() {
            found.push(keys.tell(&set.endpoint.to_string()));
        }
        published.sets.push(keys.document(Some(set)));
    }
    if world.settings.serve_jwks {
        for (path, members) in issuers(&world.signers) {
            let keys = Keys::of(members.into_iter(), ring);
            found.push(keys.tell(&path));
            published.well_known.extend(keys.document(None).map(|body| (path, body)));
        }
    }
    (published, found.into_vec())
}

impl TokenWorld {
    /// A recorded key set as it was before any of our keys; only what must not be published is missing.
    pub(crate) fn without_ours(&self, set: usize) -> Option<Bytes> {
        let mut document = self.sets.get(set)?.recorded.clone();
        let recorded = document.get("keys").and_then(Value::as_array)?;
        let keys: Vec<Value> = recorded.iter().filter_map(public_half).collect();
        document.insert("keys".to_owned(), json!(keys));
        Some(Bytes::from(Value::Object(document).to_string()))
    }
}

/// The paths of key sets that are served though none was recorded, and whose keys they hold: at the root all, below an issuer's path its own.
fn issuers(signers: &[Signer]) -> BTreeMap<String, Vec<&Signer>> {
    let mut paths: BTreeMap<String, Vec<&Signer>> = BTreeMap::new();
    for signer in signers.iter().filter(|signer| !signer.is_symmetric()) {
        paths.entry(WELL_KNOWN.to_owned()).or_default().push(signer);
        let prefix = super::Endpoint::of_url(&signer.iss).path;
        let prefix = prefix.trim_end_matches('/');
        if signer.iss.contains("://") && !prefix.is_empty() {
            paths.entry(format!("{prefix}{WELL_KNOWN}")).or_default().push(signer);
        }
    }
    paths
}

/// The keys of a set, by `kid`.
#[derive(Default)]
struct Keys {
    signing: BTreeMap<String, Entry>,
    beside: BTreeMap<String, Entry>,
}

struct Entry {
    key: Arc<PublicKey>,
    algs: BTreeSet<Alg>,
    name: String,
}

impl Keys {
    fn of<'s>(signers: impl Iterator<Item = &'s Signer>, ring: &KeyRing) -> Self {
        let mut by_source: BTreeMap<String, Vec<&Signer>> = BTreeMap::new();
        for signer in signers.filter(|signer| !signer.is_symmetric()) {
            by_source.entry(signer.source_key()).or_default().push(signer);
        }
        let mut keys = Self::default();
        for signers in by_source.values() {
            keys.add_source(signers, ring);
        }
        keys.beside.retain(|kid, _| !keys.signing.contains_key(kid));
        keys
    }

    fn add_source(&mut self, signers: &[&Signer], ring: &KeyRing) {
        let Some(first) = signers.first() else { return };
        let entry = match &first.source {
            KeySource::Secret(secret) => ring.get(secret),
            KeySource::Inline(_) => None,
        };
        let key: Option<&SigningKey> = match &first.source {
            KeySource::Secret(_) => entry.and_then(|entry| entry.key.as_deref()),
            KeySource::Inline(key) => Some(key),
        };
        let Some(public) = key.and_then(PublicKey::of).map(Arc::new) else { return };
        for signer in signers.iter().filter(|signer| public.verifies(signer.alg)) {
            let kid = signer.kid.as_deref().unwrap_or_else(|| public.thumbprint());
            add(&mut self.signing, kid, &public, signer);
        }
        for other in entry.iter().flat_map(|entry| &entry.beside) {
            for signer in signers.iter().filter(|signer| other.verifies(signer.alg)) {
                add(&mut self.beside, other.thumbprint(), other, signer);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.signing.is_empty()
    }

    /// The document: keys that sign first, then those beside them, then the recorded ones whose `kid` is not taken. Without a key of ours
    /// tokens are as recorded, and so is the set, except for what must not be published.
    fn document(&self, set: Option<&KeySet>) -> Option<Bytes> {
        let recorded = set.and_then(|set| set.recorded.get("keys")).and_then(Value::as_array);
        let recorded = recorded.map(Vec::as_slice).unwrap_or_default();
        if self.is_empty() && set.is_some() && !recorded.iter().any(is_private) {
            return None;
        }
        let mut keys: Vec<Value> = self
            .signing
            .iter()
            .chain(&self.beside)
            .map(|(kid, entry)| {
                entry.key.published(kid, &entry.algs.iter().copied().collect::<Vec<_>>())
            })
            .collect();
        let taken = |key: &Value| {
            let kid = key.get("kid").and_then(Value::as_str);
            kid.is_some_and(|kid| self.signing.contains_key(kid) || self.beside.contains_key(kid))
        };
        keys.extend(recorded.iter().filter(|key| !taken(key)).filter_map(public_half));
        let mut document: Map<String, Value> =
            set.map_or_else(Map::new, |set| set.recorded.clone());
        document.insert("keys".to_owned(), json!(keys));
        Some(Bytes::from(Value::Object(document).to_string()))
    }

    fn tell(&self, place: &str) -> Diagnostic {
        let one = |(kid, entry): (&String, &Entry)| {
            let algs: Vec<&str> = entry.algs.iter().map(|alg| alg.as_str()).collect();
            format!("{kid} ({} of {})", algs.join(", "), entry.name)
        };
        let signing: Vec<String> = self.signing.iter().map(one).collect();
        let message = match (signing.as_slice(), self.beside.len()) {
            ([], _) => "the key set has no key, because none of the secrets has one".to_owned(),
            (signing, 0) => format!("the key set publishes {}", signing.join(", ")),
            (signing, beside) => format!(
                "the key set publishes {}, and {beside} keys of a rotation",
                signing.join(", ")
            ),
        };
        Diagnostic::info("jwks_published", "", message).subject(place)
    }
}

/// Two keys never share a `kid`: a verifier that finds two refuses the token.
fn add(keys: &mut BTreeMap<String, Entry>, kid: &str, key: &Arc<PublicKey>, signer: &Signer) {
    let entry = keys.entry(kid.to_owned()).or_insert_with(|| Entry {
        key: Arc::clone(key),
        algs: BTreeSet::new(),
        name: signer.name(),
    });
    if entry.key.thumbprint() == key.thumbprint() {
        entry.algs.insert(signer.alg);
    }
}

fn is_private(key: &Value) -> bool {
    key.get("kty").and_then(Value::as_str) == Some("oct")
        || PRIVATE.iter().any(|name| key.get(name).is_some())
}

/// A recorded key without what should never have been recorded.
fn public_half(key: &Value) -> Option<Value> {
    if key.get("kty").and_then(Value::as_str) == Some("oct") {
        return None;
    }
    let mut key = key.clone();
    if let Value::Object(members) = &mut key {
        members.retain(|name, _| !PRIVATE.contains(&name.as_str()));
    }
    Some(key)
}
