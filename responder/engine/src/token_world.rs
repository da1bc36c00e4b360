//! One coherent token world: whatever a recording says about tokens fits the tokens that are given out.
//!
//! Recorded key sets (RFC 7517) publish the public halves of the keys that sign, discovery documents (OpenID Connect Discovery, RFC 8414)
//! name their algorithms, and introspection answers (RFC 7662) move with the token that they are about. A key has its thumbprint (RFC 7638)
//! for a `kid`, in tokens and key sets alike, so that two keys of a rotation are never taken for each other and all replicas agree without
//! a word. Nothing private is ever published, and no HMAC secret, which is private as a whole.

mod discovery;
mod document;
mod introspection;
mod issuer;
mod publish;
mod settings;
mod settle;
mod signer;

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    body,
    compile::Instance,
    request::{host_key, without_port},
    snapshot::{RrPair, digest::Digest},
};
use discovery::Discovery;
use document::Document;
pub(crate) use document::may_be as may_be_document;
use introspection::Introspection;
pub(crate) use issuer::Issuers;
pub(crate) use publish::{Published, publish};
pub use settings::TokenSettings;
use signer::Signer;

/// So many different documents are looked at; any more stay as recorded.
const MAX_DOCUMENTS: usize = 256;

/// What a snapshot says about tokens.
#[derive(Debug, Default)]
pub(crate) struct TokenWorld {
    settings: TokenSettings,
    sets: Vec<KeySet>,
    signers: Vec<Signer>,
    /// What recorded issuers are called.
    pub(crate) issuers: Issuers,
    pending: Pending,
}

/// What is found while pairs are compiled and settled when all of them are.
#[derive(Debug, Default)]
struct Pending {
    by_digest: HashMap<Digest, usize>,
    sets: Vec<(usize, usize)>,
    discoveries: Vec<Discovery>,
    introspections: Vec<Introspection>,
    /// Answers of 304, which are worth nothing to a client that has not the recorded document.
    unmodified: Vec<(usize, Endpoint)>,
    left_out: u64,
}

/// A recorded key set.
#[derive(Debug)]
struct KeySet {
    endpoint: Endpoint,
    /// The recorded document.
    recorded: Map<String, Value>,
    /// Whose keys it publishes: positions in `signers`.
    members: Vec<usize>,
}

/// Where a document is served.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Endpoint {
    host: String,
    path: String,
}

impl Endpoint {
    fn of(pair: &RrPair) -> Option<Self> {
        let request = pair.request.as_ref()?;
        let host = without_port(&request.host).to_ascii_lowercase();
        Some(Self { host, path: request.path.clone() })
    }

    fn of_url(url: &str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (authority, path) =
            rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let host = String::from_utf8_lossy(&host_key(authority)).into_owned();
        Self { host, path: path.to_owned() }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.host, self.path)
    }
}

impl TokenWorld {
    pub(crate) fn new(settings: TokenSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Whether a key set tells verifiers which key signs, so that a token has to name it.
    pub(crate) fn names_keys(&self) -> bool {
        !self.sets.is_empty() || self.settings.serve_jwks
    }

    /// Looks at a response that was compiled; `nth` is its position.
    pub(crate) fn look(&mut self, pair: &RrPair, instance: &mut Instance, nth: usize) {
        if instance.status == 304 {
            if let Some(endpoint) = Endpoint::of(pair)
                && self.pending.unmodified.len() < MAX_DOCUMENTS
            {
                self.pending.unmodified.push((nth, endpoint));
            }
            return;
        }
        if instance.status != 200 {
            return;
        }
        let plain = body::unfolded(&instance.body);
        let document = document::read(&plain);
        if matches!(document, Document::Other) {
            return;
        }
        if let std::borrow::Cow::Owned(plain) = plain {
            instance.body = plain.into();
            instance.folded = false;
            Arc::make_mut(&mut instance.headers).remove(http::header::CONTENT_ENCODING);
        }
        match document {
            Document::KeySet(recorded) => self.add_set(pair, instance, nth, recorded),
            Document::Discovery { issuer, jwks_uri } => {
                if self.pending.discoveries.len() < MAX_DOCUMENTS {
                    self.pending.discoveries.push(Discovery { instance: nth, issuer, jwks_uri });
                } else {
                    self.pending.left_out += 1;
                }
            }
            Document::Active => {
                self.pending.introspections.extend(Introspection::of(pair, nth));
            }
            Document::Other => {}
        }
    }

    /// A recording holds the same key set as often as it was asked for.
    fn add_set(
        &mut self,
        pair: &RrPair,
        instance: &mut Instance,
        nth: usize,
        recorded: Map<String, Value>,
    ) {
        // A responder-only recording tells the path in its signature or not at all.
        let endpoint = Endpoint::of(pair)
            .unwrap_or_else(|| Endpoint { host: String::new(), path: pair.location.clone() });
        let digest = Digest::of(
            &[endpoint.host.as_bytes(), b"\0", endpoint.path.as_bytes(), b"\0", &instance.body]
                .concat(),
        );
        let set = match self.pending.by_digest.get(&digest) {
            Some(set) => *set,
            None if self.sets.len() < MAX_DOCUMENTS => {
                self.sets.push(KeySet { endpoint, recorded, members: Vec::new() });
                self.pending.by_digest.insert(digest, self.sets.len() - 1);
                self.sets.len() - 1
            }
            None => {
                self.pending.left_out += 1;
                return;
            }
        };
        // They describe the recorded bytes.
        for name in
            ["etag", "last-modified", "content-md5", "digest", "content-digest", "repr-digest"]
        {
            Arc::make_mut(&mut instance.headers).remove(name);
        }
        self.pending.sets.push((nth, set));
    }
}

impl KeySet {
    /// The ids of its recorded keys.
    fn kids(&self) -> impl Iterator<Item = &str> {
        let keys = self.recorded.get("keys").and_then(Value::as_array);
        keys.into_iter().flatten().filter_map(|key| key.get("kid")?.as_str())
    }
}
