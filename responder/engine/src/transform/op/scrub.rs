//! `scrub` and `scrub_date`: hide a value, or every date, in the strings of a JSON document.

use std::sync::Arc;

use super::{Effects, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    json,
    transform::{Bodies, Finalizer, Step, did_you_mean, time::is_date},
};

#[derive(Debug)]
struct Scrub {
    ignored: Arc<Ignored>,
    new: String,
    of: Bodies,
}

#[derive(Debug)]
struct ScrubDate {
    ignored: Ignored,
}

/// Names of members whose strings are left alone.
#[derive(Debug)]
struct Ignored(Vec<String>);

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let ignored = Arc::new(Ignored::parse(step));
    let new = step.optional("new").unwrap_or_else(|| "*".to_owned());
    let selector = step.optional("selector").unwrap_or_default();
    let of = match selector.to_ascii_lowercase().as_str() {
        "" | "request" => Bodies::Request,
        "response" => Bodies::Response,
        "both" => Bodies::Both,
        other => {
            found.push(
                Diagnostic::error(
                    "wrong_type",
                    format!("{path}.config.selector"),
                    format!("`scrub` has no selector `{other}`"),
                )
                .hint(did_you_mean(other, &["request", "response", "both"])),
            );
            return None;
        }
    };
    Some(Arc::new(Scrub { ignored, new, of }))
}

#[expect(clippy::unnecessary_wraps, reason = "all steps are parsed alike")]
pub(super) fn parse_date(step: &mut Step<'_>, _path: &str, _found: &mut Diagnostics) -> Option<Op> {
    Some(Arc::new(ScrubDate { ignored: Ignored::parse(step) }))
}

impl Ignored {
    fn parse(step: &mut Step<'_>) -> Self {
        let list = step.optional("ignorePaths").unwrap_or_default();
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        Self(names.map(str::to_owned).collect())
    }

    fn has(&self, name: &str) -> bool {
        // A path is taken by its last name: only leaves are compared.
        self.0.iter().any(|one| one.rsplit('.').next() == Some(name) || one == name)
    }
}

impl Transform for Scrub {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        // Nothing is hidden of a value that is no text: it stands in no JSON string.
        if let Ok(hidden) = std::str::from_utf8(value)
            && !hidden.is_empty()
        {
            let (hidden, new) = (hidden.to_owned(), self.new.clone());
            let ignored = Arc::clone(&self.ignored);
            let edit = move |body: &[u8]| {
                let rewritten = json::rewrite_strings(body, &mut |name, text| {
                    (text.contains(&hidden) && !ignored.has(name))
                        .then(|| text.replace(&hidden, &new))
                });
                rewritten.ok().filter(|rewritten| rewritten != body)
            };
            effects.scope().finalizers.push(Finalizer { of: self.of, edit: Box::new(edit) });
        }
        apply(rest, value, effects)
    }
}

impl Transform for ScrubDate {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let scrubbed = json::rewrite_strings(value, &mut |name, text| {
            (is_date(text) && !self.ignored.has(name)).then(|| "*".to_owned())
        });
        let scrubbed =
            scrubbed.map_err(|why| StepError::new("not_json", format!("scrub_date: {why}")))?;
        apply(rest, &scrubbed, effects)
    }
}
