//! Whether a suggested template does what it is for: it is compiled, as a responder does it, against each response that issues tokens.

use std::collections::{BTreeMap, HashSet};

use super::{
    Analysis, Suggestion,
    endpoint::Endpoint,
    find::{self, Seen},
    suggest::issued_ids,
    token::TokenId,
};
use crate::{
    compile::compile,
    diagnostic::{Diagnostic, Severity},
    request::Parts,
    snapshot::{RrPair, Serve},
    test_config::TestConfig,
    transform::Template,
};

/// Looks at the pairs of the recording once more, one by one.
#[derive(Debug)]
pub struct Check {
    template: Template,
    config: TestConfig,
    issued: HashSet<TokenId>,
    covered: u64,
    missed: BTreeMap<Endpoint, Missed>,
}

#[derive(Debug, Default)]
struct Missed {
    tokens: u64,
    places: Vec<String>,
    why: Vec<String>,
}

/// So many places and reasons are told per endpoint.
const MAX_TOLD: usize = 5;

impl Check {
    /// A check of what was suggested for these tokens.
    #[must_use]
    pub fn new(analysis: &Analysis, suggestion: &Suggestion, config: TestConfig) -> Self {
        let (template, _) = Template::parse(suggestion.template_json.as_bytes());
        Self { template, config, issued: issued_ids(analysis), covered: 0, missed: BTreeMap::new() }
    }

    /// Looks at a pair.
    pub fn push(&mut self, pair: &RrPair) {
        let (hits, _) = find::in_response(pair);
        let mut expected = HashSet::new();
        let mut places = Vec::new();
        for hit in hits {
            if let Seen::Token(token) = hit.seen
                && self.issued.contains(&token.id)
                && expected.insert(token.id)
            {
                places.push(hit.place.to_string());
            }
        }
        if expected.is_empty() {
            return;
        }
        let (compiled, found) =
            compile(vec![pair.clone()], &self.template, &self.config, Serve::All);
        if compiled.pairs() == 0 {
            return;
        }
        let covered = compiled.tokens().min(expected.len());
        let missing = expected.len() - covered;
        self.covered += u64::try_from(covered).unwrap_or(0);
        if missing == 0 {
            return;
        }
        let (endpoint, _) = Endpoint::of(pair, &Parts::of_recorded(pair));
        let missed = self.missed.entry(endpoint).or_default();
        missed.tokens += u64::try_from(missing).unwrap_or(0);
        let why = found.into_vec().into_iter().filter(|finding| finding.severity > Severity::Info);
        extend(
            &mut missed.why,
            why.map(|finding| format!("{} [{}]", finding.message, finding.code)),
        );
        extend(&mut missed.places, places.into_iter());
    }

    /// How many issued tokens the template re-signs, counting each response, and what is told of the others.
    #[must_use]
    pub fn finish(self) -> (u64, Vec<Diagnostic>) {
        let findings = self.missed.into_iter().map(|(endpoint, missed)| {
            let why = if missed.why.is_empty() {
                String::new()
            } else {
                format!(": {}", missed.why.join("; "))
            };
            let places = missed.places.join(", ");
            let message = format!("tokens at {places} are served as recorded{why}");
            let mut finding = Diagnostic::warning("token_not_covered", "", message)
                .hint("write a chain for them by hand")
                .subject(endpoint.to_string());
            finding.count = missed.tokens;
            finding
        });
        (self.covered, findings.collect())
    }
}

fn extend(told: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for text in more {
        if told.len() < MAX_TOLD && !told.contains(&text) {
            told.push(text);
        }
    }
}
