//! Recorded key sets and discovery documents, and which tokens they belong to.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    endpoint::Endpoint,
    report::{DocumentKind, JwksLink, KeyDocument},
    token::{Form, Kind, shortened},
};
use crate::{body, request::without_port, snapshot::HttpResponse};

/// So many documents are kept, and so many keys of each.
const MAX_DOCUMENTS: usize = 64;
const MAX_KEYS: usize = 64;
/// No sound document is larger.
const MAX_SIZE: usize = 1024 * 1024;

/// The documents of a recording.
#[derive(Debug, Default)]
pub(super) struct Documents {
    found: BTreeMap<(Endpoint, bool), KeyDocument>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    keys: Vec<Jwk>,
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
}

impl Documents {
    /// Looks at a response.
    pub(super) fn look(&mut self, endpoint: &Endpoint, response: &HttpResponse) {
        let body = body::unfolded(&response.body);
        let holds = |name: &[u8]| body.windows(name.len()).any(|window| window == name);
        if body.len() > MAX_SIZE
            || !body.trim_ascii_start().starts_with(b"{")
            || !(holds(b"\"kty\"") || holds(b"\"jwks_uri\""))
        {
            return;
        }
        let Ok(document) = serde_json::from_slice::<Document>(&body) else { return };
        let kind = if !document.keys.is_empty() {
            let mut kids: Vec<String> = document
                .keys
                .iter()
                .map(|key| shortened(&key.kid))
                .filter(|kid| !kid.is_empty())
                .collect();
            let mut types: Vec<String> =
                document.keys.iter().map(|key| shortened(&key.kty)).collect();
            for list in [&mut kids, &mut types] {
                list.sort();
                list.dedup();
                list.truncate(MAX_KEYS);
            }
            DocumentKind::Jwks { kids, types }
        } else if document.jwks_uri.is_empty() {
            return;
        } else {
            DocumentKind::Discovery {
                issuer: shortened(&document.issuer),
                jwks_uri: shortened(&document.jwks_uri),
            }
        };
        self.add(endpoint, kind);
    }

    fn add(&mut self, endpoint: &Endpoint, kind: DocumentKind) {
        let key = (endpoint.clone(), matches!(kind, DocumentKind::Jwks { .. }));
        if let Some(known) = self.found.get_mut(&key) {
            known.count += 1;
            // A rotation: the key set of the recording as a whole is the union.
            if let (
                DocumentKind::Jwks { kids, types },
                DocumentKind::Jwks { kids: more, types: more_types },
            ) = (&mut known.kind, kind)
            {
                for (list, more) in [(kids, more), (types, more_types)] {
                    list.extend(more);
                    list.sort();
                    list.dedup();
                    list.truncate(MAX_KEYS);
                }
            }
        } else if self.found.len() < MAX_DOCUMENTS {
            self.found.insert(key, KeyDocument { endpoint: endpoint.clone(), kind, count: 1 });
        }
    }

    /// The documents, sorted by endpoint.
    pub(super) fn into_list(self) -> Vec<KeyDocument> {
        self.found.into_values().collect()
    }
}

/// The key set that tokens of a kind belong to: the one with their `kid`, the one that their issuer's discovery document names, or the one
/// on their issuer's host.
pub(super) fn jwks_of(kind: &Kind, documents: &[KeyDocument]) -> Option<JwksLink> {
    if kind.form != Form::Jws || kind.alg.starts_with("HS") {
        return None;
    }
    let sets = documents.iter().filter_map(|document| match &document.kind {
        DocumentKind::Jwks { kids, .. } => Some((document, kids)),
        DocumentKind::Discovery { .. } => None,
    });
    let link = |document: &KeyDocument, by| JwksLink { endpoint: document.endpoint.clone(), by };
    let named: Vec<(String, String)> = documents
        .iter()
        .filter_map(|document| match &document.kind {
            DocumentKind::Discovery { issuer, jwks_uri } if same_issuer(issuer, &kind.iss) => {
                Some(target(jwks_uri))
            }
            _ => None,
        })
        .collect();
    let is_named = |document: &KeyDocument| {
        named
            .iter()
            .any(|(host, path)| *host == document.endpoint.host && *path == document.endpoint.route)
    };
    let by_kid: Vec<_> = sets
        .clone()
        .filter(|(_, kids)| !kind.kid.is_empty() && kids.contains(&kind.kid))
        .map(|(document, _)| document)
        .collect();
    if let Some(document) =
        by_kid.iter().find(|document| is_named(document)).or_else(|| by_kid.first())
    {
        return Some(link(document, "kid"));
    }
    if let Some((document, _)) = sets.clone().find(|(document, _)| is_named(document)) {
        return Some(link(document, "issuer"));
    }
    let (host, _) = target(&kind.iss);
    let mut sets = sets;
    sets.find(|(document, _)| !host.is_empty() && document.endpoint.host == host)
        .map(|(document, _)| link(document, "host"))
}

fn same_issuer(issuer: &str, iss: &str) -> bool {
    !iss.is_empty() && issuer.trim_end_matches('/') == iss.trim_end_matches('/')
}

/// Host without port, and path, of a URL.
pub(super) fn target(url: &str) -> (String, String) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let path = path.split(['?', '#']).next().unwrap_or_default();
    (without_port(authority).to_owned(), path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, route: &str) -> Endpoint {
        Endpoint { method: "GET".into(), host: host.into(), route: route.into() }
    }

    fn documents(entries: &[(&str, &str, &str)]) -> Vec<KeyDocument> {
        let mut found = Documents::default();
        for (host, route, body) in entries {
            let response =
                HttpResponse { body: body.as_bytes().to_vec().into(), ..HttpResponse::default() };
            found.look(&endpoint(host, route), &response);
        }
        found.into_list()
    }

    fn kind(kid: &str, iss: &str) -> Kind {
        Kind {
            form: Form::Jws,
            alg: "RS256".into(),
            kid: kid.into(),
            iss: iss.into(),
            ..Kind::opaque()
        }
    }

    const KEYS: &str =
        r#"{"keys":[{"kty":"RSA","kid":"k1","n":"x","e":"AQAB"},{"kty":"EC","kid":"k2"}]}"#;

    #[test]
    fn key_sets_are_found_by_kid_issuer_and_host() {
        let discovery =
            r#"{"issuer":"https://id.example/","jwks_uri":"https://keys.example:8443/jwks"}"#;
        let all = documents(&[
            ("other.example", "/jwks", r#"{"keys":[{"kty":"RSA"}]}"#),
            ("keys.example", "/jwks", KEYS),
            ("id.example", "/.well-known/openid-configuration", discovery),
        ]);
        assert_eq!(all.len(), 3);
        let found = |kid: &str, iss: &str| {
            jwks_of(&kind(kid, iss), &all).map(|link| (link.endpoint.host, link.by))
        };
        assert_eq!(found("k2", ""), Some(("keys.example".into(), "kid")));
        assert_eq!(found("k9", "https://id.example"), Some(("keys.example".into(), "issuer")));
        assert_eq!(found("", "https://other.example/x"), Some(("other.example".into(), "host")));
        assert_eq!(found("k9", "https://nobody.example"), None);
        assert_eq!(jwks_of(&Kind { alg: "HS256".into(), ..kind("k1", "") }, &all), None);
    }

    #[test]
    fn a_rotation_is_one_key_set() {
        let all = documents(&[
            ("h", "/jwks", KEYS),
            ("h", "/jwks", r#"{"keys":[{"kty":"RSA","kid":"k3"}]}"#),
        ]);
        let [KeyDocument { kind: DocumentKind::Jwks { kids, types }, count, .. }] = all.as_slice()
        else {
            panic!("{all:?}")
        };
        assert_eq!(
            (kids.join(" "), types.join(" "), *count),
            ("k1 k2 k3".into(), "EC RSA".into(), 2)
        );
    }

    #[test]
    fn other_documents_are_not_taken_for_keys() {
        let all = documents(&[
            ("h", "/a", r#"{"keys":[{"kty":5}]}"#),
            ("h", "/b", r#"{"keys":["kty"],"kty":1}"#),
            ("h", "/c", r#"{"jwks_uri":""}"#),
            ("h", "/d", r#"[{"kty":"RSA"}]"#),
        ]);
        assert_eq!(all, []);
    }
}
