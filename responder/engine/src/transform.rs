//! Transform templates: chains of extractor, filters and steps.
//!
//! A chain is a composition of functions. A two-phase step such as `json_path` takes its value out of what it is given, lets the rest of
//! the chain work on it, and puts the result back; so "run forward, then re-insert in reverse" is plain recursion, see [`op`]. The
//! extractor decides whether a chain works on requests (before matching, recorded and live alike) or on recorded responses.

mod document;
mod effort;
pub(crate) mod extractor;
pub(crate) mod filter;
mod materials;
pub(crate) mod message;
mod nearest;
pub(crate) mod op;
mod random;
mod replacements;
pub mod schema;
mod step;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
mod text;
pub(crate) mod time;
pub(crate) mod token_view;
mod variable;
mod world;

use std::{collections::HashSet, sync::Arc};

use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    dlp::Redactor,
    jwt::key::SecretRef,
};

pub(crate) use document::Node;
use extractor::Extractor;
use filter::Filters;
pub use filter::PairFilter;
pub use materials::{Materials, Required};
use message::Message;
pub(crate) use nearest::{did_you_mean, is_misspelt};
pub(crate) use op::Nature;
use op::{Effects, Op, StepError};
pub(crate) use step::Step;
pub(crate) use text::{Text, split_outside};
pub(crate) use time::format_duration;
pub use time::parse_duration;
use variable::Variable;
pub(crate) use world::{Bodies, Captured, Finalizer, MAX_DELAY, Scope, World};

/// A transform template, ready to compile snapshots with.
#[derive(Debug, Clone, Default)]
pub struct Template {
    id: String,
    responder: Vec<Chain>,
    variables: Vec<Variable>,
    generator: usize,
    /// The chains of the generator that work on requests, as far as they can be read.
    sent: Vec<Chain>,
    materials: Arc<Materials>,
}

/// One chain of the responder section.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    /// Its path in the document, for example `responder[0]`.
    pub(crate) path: String,
    pub(crate) filters: Filters,
    pub(crate) extractor: Extractor,
    pub(crate) ops: Vec<Op>,
    /// The kinds of the steps, as they were written.
    pub(crate) kinds: Vec<String>,
}

/// Which message a chain works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

impl Template {
    /// Reads a template and every finding about it. A chain with an error is left out of the template; the document as a whole is
    /// acceptable when no finding is an error.
    #[must_use]
    pub fn parse(json: &[u8]) -> (Self, Diagnostics) {
        let mut found = Diagnostics::default();
        let document = match document::read(json) {
            Ok(document) => document,
            Err(why) => {
                found.push(*why);
                return (Self::default(), found);
            }
        };
        let (root, at) = unwrap(&document);
        document::find_twice(root, &at, &mut found);
        let id = root.get("id").and_then(Node::as_str).unwrap_or_default().to_owned();
        if id.is_empty() {
            found.push(Diagnostic::error(
                "missing_field",
                join(&at, "id"),
                "a transform template needs an id",
            ));
        }
        let mut responder = Vec::new();
        for (path, node) in section(root, &at, "responder", &mut found) {
            responder.extend(Chain::parse(&node, path, &mut found));
        }
        let variables: Vec<(String, Variable)> =
            section(root, &at, "responderVariables", &mut found)
                .into_iter()
                .filter_map(|(path, node)| {
                    Variable::parse(&node, &path, &mut found).map(|variable| (path, variable))
                })
                .collect();
        variable::find_cycles(&variables, &mut found);
        let variables = variables.into_iter().map(|(_, variable)| variable).collect();
        let generator = section(root, &at, "generator", &mut found);
        let sent = generator
            .iter()
            .filter_map(|(path, node)| read_generator(node, path, &mut found))
            .filter(|chain| chain.side() == Side::Request)
            .collect();
        let generator = generator.len();
        (Self { id, responder, variables, generator, sent, materials: Arc::default() }, found)
    }

    /// The template's own id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many chains the responder runs.
    #[must_use]
    pub fn responder_chains(&self) -> usize {
        self.responder.len()
    }

    /// How many chains are left to a load client.
    #[must_use]
    pub fn generator_chains(&self) -> usize {
        self.generator
    }

    /// The secrets that the chains of a load client name, sorted, each once.
    #[must_use]
    pub fn generator_secrets(&self) -> Vec<SecretRef> {
        let (mut required, mut secrets) = (Required::default(), Vec::new());
        for op in self.sent.iter().flat_map(|chain| &chain.ops) {
            op.require(&mut required, &mut secrets);
        }
        secrets.sort();
        secrets.dedup();
        secrets
    }

    /// The chains that a load client runs on the requests that it sends.
    pub(crate) fn sent(&self) -> &[Chain] {
        &self.sent
    }

    /// The secrets that the responder's chains name, sorted, each once.
    #[must_use]
    pub fn required_secrets(&self) -> Vec<SecretRef> {
        let (_, mut secrets) = self.require();
        secrets.sort();
        secrets.dedup();
        secrets
    }

    /// What the responder's chains need from a node besides secrets.
    #[must_use]
    pub fn required(&self) -> Required {
        self.require().0
    }

    /// Hands in what [`Self::required`] asks for.
    #[must_use]
    pub fn with_materials(mut self, materials: Arc<Materials>) -> Self {
        self.materials = materials;
        self
    }

    fn require(&self) -> (Required, Vec<SecretRef>) {
        let (mut required, mut secrets) = (Required::default(), Vec::new());
        let variables = self.variables.iter().map(|variable| (&variable.extractor, &variable.ops));
        let chains = self.responder.iter().map(|chain| (&chain.extractor, &chain.ops));
        for (extractor, ops) in variables.chain(chains) {
            extractor.require(&mut required);
            ops.iter().for_each(|op| op.require(&mut required, &mut secrets));
        }
        (required, secrets)
    }

    /// Whether its chains learn to replace values in later answers.
    pub(crate) fn learns(&self) -> bool {
        self.responder.iter().flat_map(|chain| &chain.ops).any(|op| op.learns())
    }

    /// The world that its chains start in.
    pub(crate) fn world(&self, redactor: Option<Redactor>) -> Arc<World> {
        let world = World::new(Arc::clone(&self.materials), self.variables.clone());
        Arc::new(world.redacting(redactor).telling(self.required().secret_texts))
    }

    pub(crate) fn chains(&self) -> &[Chain] {
        &self.responder
    }
}

impl Chain {
    fn parse(node: &Node, path: String, found: &mut Diagnostics) -> Option<Self> {
        if !node.is_object() {
            found.push(Diagnostic::error("wrong_type", path, "a chain is an object"));
            return None;
        }
        if matches!(node.get("active"), Some(Node::Bool(false))) {
            found.push(Diagnostic::info(
                "chain_inactive",
                path,
                "the chain is not active and is left out",
            ));
            return None;
        }
        let filters = Filters::parse(node.get("filters"), &join(&path, "filters"), found);
        let extractor = extractor::parse(node.get("extractor"), &join(&path, "extractor"), found);
        let ops = parse_steps(node.get("transforms"), &join(&path, "transforms"), found);
        let (extractor, mut ops) = (extractor?, ops?);
        if is_type(node.get("extractor"), |kind| kind.ends_with("_body"))
            && let Some(Node::List(steps)) = node.get("transforms")
            && is_type(steps.first(), |kind| kind == "gzip")
            && let Some(first) = ops.first_mut()
        {
            *first = op::gzip_behind_a_body();
        }
        let chain = Self { filters: filters?, extractor, ops, kinds: kinds_of(node), path };
        chain.check(found);
        Some(chain)
    }

    /// Findings about the steps taken together.
    fn check(&self, found: &mut Diagnostics) {
        if self.nature() == Nature::Token && self.side() == Side::Request {
            found.push(
                Diagnostic::warning(
                    "request_token_not_resigned",
                    self.path.clone(),
                    "tokens that a client presents are not re-signed, so this chain's jwt_resign changes nothing",
                )
                .hint("use the extractor `http_res_body` to re-sign tokens in recorded responses"),
            );
        }
        if self.ops.is_empty() {
            found.push(Diagnostic::warning(
                "chain_without_transforms",
                self.path.clone(),
                "the chain has no transforms and changes nothing",
            ));
        }
    }

    pub(crate) fn side(&self) -> Side {
        self.extractor.side()
    }

    /// What its result depends on.
    pub(crate) fn nature(&self) -> Nature {
        let ops = self.ops.iter().map(|op| op.nature());
        ops.chain([self.extractor.nature()]).max().unwrap_or(Nature::Static)
    }

    /// The claims of tokens that it sets.
    pub(crate) fn sets_claims(&self, names: &mut HashSet<String>) {
        self.ops.iter().for_each(|op| op.sets_claims(names));
    }

    /// Runs the chain on a message. One that fails changes nothing.
    pub(crate) fn run(
        &self,
        message: &mut Message<'_>,
        effects: &mut dyn Effects,
    ) -> Result<(), StepError> {
        let value = self.extractor.read(message, effects.scope())?;
        let (mark, resigned) = (effects.scope().mark(), effects.resigned());
        let outcome = op::apply(&self.ops, &value, effects).and_then(|new| {
            if new == value { Ok(()) } else { self.extractor.write(message, new, effects.scope()) }
        });
        match outcome {
            Ok(()) => {
                let finalizers = effects.scope().finalizers_since(&mark);
                let later = message.finish(finalizers);
                effects.scope().finalizers.extend(later);
                if let Message::Response(reply) = message {
                    reply.hold(std::mem::take(&mut effects.scope().delay));
                }
                Ok(())
            }
            Err(why) => {
                effects.scope().rollback(mark);
                effects.forget(resigned);
                Err(why)
            }
        }
    }

    /// Whether steps work on a token after it was re-signed.
    pub(crate) fn looks_at_its_token(&self) -> bool {
        self.ops.iter().rev().skip(1).any(|op| op.nature() == Nature::Token)
    }
}

/// Whether an extractor or a step is of such a type.
fn is_type(node: Option<&Node>, is: impl Fn(&str) -> bool) -> bool {
    let kind = node.and_then(|node| node.get("type")).and_then(Node::as_str);
    kind.is_some_and(|kind| is(&kind.to_ascii_lowercase()))
}

/// Reads a list of steps.
fn parse_steps(node: Option<&Node>, path: &str, found: &mut Diagnostics) -> Option<Vec<Op>> {
    let steps = match node {
        Some(Node::List(steps)) => steps.as_slice(),
        None | Some(Node::Null) => &[],
        Some(_) => {
            found.push(Diagnostic::error("wrong_type", path, "`transforms` is a list"));
            return None;
        }
    };
    // Every step is read before any verdict, so that one answer holds all findings.
    let ops: Vec<Option<Op>> = steps
        .iter()
        .enumerate()
        .map(|(nth, step)| op::parse(step, &format!("{path}[{nth}]"), found))
        .collect();
    ops.into_iter().collect()
}

/// The types of a chain's steps, as they were written.
fn kinds_of(chain: &Node) -> Vec<String> {
    let Some(Node::List(steps)) = chain.get("transforms") else { return Vec::new() };
    let kind = |step: &Node| step.get("type").and_then(Node::as_str).unwrap_or_default().to_owned();
    steps.iter().map(kind).collect()
}

/// Generator chains work on traffic that a load client sends and are left to it; only names that nobody knows are told.
fn read_generator(node: &Node, path: &str, found: &mut Diagnostics) -> Option<Chain> {
    let mut all = Diagnostics::default();
    let chain = Chain::parse(node, path.to_owned(), &mut all);
    let unknown =
        |why: &Diagnostic| why.code.starts_with("unknown_") && why.code != "unknown_field";
    found.extend(all.into_vec().into_iter().filter(unknown));
    chain
}

/// The template inside the wrappers that snapshots and blueprints put around it.
fn unwrap(document: &Node) -> (&Node, String) {
    for wrapper in ["tokenizerConfig", "tokenizeConfig"] {
        if let Some(inner) = document.get(wrapper)
            && inner.is_object()
        {
            return (inner, wrapper.to_owned());
        }
    }
    (document, String::new())
}

fn section(root: &Node, at: &str, name: &str, found: &mut Diagnostics) -> Vec<(String, Node)> {
    let path = join(at, name);
    match root.get(name) {
        None | Some(Node::Null) => Vec::new(),
        Some(Node::List(chains)) => chains
            .iter()
            .enumerate()
            .map(|(nth, chain)| (format!("{path}[{nth}]"), chain.clone()))
            .collect(),
        Some(_) => {
            found.push(Diagnostic::error(
                "wrong_type",
                path,
                format!("`{name}` is a list of chains"),
            ));
            Vec::new()
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests;
