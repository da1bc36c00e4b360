//! `responderVariables`: values that are made when a session starts, and anew for each pair where their steps walk through a table.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    Diagnostic, Diagnostics, Node, Scope,
    extractor::{self, Extractor},
    join,
    materials::Required,
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

    /// The variables that it is made of.
    fn needs(&self) -> BTreeSet<String> {
        let (mut required, mut secrets) = (Required::default(), Vec::new());
        self.extractor.require(&mut required);
        self.ops.iter().for_each(|op| op.require(&mut required, &mut secrets));
        required.variables
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

/// Tells of variables that are made of themselves, or of one that is: they would never have a value.
pub(super) fn find_cycles(variables: &[(String, Variable)], found: &mut Diagnostics) {
    let mut waiting: BTreeMap<&str, BTreeSet<String>> =
        variables.iter().map(|(_, one)| (one.name.as_str(), one.needs())).collect();
    let mut needed_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let names: BTreeSet<&str> = waiting.keys().copied().collect();
    for (name, needs) in &mut waiting {
        needs.retain(|need| names.contains(need.as_str()));
        for need in needs.iter().filter_map(|need| names.get(need.as_str())) {
            needed_by.entry(need).or_default().push(name);
        }
    }
    // Takes away what needs nothing that is left, and what needs nothing else.
    let mut ready: Vec<&str> =
        waiting.iter().filter(|(_, needs)| needs.is_empty()).map(|(name, _)| *name).collect();
    while let Some(made) = ready.pop() {
        waiting.remove(made);
        for name in needed_by.remove(made).unwrap_or_default() {
            if let Some(needs) = waiting.get_mut(name)
                && needs.remove(made)
                && needs.is_empty()
            {
                ready.push(name);
            }
        }
    }
    for (path, variable) in variables.iter().filter(|(_, one)| waiting.contains_key(&*one.name)) {
        let message =
            format!("the variable `{}` is made of itself, or of one that is", variable.name);
        found.push(
            Diagnostic::error("template_cycle", path.clone(), message)
                .hint("have one of the variables that it is made of name no other"),
        );
    }
}
