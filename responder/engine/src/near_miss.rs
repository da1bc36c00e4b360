//! Near misses: what was recorded nearest to a request that got no answer, and what is known of the credentials that it presents.
//!
//! A report holds no credential: tokens, keys and passwords give way to marks, in what was presented and in what was recorded.

mod credentials;
mod known;
mod order;
mod rank;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    compile::CompiledSnapshot,
    dlp::Veil,
    identity::Who,
    index::{self, Index},
    request::{Request, keys},
    signature::Signature,
    snapshot::stub::Part,
    stub::{Failed, Stubs},
};
pub(crate) use credentials::credentials;
pub use credentials::{Finding, Presented};
pub(crate) use known::Known;
pub(crate) use order::Order;

/// How many are told.
const MAX_TOLD: usize = 3;
/// A value is told up to this length.
const MAX_VALUE: usize = 240;

/// The nearest recorded signatures, nearest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearMiss {
    /// The signature of the request.
    pub presented: Vec<Entry>,
    /// The recorded signatures that differ least.
    pub nearest: Vec<Near>,
    /// The stubs that fail least.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stubs: Vec<NearStub>,
    /// What is known of the credentials of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Presented>,
}

/// A key and its value, shortened and made printable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// A recorded signature and where it differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Near {
    /// The recorded signature.
    pub recorded: Vec<Entry>,
    /// The keys that differ.
    pub differing: Vec<Difference>,
    /// Whose answers were recorded under it, where the recording tells callers apart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recorded_for: Vec<String>,
    /// Who asked and who is recorded, when these are not the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The number of its entry.
    #[serde(skip)]
    entry: usize,
}

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The key.
    pub key: String,
    /// What was recorded; absent when the recorded signature has no such key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
    /// What was presented; absent when the request has no such key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presented: Option<String>,
}

/// A stub and the conditions of it that the request fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearStub {
    /// What the stub is called.
    pub stub: String,
    /// The conditions that failed.
    pub failed: Vec<FailedCondition>,
}

/// A condition of a stub that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedCondition {
    /// What was looked at.
    pub part: String,
    /// What it should have been like.
    pub expected: String,
    /// What it was; absent when it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presented: Option<String>,
}

impl NearMiss {
    /// Adds who was recorded under the nearest signatures, and who asks.
    pub(crate) fn with_callers(mut self, snapshot: &CompiledSnapshot, who: Who) -> Self {
        let identities = &snapshot.identities;
        if identities.len() < 2 {
            return self;
        }
        let asks = match who {
            Who::Known(identity) => Some(identities.label(identity).to_owned()),
            // Who is unknown may have a name nevertheless.
            Who::Unknown => {
                self.credentials.iter().find_map(|presented| presented.identity.clone())
            }
        };
        for near in &mut self.nearest {
            let entry = snapshot.index.entry(near.entry);
            let instances = entry.map_or(&[][..], index::Entry::instances).iter();
            let recorded: BTreeSet<_> = instances
                .filter_map(|nth| snapshot.instances.get(*nth))
                .map(|instance| instance.identity)
                .collect();
            near.recorded_for = identities.labels(recorded.iter().copied());
            let same = matches!(who, Who::Known(identity) if recorded.contains(&identity));
            near.identity = asks
                .as_ref()
                .filter(|_| !same && !recorded.is_empty())
                .map(|asks| format!("{} recorded, {asks} presented", near.recorded_for.join(", ")));
        }
        self
    }

    /// Adds the stubs that fail least.
    pub(crate) fn with_stubs(mut self, stubs: &Stubs, request: &Request<'_>) -> Self {
        self.stubs = stubs
            .nearest(request, MAX_TOLD)
            .into_iter()
            .map(|stub| NearStub {
                stub: stub.name,
                failed: stub.failed.into_iter().map(condition).collect(),
            })
            .collect();
        self
    }
}

/// A failed condition as it may be told. Credentials are not repeated, neither the expected nor the presented ones.
fn condition(failed: Failed) -> FailedCondition {
    let Failed { part, scenario, expected, presented } = failed;
    let secret = part.as_ref().is_some_and(holds_credentials);
    let part = part.map_or_else(|| format!("scenario {scenario}"), |part| part.to_string());
    let shown = |text: String| if secret { "(not told)".to_owned() } else { shortened(&text) };
    FailedCondition { part, expected: shown(expected), presented: presented.map(shown) }
}

fn holds_credentials(part: &Part) -> bool {
    const HEADERS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];
    match part {
        Part::BasicAuth | Part::Cookie(_) => true,
        Part::Header(name) => HEADERS.iter().any(|header| name.eq_ignore_ascii_case(header)),
        _ => false,
    }
}

/// The recorded signatures nearest to this one: of those whose paths stand beside its own when all are put in order.
///
/// A host that was never recorded stands for every recorded one, so it is not what differs.
pub(crate) fn nearest(presented: &Signature, index: &Index) -> NearMiss {
    let foreign = presented.host().is_some_and(|host| !index.knows_host(host));
    let as_if = |host: Option<&[u8]>| match host.filter(|_| foreign) {
        Some(host) => Cow::Owned(presented.with_host(&String::from_utf8_lossy(host))),
        None => Cow::Borrowed(presented),
    };
    let veil = Veil::standard();
    let near = |nth: usize| {
        let recorded = Signature::from_bytes(index.entry(nth)?.signature())?;
        let presented = as_if(recorded.host());
        let (own, other) = (shown(&presented, veil), shown(&recorded, veil));
        Some(Near {
            differing: keys_that_differ(&presented, &recorded)
                .map(|key| Difference {
                    key: key.to_owned(),
                    recorded: other.get(key).cloned(),
                    presented: own.get(key).cloned(),
                })
                .collect(),
            recorded: entries(other),
            recorded_for: Vec::new(),
            identity: None,
            entry: nth,
        })
    };
    let bytes = as_if(index.hosts().next()).to_bytes();
    NearMiss {
        nearest: rank::nearest(&bytes, index, foreign, MAX_TOLD)
            .into_iter()
            .filter_map(near)
            .collect(),
        presented: told(presented, veil),
        stubs: Vec::new(),
        credentials: Vec::new(),
    }
}

fn keys_that_differ<'s>(
    presented: &'s Signature,
    recorded: &'s Signature,
) -> impl Iterator<Item = &'s str> {
    let changed = presented
        .entries()
        .filter(|(key, own)| value(recorded, key) != Some(*own))
        .map(|(key, _)| key);
    let missing =
        recorded.entries().filter(|(key, _)| value(presented, key).is_none()).map(|(key, _)| key);
    changed.chain(missing)
}

fn value<'s>(signature: &'s Signature, key: &str) -> Option<&'s [u8]> {
    signature.entries().find(|entry| entry.0 == key).map(|entry| entry.1)
}

/// A signature as it may be told.
pub(crate) fn told(signature: &Signature, veil: &Veil) -> Vec<Entry> {
    entries(shown(signature, veil))
}

fn shown(signature: &Signature, veil: &Veil) -> BTreeMap<String, String> {
    let veiled: BTreeMap<String, Bytes> = veil.signature(signature.entries());
    veiled.into_iter().map(|(key, value)| (key.clone(), printable(&key, &value))).collect()
}

fn entries(shown: BTreeMap<String, String>) -> Vec<Entry> {
    shown.into_iter().map(|(key, value)| Entry { key, value }).collect()
}

/// Hashes in hex, text as it is, both shortened.
fn printable(key: &str, value: &[u8]) -> String {
    if key == keys::BODY_HASH {
        return value.iter().map(|byte| format!("{byte:02x}")).collect();
    }
    shortened(&String::from_utf8_lossy(value))
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_VALUE {
        text.to_owned()
    } else {
        text.chars().take(MAX_VALUE).chain("…".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Parts;

    fn signature(method: &str, path: &str, query: &str) -> Signature {
        Signature::of(
            &Parts {
                method: method.into(),
                host: "a".into(),
                path: path.into(),
                query: crate::request::sorted_query(query),
                ..Parts::default()
            },
            &[],
        )
    }

    #[test]
    fn names_the_nearest_and_what_differs() {
        let mut index = Index::default();
        index.add(&signature("GET", "/users", "page=1"), 0);
        index.add(&signature("GET", "/orders", ""), 1);
        index.add(&signature("POST", "/users", "page=2"), 2);
        let miss = nearest(&signature("GET", "/users", "page=2"), &index);
        let differing: Vec<_> = miss
            .nearest
            .iter()
            .map(|near| near.differing.iter().map(|d| d.key.as_str()).collect::<Vec<_>>())
            .collect();
        assert_eq!(
            differing,
            [vec!["http:queryparams"], vec!["http:method"], vec!["http:queryparams", "http:url"]]
        );
        assert_eq!(miss.nearest[0].differing[0].recorded.as_deref(), Some("page=1"));
        assert_eq!(miss.nearest[0].differing[0].presented.as_deref(), Some("page=2"));

        let elsewhere =
            nearest(&signature("GET", "/users", "page=2").with_host("localhost"), &index);
        assert_eq!(
            elsewhere.nearest, miss.nearest,
            "a host that was never recorded is not what differs"
        );
    }
}
