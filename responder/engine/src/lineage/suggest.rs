//! The template that re-signs the tokens of a recording: one chain for each place that issues them, no wider than it has to be.

mod findings;
mod secrets;
mod sites;
mod template;

pub use self::secrets::{Options, OptionsError, SecretUse};

use std::collections::{BTreeMap, HashSet};

use super::{
    Analysis,
    endpoint::Endpoint,
    graph::Record,
    place::Place,
    token::{Form, Kind, TokenId},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    transform::Template,
};
use secrets::Secrets;
use sites::Site;
use template::{ChainDocument, Document};

/// A suggested template.
#[derive(Debug, Clone)]
pub struct Suggestion {
    /// The template, JSON text.
    pub template_json: String,
    /// The secrets that it names.
    pub secrets: Vec<SecretUse>,
    /// What is worth knowing about it, and what it leaves as recorded.
    pub findings: Vec<Diagnostic>,
}

/// Tokens of one kind at one place.
#[derive(Debug, Clone)]
struct Issue<'a> {
    endpoint: &'a Endpoint,
    /// How filters recognise the path.
    location: Location,
    place: &'a Place,
    kind: &'a Kind,
    tokens: u64,
}

/// How a filter recognises a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Location {
    Is(String),
    Matches(String),
}

/// Suggests a template for what was found.
#[must_use]
pub fn suggest(analysis: &Analysis, options: &Options) -> Suggestion {
    let mut found = Diagnostics::default();
    let issues = issues(analysis);
    let secrets = Secrets::new(&issues, options);
    let mut chains: Vec<ChainDocument> = Vec::new();
    for site in sites::of(&issues, analysis) {
        chains.extend(chains_of(&site, &secrets, &mut found));
    }
    if chains.is_empty() {
        found.push(Diagnostic::warning(
            "nothing_to_resign",
            "",
            "no response of the recording issues a token that can be re-signed; the template changes nothing",
        ));
    }
    findings::about(analysis.report(), secrets.list(), &mut found);
    let document = Document::new(options.id(), chains);
    Suggestion {
        template_json: document.to_json(),
        secrets: secrets.list().to_vec(),
        findings: found.into_vec(),
    }
}

/// The tokens that responses issue and that can be re-signed.
fn issued(analysis: &Analysis) -> impl Iterator<Item = (TokenId, &Record)> {
    analysis.graph.tokens.iter().filter_map(|(id, record)| {
        let kind = analysis.graph.kinds.get(record.kind)?;
        (kind.form == Form::Jws && record.refusal.is_none() && record.is_issued())
            .then_some((*id, record))
    })
}

/// Their ids.
pub(super) fn issued_ids(analysis: &Analysis) -> HashSet<TokenId> {
    issued(analysis).map(|(id, _)| id).collect()
}

fn issues(analysis: &Analysis) -> Vec<Issue<'_>> {
    let graph = &analysis.graph;
    let mut counted: BTreeMap<(usize, usize, usize), u64> = BTreeMap::new();
    for (_, record) in issued(analysis) {
        for seat in &record.issued {
            *counted.entry((seat.endpoint, seat.place, record.kind)).or_default() += 1;
        }
    }
    let issues = counted.into_iter().filter_map(|((endpoint, place, kind), tokens)| {
        let paths = graph.paths.get(endpoint)?;
        let endpoint = graph.endpoints.get(endpoint)?;
        let location = match &paths.only {
            Some(only) if !paths.query && !endpoint.holds_token() => Location::Is(only.clone()),
            _ => Location::Matches(endpoint.pattern(paths.query)),
        };
        Some(Issue {
            endpoint,
            location,
            place: graph.places.get(place)?,
            kind: graph.kinds.get(kind)?,
            tokens,
        })
    });
    let mut issues: Vec<Issue<'_>> = issues.collect();
    issues.sort_by_key(|issue| (issue.endpoint, issue.place, issue.kind));
    issues
}

/// The chains of a site: one, or one per algorithm where it issues tokens of several.
fn chains_of(site: &Site<'_>, secrets: &Secrets, found: &mut Diagnostics) -> Vec<ChainDocument> {
    let mut by_alg: BTreeMap<&str, Vec<&Issue<'_>>> = BTreeMap::new();
    for issue in &site.issues {
        by_alg.entry(&issue.kind.alg).or_default().push(issue);
    }
    let several = by_alg.len() > 1;
    let mut chains = Vec::new();
    for (alg, issues) in by_alg {
        let Some(secret) = secrets.of_most(&issues, &site.to_string(), found) else { continue };
        let chain = ChainDocument::new(site, &secret, several.then_some(alg))
            .and_then(|chain| chain.is_sound().map(|()| chain));
        match chain {
            Ok(chain) => chains.push(chain),
            Err(why) => {
                let count = issues.iter().map(|issue| issue.tokens).sum();
                let mut finding = Diagnostic::warning(
                    "token_not_covered",
                    "",
                    format!("tokens are served as recorded: {why}"),
                )
                .subject(site.to_string());
                finding.count = count;
                found.push(finding);
            }
        }
    }
    chains
}

/// Why our own engine would not run the only chain of a template; `None` when it runs.
fn refusal(json: &str) -> Option<Diagnostic> {
    let (template, found) = Template::parse(json.as_bytes());
    if template.responder_chains() == 1 && !found.has_errors() {
        return None;
    }
    found.into_vec().into_iter().max_by_key(|finding| finding.severity)
}
