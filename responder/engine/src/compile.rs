//! From pairs and a template to a [`CompiledSnapshot`]: everything that can be known before a request is found out here.
//!
//! Request chains run on each recorded request, its signature is indexed. Response chains run on each recorded response with a stand-in
//! for each token; where the stand-ins end up are the holes that a request fills. A chain whose stand-in does not come through in plain
//! sight (a token inside base64, say) runs per request instead.

mod draft;
mod headers;
mod plan;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;

use crate::{
    answer::Spliced,
    body,
    diagnostic::{Diagnostic, Diagnostics},
    index::Index,
    jwt::{TokenSlot, key::SecretRef},
    request::Parts,
    signature::Signature,
    snapshot::{HttpResponse, RrPair, Serve},
    test_config::TestConfig,
    transform::{Chain, Side, Template},
};

pub(crate) use draft::{Fill, token_error, validity_now};
pub(crate) use plan::{Plan, run_on_response};

/// A snapshot that is ready to answer once it is given keys.
#[derive(Debug)]
pub struct CompiledSnapshot {
    pub(crate) index: Index,
    pub(crate) plan: Plan,
    pub(crate) instances: Vec<Instance>,
    pub(crate) fills: Vec<Fill>,
    pub(crate) slots: Vec<TokenSlot>,
    pub(crate) response_chains: Vec<Chain>,
    required_secrets: Vec<SecretRef>,
    diagnostics: Vec<Diagnostic>,
}

/// One response.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) status: u16,
    /// Served when there is no token in it, or when one of its tokens cannot be signed.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The body is compressed with gzip.
    pub(crate) folded: bool,
    pub(crate) signed: Option<Box<Signed>>,
}

/// An instance with tokens.
#[derive(Debug)]
pub(crate) struct Signed {
    /// How many tokens are in it.
    pub(crate) tokens: u32,
    pub(crate) way: Way,
}

/// How an instance with tokens is made current.
#[derive(Debug)]
pub(crate) enum Way {
    /// By filling holes.
    Spliced { headers: Vec<(http::HeaderName, Spliced)>, plain_headers: HeaderMap, body: Spliced },
    /// By running the chains again.
    Dynamic { response: HttpResponse, chains: Vec<usize>, slots: Range<usize> },
}

impl CompiledSnapshot {
    /// The secrets that its tokens are signed with, sorted, each once.
    #[must_use]
    pub fn required_secrets(&self) -> &[SecretRef] {
        &self.required_secrets
    }

    /// How many recorded responses it serves.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.instances.len()
    }

    /// How many different signatures they have.
    #[must_use]
    pub fn signatures(&self) -> usize {
        self.index.len()
    }

    /// How many tokens it re-signs.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

/// Compiles a snapshot. It never fails: what cannot be served is left out, or served as recorded, and is in the findings.
#[must_use]
pub fn compile(
    mut pairs: Vec<RrPair>,
    template: &Template,
    _config: &TestConfig,
    serve: Serve,
) -> (CompiledSnapshot, Diagnostics) {
    let mut found = Diagnostics::default();
    let total = pairs.len();
    pairs.retain(|pair| serve.includes(pair.direction));
    pairs.sort_by_key(|pair| pair.ordinal);
    if pairs.is_empty() && total > 0 {
        found.push(
            Diagnostic::warning(
                "nothing_to_serve",
                "",
                format!("none of the {total} pairs has the direction that is served"),
            )
            .hint("serve `in`, `out` or `all`"),
        );
    }
    let (request_chains, response_chains) = template
        .chains()
        .iter()
        .cloned()
        .partition::<Vec<_>, _>(|chain| chain.side() == Side::Request);
    let mut compiled = CompiledSnapshot {
        index: Index::default(),
        plan: Plan::new(request_chains),
        instances: Vec::with_capacity(pairs.len()),
        fills: Vec::new(),
        slots: Vec::new(),
        response_chains,
        required_secrets: template.required_secrets(),
        diagnostics: Vec::new(),
    };
    for pair in pairs {
        compiled.add(&pair, &mut found);
    }
    compiled.diagnostics = found.as_slice().to_vec();
    (compiled, found)
}

impl CompiledSnapshot {
    fn add(&mut self, pair: &RrPair, found: &mut Diagnostics) {
        if !(200..=999).contains(&pair.response.status) {
            let status = pair.response.status;
            found.push(
                Diagnostic::warning(
                    "status_not_servable",
                    "",
                    format!("a response with status {status} cannot be replayed and is left out"),
                )
                .subject(name_of(pair)),
            );
            return;
        }
        let recorded = Parts::of_recorded(pair);
        let mut parts = recorded.clone();
        let edits = self.plan.run_on_recorded(pair, &mut parts, found);
        let signature = Signature::of(&parts, &edits);
        let instance = self.prepare(pair, &recorded, found);
        self.index.add(&signature, self.instances.len());
        self.instances.push(instance);
    }

    fn prepare(&mut self, pair: &RrPair, parts: &Parts, found: &mut Diagnostics) -> Instance {
        let chains: Vec<usize> = self
            .response_chains
            .iter()
            .enumerate()
            .filter(|(_, chain)| chain.filters.admits(pair, parts))
            .map(|(nth, _)| nth)
            .collect();
        let mut response = pair.response.clone();
        // A 204 or 304 has no body, whatever the recording says (RFC 9110, sections 15.3.5 and 15.4.5).
        if matches!(response.status, 204 | 304) {
            response.body = Bytes::new();
        }
        headers::settle_encoding(&mut response, pair, !chains.is_empty());
        let unsigned = draft::without_tokens(&self.response_chains, &chains, &response);
        let folded = body::is_gzip(&unsigned.body);
        let headers = headers::served(&unsigned.headers, &name_of(pair), found);
        let signed = draft::Draft::run(self, pair, &chains, response, found).map(Box::new);
        Instance { status: unsigned.status, headers, body: unsigned.body, folded, signed }
    }
}

/// The header fields of a response whose chains ran for a request.
pub(crate) fn served_headers(response: &HttpResponse) -> HeaderMap {
    headers::served(&response.headers, "", &mut Diagnostics::default())
}

/// What findings call a pair.
fn name_of(pair: &RrPair) -> String {
    let what = pair.request.as_ref().map_or_else(
        || format!("{} {}", pair.command, pair.location),
        |r| format!("{} {}", r.method, r.path),
    );
    match pair.uuid {
        Some(id) => format!("{what} ({})", uuid::Uuid::from_bytes(id)),
        None => what,
    }
}

/// Keeps the compiler honest about what may be shared between threads.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Arc<CompiledSnapshot>>();
};

#[cfg(test)]
mod tests;
