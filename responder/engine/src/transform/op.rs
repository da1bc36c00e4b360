//! The steps of a chain, and how a chain runs.
//!
//! [`apply`] is the whole of the two-phase execution: a step that takes a part out of its value calls `apply` for the rest of the chain on
//! that part and puts the result back. A result that equals what was taken out changes nothing, byte for byte.
//!
//! Each kind of step has its file and its line in [`KINDS`].

mod base64;
mod constant;
mod csv_rows;
mod dataframe;
mod date;
mod dlp;
mod grpc_field;
mod gzip;
mod http_auth;
mod json_delete;
mod json_path;
mod json_selector;
mod json_window;
mod jwt_claim;
mod jwt_resign;
mod one_of;
mod rand_string;
mod regex;
mod replace;
mod scrub;
mod signature_edit;
mod sleep;
mod smart_replace;
mod split;
mod tag_session;
mod trim;
mod url_escape;
mod variable;
mod xml_path;

use std::{collections::HashSet, fmt::Debug, sync::Arc};

use super::{Node, Step, materials::Required, schema, world::Scope};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    jwt::{ResignConfig, key::SecretRef},
};
pub(super) use gzip::behind_a_body as gzip_behind_a_body;
use json_window::json_window;

/// A step that was read from a template.
pub(crate) type Op = Arc<dyn Transform>;

/// A kind of step.
pub(crate) trait Transform: Debug + Send + Sync {
    /// Works on a value, hands it to the `rest` of the chain by [`apply`], and returns what takes the value's place.
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError>;

    /// What its result depends on.
    fn nature(&self) -> Nature {
        Nature::Static
    }

    /// What it needs from a node: files, tables, environment variables and secrets.
    fn require(&self, _required: &mut Required, _secrets: &mut Vec<SecretRef>) {}

    /// The claims of tokens that it sets, which tell of the template and no longer of the recording.
    fn sets_claims(&self, _names: &mut HashSet<String>) {}

    /// Whether each call goes one further, through a table or a list.
    fn advances(&self) -> bool {
        false
    }

    /// Whether answers that come later may change because of it: it learns replacements.
    fn learns(&self) -> bool {
        false
    }
}

/// What the result of a step, and so of a chain, depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nature {
    /// On what was recorded only: the chain runs once, when the snapshot is compiled.
    Static,
    /// On a token, which is made anew: the compiler leaves a hole that is filled per request.
    Token,
    /// On the request, the clock, chance or what was remembered: the chain runs for each request.
    PerRequest,
}

/// Where a kind of step does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Works {
    /// In responders, and in what a load client would do alike.
    Everywhere,
    /// In a load client only: it is recognised, and a responder's chain that has it is left out for this reason.
    GeneratorOnly(&'static str),
    /// Nowhere: it is recognised, and its chain is left out. What to do instead.
    Nowhere(&'static str),
}

type ParseStep = fn(&mut Step<'_>, &str, &mut Diagnostics) -> Option<Op>;

/// A kind of step by its names.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) works: Works,
    parse: ParseStep,
}

const fn kind(name: &'static str, aliases: &'static [&'static str], parse: ParseStep) -> Kind {
    Kind { name, aliases, works: Works::Everywhere, parse }
}

const fn generator_only(name: &'static str, why: &'static str) -> Kind {
    Kind { name, aliases: &[], works: Works::GeneratorOnly(why), parse: |_, _, _| None }
}

const fn nowhere(
    name: &'static str,
    aliases: &'static [&'static str],
    instead: &'static str,
) -> Kind {
    Kind { name, aliases, works: Works::Nowhere(instead), parse: |_, _, _| None }
}

/// Every kind of step, sorted by name.
pub(crate) const KINDS: &[Kind] = &[
    generator_only("aws_auth", "it signs requests that a load client sends to AWS"),
    kind("base64", &[], base64::parse),
    kind("constant", &[], constant::parse),
    kind("csv", &[], csv_rows::parse),
    kind("csv_dataframe", &[], dataframe::parse_load),
    kind("csv_iter", &[], csv_rows::parse_iter),
    kind("dataframe_lookup", &[], dataframe::parse_lookup),
    kind("date", &[], date::parse),
    nowhere(
        "db_add_row",
        &[],
        "rows are added to answers of databases, which are not HTTP; edit the recording instead",
    ),
    kind("delete_sig", &[], signature_edit::parse_delete),
    kind("dlp_field", &[], dlp::parse_field),
    kind("dlp_json", &[], dlp::parse_json),
    kind("grpc_field", &[], grpc_field::parse),
    kind("gzip", &[], gzip::parse),
    kind("http_auth", &[], http_auth::parse),
    nowhere(
        "http_match_request_body",
        &[],
        "use the extractor `req_body` with `json_delete` or `scrub_date`",
    ),
    nowhere(
        "http_match_request_body_soap_operation",
        &[],
        "use the extractor `req_body` with `xml_path` and `store_sig`",
    ),
    nowhere(
        "http_match_request_body_xpath",
        &[],
        "use the extractor `req_body` with `xml_path` and `store_sig`",
    ),
    kind("json_delete", &[], json_delete::parse),
    kind("json_path", &[], json_path::parse),
    kind("json_selector", &[], json_selector::parse),
    kind("jwt_claim", &[], jwt_claim::parse),
    kind("jwt_resign", &[], jwt_resign::parse),
    nowhere("map_load", &[], "use `var_load`, or `dataframe_lookup` for many values"),
    nowhere("map_store", &[], "use `var_store`"),
    kind("one_of", &[], one_of::parse),
    kind("rand_string", &[], rand_string::parse),
    kind("regex", &[], regex::parse),
    kind("replace", &[], replace::parse),
    generator_only("sasl_auth", "it authenticates connections that a load client makes to MongoDB"),
    kind("scrub", &[], scrub::parse),
    kind("scrub_date", &[], scrub::parse_date),
    kind("sleep", &[], sleep::parse),
    kind("smart_replace", &["train"], smart_replace::parse),
    kind("smart_replace_csv", &["train_csv"], smart_replace::parse_csv),
    kind("smart_replace_recorded", &["train_actual"], smart_replace::parse_recorded),
    kind("split", &[], split::parse),
    kind("store_sig", &[], signature_edit::parse_store),
    kind("tag_session", &[], tag_session::parse),
    kind("trim", &[], trim::parse),
    kind("url_decode", &[], url_escape::parse_decode),
    kind("url_encode", &[], url_escape::parse_encode),
    kind("var_load", &["variable_load"], variable::parse_load),
    kind("var_store", &["variable_store"], variable::parse_store),
    kind("xml_path", &[], xml_path::parse),
];

/// Why a chain is skipped for one message. The message stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct StepError {
    /// A stable code.
    pub(crate) code: &'static str,
    /// What happened; holds nothing of the message.
    pub(crate) message: String,
}

impl StepError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What a running chain may touch besides its value.
pub(crate) trait Effects {
    /// The re-signed form of a token, or the token itself when it is to stay.
    fn resign(&mut self, token: &[u8], config: &Arc<ResignConfig>) -> Result<Vec<u8>, StepError>;

    /// How many tokens were re-signed so far.
    fn resigned(&self) -> usize {
        0
    }

    /// Forgets the tokens after this many: the chain that re-signed them failed, and its message stays as it was.
    fn forget(&mut self, _resigned: usize) {}

    /// The current form of a value that tells the validity of the token re-signed last, for example `expires_in` beside it; `None` when it
    /// stays. `text` is the recorded value without quotes.
    fn validity(&mut self, _name: &str, _text: &str) -> Option<Vec<u8>> {
        None
    }

    /// The run that the chain is part of.
    fn scope(&mut self) -> &mut Scope;
}

/// Running chains where nothing can be signed: a chain that comes to a token stops there.
pub(crate) struct NoTokens {
    pub(crate) scope: Scope,
}

impl Effects for NoTokens {
    fn resign(&mut self, token: &[u8], _config: &Arc<ResignConfig>) -> Result<Vec<u8>, StepError> {
        if token.is_empty() {
            Ok(Vec::new())
        } else {
            Err(StepError::new("not_signed", "tokens stay as recorded"))
        }
    }

    fn scope(&mut self) -> &mut Scope {
        &mut self.scope
    }
}

/// Runs the steps on a value and returns what takes its place.
pub(crate) fn apply(
    ops: &[Op],
    value: &[u8],
    effects: &mut dyn Effects,
) -> Result<Vec<u8>, StepError> {
    match ops.split_first() {
        Some((op, rest)) => op.apply(value, rest, effects),
        None => Ok(value.to_vec()),
    }
}

/// Reads a step. A kind that is not known leaves out its chain and no other.
pub(super) fn parse(node: &Node, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let mut step = Step::parse(node, path, found)?;
    let Some(kind) = kind_of(step.kind) else {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        found.push(
            Diagnostic::warning(
                "unknown_transform",
                format!("{path}.type"),
                format!("there is no transform `{}`; its chain is left out", step.kind),
            )
            .unknown_name(step.kind, &names),
        );
        return None;
    };
    if let Works::GeneratorOnly(why) = kind.works {
        found.push(Diagnostic::warning(
            "generator_only",
            format!("{path}.type"),
            format!("`{}` does not work in a responder: {why}; its chain is left out", kind.name),
        ));
        return None;
    }
    if let Works::Nowhere(instead) = kind.works {
        let message = format!("`{}` is not supported; its chain is left out", kind.name);
        found.push(
            Diagnostic::warning("unsupported_transform", format!("{path}.type"), message)
                .hint(instead),
        );
        return None;
    }
    let op = (kind.parse)(&mut step, path, found)?;
    step.finish(schema::step_fields(kind.name), path, found);
    Some(op)
}

fn kind_of(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| {
        kind.name.eq_ignore_ascii_case(name)
            || kind.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests;
