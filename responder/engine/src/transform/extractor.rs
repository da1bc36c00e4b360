//! Extractors: where a chain reads its value and writes the result.
//!
//! The extractor decides which message a chain works on. Each kind has its line in [`KINDS`].

mod body;
mod cookie;
mod empty;
mod file;
mod header;
mod latency;
mod pair;
mod query;
mod session;
mod status;
mod target;
mod url;
mod variable;

use std::{fmt::Debug, sync::Arc};

use super::{
    Node, Side, Step,
    materials::Required,
    message::Message,
    op::{Nature, StepError},
    schema,
    world::Scope,
};
use crate::diagnostic::{Diagnostic, Diagnostics};

/// An extractor that was read from a template.
pub(crate) type Extractor = Arc<dyn Extract>;

/// A kind of extractor.
pub(crate) trait Extract: Debug + Send + Sync {
    /// The message that it reads.
    fn side(&self) -> Side;

    /// Reads the value.
    fn read(&self, message: &Message<'_>, scope: &mut Scope) -> Result<Vec<u8>, StepError>;

    /// Writes the result. It is only called with something else than what was read.
    fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        scope: &mut Scope,
    ) -> Result<(), StepError>;

    /// What the value depends on, besides the message.
    fn nature(&self) -> Nature {
        Nature::Static
    }

    /// What it needs from a node.
    fn require(&self, _required: &mut Required) {}
}

type ParseExtractor = fn(&mut Step<'_>, &str, &mut Diagnostics) -> Option<Extractor>;

/// A kind of extractor by its names.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    parse: ParseExtractor,
}

const fn kind(name: &'static str, aliases: &'static [&'static str], parse: ParseExtractor) -> Kind {
    Kind { name, aliases, parse }
}

/// Every kind of extractor, sorted by name.
pub(crate) const KINDS: &[Kind] = &[
    kind("empty", &[], empty::parse),
    kind("file", &[], file::parse),
    kind("http_queryparam", &[], query::parse),
    kind("http_req_cookie", &[], cookie::parse_request),
    kind("http_req_header", &["http_header"], header::parse_request),
    kind("http_req_trailer", &[], header::parse_request_trailer),
    kind("http_res_cookie", &[], cookie::parse_response),
    kind("http_res_header", &[], header::parse_response),
    kind("http_res_trailer", &[], header::parse_response_trailer),
    kind("http_status_code", &[], status::parse),
    kind("http_url", &[], url::parse),
    kind("json_path", &[], pair::parse),
    kind("latency", &[], latency::parse),
    kind("req_body", &["http_req_body"], body::parse_request),
    kind("res_body", &["http_res_body"], body::parse_response),
    kind("session", &[], session::parse),
    kind("target_hostname", &["target_host"], target::parse_hostname),
    kind("target_port", &[], target::parse_port),
    kind("variable", &[], variable::parse),
];

/// Reads the `extractor` of a chain. A kind that is not known leaves out its chain and no other.
pub(super) fn parse(node: Option<&Node>, path: &str, found: &mut Diagnostics) -> Option<Extractor> {
    let Some(node) = node else {
        found.push(Diagnostic::error("missing_field", path, "the chain has no `extractor`"));
        return None;
    };
    let mut step = Step::parse(node, path, found)?;
    let known = KINDS.iter().find(|kind| {
        kind.name.eq_ignore_ascii_case(step.kind)
            || kind.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(step.kind))
    });
    let Some(kind) = known else {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        found.push(
            Diagnostic::warning(
                "unknown_extractor",
                format!("{path}.type"),
                format!("there is no extractor `{}`; its chain is left out", step.kind),
            )
            .unknown_name(step.kind, &names),
        );
        return None;
    };
    let extractor = (kind.parse)(&mut step, path, found)?;
    step.finish(schema::extractor_fields(kind.name), path, found);
    Some(extractor)
}

/// The `name` and `index` that several kinds have.
fn named(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<(String, usize)> {
    let name = match step.optional("header") {
        Some(name) => name,
        None => step.required("name", path, found)?,
    };
    if name.is_empty() {
        found.push(Diagnostic::error(
            "missing_field",
            format!("{path}.config.name"),
            "the name is empty",
        ));
        return None;
    }
    Some((name, step.number("index", 0, path, found)?))
}

/// What an extractor says of a message of the other side, which the runner never hands to it.
fn other_side() -> StepError {
    StepError::new("wrong_side", "the extractor works on the other message of the pair")
}

/// What an extractor says when its place does not exist.
fn not_found(what: &str) -> StepError {
    StepError::new("parameter_not_found", format!("{what} not found"))
}

#[cfg(test)]
mod tests;
