//! The steps of a chain, and how a chain runs.
//!
//! [`apply`] is the whole of the two-phase execution: a step that takes a part out of its value calls `apply` for the rest of the chain on
//! that part and puts the result back. A result that equals what was taken out changes nothing, byte for byte.

mod base64;
mod json_path;
mod regex;
mod split;

use std::sync::Arc;

pub(crate) use self::json_path::JsonPath;
use self::{base64::Base64, regex::Pattern, split::Split};
use super::{Node, Step, did_you_mean};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    jwt::ResignConfig,
    signature::Edit,
};

/// One step.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    JsonPath(JsonPath),
    Constant(String),
    Regex(Pattern),
    Split(Split),
    Base64(Base64),
    DeleteSig(String),
    StoreSig(Option<String>),
    JwtResign(Arc<ResignConfig>),
}

const KNOWN: [&str; 8] =
    ["json_path", "constant", "regex", "split", "base64", "delete_sig", "store_sig", "jwt_resign"];

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
    fn resigned(&self) -> usize;

    /// Forgets the tokens after this many: the chain that re-signed them failed, and its message stays as it was.
    fn forget(&mut self, resigned: usize);

    /// The current form of a value that tells the validity of the token re-signed last, for example `expires_in` beside it; `None` when it
    /// stays. `text` is the recorded value without quotes.
    fn validity(&mut self, name: &str, text: &str) -> Option<Vec<u8>>;

    /// Changes the signature.
    fn edit_signature(&mut self, edit: Edit);
}

/// Runs the steps on a value and returns what takes its place.
pub(crate) fn apply(
    ops: &[Op],
    value: &[u8],
    effects: &mut dyn Effects,
) -> Result<Vec<u8>, StepError> {
    let Some((op, rest)) = ops.split_first() else { return Ok(value.to_vec()) };
    match op {
        Op::JsonPath(op) => op.apply(value, rest, effects),
        Op::Regex(op) => op.apply(value, rest, effects),
        Op::Split(op) => op.apply(value, rest, effects),
        Op::Base64(op) => op.apply(value, rest, effects),
        Op::Constant(new) => apply(rest, new.as_bytes(), effects),
        Op::DeleteSig(key) => {
            effects.edit_signature(Edit::Delete { key: key.clone() });
            apply(rest, value, effects)
        }
        Op::StoreSig(key) => {
            effects.edit_signature(Edit::Store { key: key.clone(), value: value.to_vec() });
            apply(rest, value, effects)
        }
        Op::JwtResign(config) => {
            let token = effects.resign(value, config)?;
            apply(rest, &token, effects)
        }
    }
}

impl Op {
    pub(super) fn parse(node: &Node, path: &str, found: &mut Diagnostics) -> Option<Self> {
        let mut step = Step::parse(node, path, found)?;
        let op = match step.kind.to_ascii_lowercase().as_str() {
            "json_path" => Self::JsonPath(JsonPath::parse(&mut step, path, found)?),
            "regex" => Self::Regex(Pattern::parse(&mut step, path, found)?),
            "split" => Self::Split(Split::parse(&mut step, path, found)?),
            "base64" => Self::Base64(Base64::parse(&mut step, path, found)?),
            "constant" => {
                let new = match step.optional("value") {
                    Some(value) => value,
                    None => step.required("new", path, found)?,
                };
                Self::Constant(Step::plain(new, &format!("{path}.config.new"), found)?)
            }
            "delete_sig" => Self::DeleteSig(step.required("key", path, found)?),
            "store_sig" => Self::StoreSig(step.optional("key").filter(|key| !key.is_empty())),
            "jwt_resign" => {
                let config = ResignConfig::parse(&step.config, &format!("{path}.config"), found)?;
                return Some(Self::JwtResign(Arc::new(config)));
            }
            other => {
                found.push(
                    Diagnostic::error(
                        "unknown_transform",
                        format!("{path}.type"),
                        format!("there is no transform `{other}`"),
                    )
                    .hint(did_you_mean(other, &KNOWN)),
                );
                return None;
            }
        };
        step.finish(path, found);
        Some(op)
    }
}
