//! Token lineage: which tokens a recording holds, where they are issued and used, and the template that re-signs them.
//!
//! An [`Analyzer`] takes pairs one by one, in any order, so that a snapshot need not be in memory as a whole; its [`Analysis`] holds the
//! [`Report`], and [`suggest()`] makes a template of it. [`Check`] then runs that template on the pairs and tells which tokens it would miss.
//!
//! No token, JWS signature or body is in any output: tokens go by a short digest.

mod check;
mod endpoint;
mod families;
mod find;
mod graph;
mod keys;
mod place;
mod report;
mod suggest;
mod token;
mod walk;

pub use self::{
    check::Check,
    endpoint::Endpoint,
    report::{
        DocumentKind, FalseFriend, Family, JwksLink, KeyDocument, LeftOut, Member, Origin, Refresh,
        Report, Sighting,
    },
    suggest::{Options, OptionsError, SecretUse, Suggestion, suggest},
    token::{Form, Kind, TokenId},
};

use find::Seen;
use graph::Graph;
use keys::Documents;

use crate::{request::Parts, snapshot::RrPair};

/// Looks at pairs, one by one.
#[derive(Debug, Default)]
pub struct Analyzer {
    graph: Graph,
    documents: Documents,
    pairs: u64,
}

/// What an analyzer found.
#[derive(Debug)]
pub struct Analysis {
    graph: Graph,
    report: Report,
}

impl Analyzer {
    /// Looks at a pair.
    pub fn push(&mut self, pair: &RrPair) {
        self.pairs += 1;
        let (endpoint, path) = Endpoint::of(pair, &Parts::of_recorded(pair));
        let (request, left_out) = find::in_request(pair);
        let (response, more) = find::in_response(pair);
        self.graph.left_out.sightings += left_out + more;
        self.documents.look(&endpoint, &pair.response);
        let Some(number) = self.graph.endpoint(endpoint, path) else {
            let lost = request.len() + response.len();
            self.graph.left_out.sightings += u64::try_from(lost).unwrap_or(u64::MAX);
            return;
        };
        self.graph.add(pair.ordinal, number, &request);
        self.graph.add(pair.ordinal, number, &response);
        self.graph.refresh(number, &request, &response);
    }

    /// Puts together what was found.
    #[must_use]
    pub fn finish(self) -> Analysis {
        let documents = self.documents.into_list();
        let report = families::report(&self.graph, documents, self.pairs);
        Analysis { graph: self.graph, report }
    }
}

impl Analysis {
    /// The report.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// A token of a pair, without its JWS signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// A short digest of it.
    pub id: TokenId,
    /// Whether it stands in the request.
    pub in_request: bool,
    /// The place in the message.
    pub place: String,
    /// The JOSE header, JSON text; empty when it has none.
    pub header: String,
    /// The claims, JSON text; empty when it has none that can be read.
    pub claims: String,
}

/// The tokens of a pair, those of the request first.
#[must_use]
pub fn held(pair: &RrPair) -> Vec<Held> {
    let (request, _) = find::in_request(pair);
    let (response, _) = find::in_response(pair);
    let hits = request.into_iter().chain(response);
    let held = hits.filter_map(|hit| match hit.seen {
        Seen::Token(token) => Some(Held {
            id: token.id,
            in_request: !hit.place.is_response(),
            place: hit.place.to_string(),
            header: token.header,
            claims: token.claims,
        }),
        Seen::FalseFriend { .. } => None,
    });
    held.collect()
}

/// The endpoint of a pair.
#[must_use]
pub fn endpoint(pair: &RrPair) -> Endpoint {
    Endpoint::of(pair, &Parts::of_recorded(pair)).0
}

#[cfg(test)]
mod tests;
