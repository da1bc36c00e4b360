//! `responderVariables`: values that are made when a session starts, and anew for each pair where their steps walk through a table.

use bytes::Bytes;

use super::{
    Diagnostic, Diagnostics, Node, Scope,
    extractor::{self, Extractor},
    join,
    message::Message,
    op::{self, NoTokens, Op},
    parse_steps,
};
use crate::request::Parts;

/// A variable of a template.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    name: String,
    pub(super) extractor: Extractor,
    pub(super) ops: Vec<Op>,
}

impl Variable {
    pub(super) fn parse(node: &Node, path: &str, found: &mut Diagnostics) -> Option<Self> {
        let name = node.get("name").and_then(Node::as_str).unwrap_or_default();
        if name.is_empty() {
            let at = join(path, "name");
            found.push(Diagnostic::error("missing_field", at, "a variable has a name"));
            return None;
        }
        let at = join(path, "config");
        let Some(config) = node.get("config").filter(|config| config.is_object()) else {
            found.push(Diagnostic::error(
                "missing_field",
                at,
                "a variable has a `config` with extractor and transforms",
            ));
            return None;
        };
        let extractor = extractor::parse(config.get("extractor"), &join(&at, "extractor"), found);
        let ops = parse_steps(config.get("transforms"), &join(&at, "transforms"), found);
        Some(Self { name: name.to_owned(), extractor: extractor?, ops: ops? })
    }

    /// Whether each pair gets a value of its own.
    pub(super) fn per_pair(&self) -> bool {
        self.ops.iter().any(|op| op.advances())
    }

    /// Makes the value and remembers it in the run. A variable that cannot be made is not set.
    pub(super) fn evaluate(&self, scope: Scope) -> Scope {
        let mut effects = NoTokens { scope };
        // Variables are made before there is any message; extractors that need one find nothing in it.
        let mut nothing = Parts::default();
        let value = self.extractor.read(&Message::Request(&mut nothing), &mut effects.scope);
        if let Ok(value) = value.and_then(|value| op::apply(&self.ops, &value, &mut effects)) {
            effects.scope.store(&self.name, Bytes::from(value));
        }
        effects.scope
    }
}
