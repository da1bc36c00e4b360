//! `one_of`: the result is one of several texts, in turn or by chance, whatever the rest of the chain has made.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Effects, Nature, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    jwt::key::SecretRef,
    transform::{Step, did_you_mean, materials::Required, split_outside, text::Text},
};

#[derive(Debug)]
struct OneOf {
    options: Vec<Text>,
    strategy: Strategy,
}

#[derive(Debug)]
enum Strategy {
    /// Whose turn it is.
    Sequential(AtomicUsize),
    Random,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let at = format!("{path}.config.options");
    let options = step.required("options", path, found)?;
    let options: Option<Vec<Text>> = split_outside(&options, ',')
        .into_iter()
        .map(|option| Text::parse(option, &at, found))
        .collect();
    let strategy = step.optional("strategy").unwrap_or_default();
    let strategy = match strategy.to_ascii_lowercase().as_str() {
        "" | "sequential" => Strategy::Sequential(AtomicUsize::new(0)),
        "random" => Strategy::Random,
        other => {
            found.push(
                Diagnostic::error(
                    "wrong_type",
                    format!("{path}.config.strategy"),
                    format!("`one_of` has no strategy `{other}`"),
                )
                .hint(did_you_mean(other, &["sequential", "random"])),
            );
            return None;
        }
    };
    Some(Arc::new(OneOf { options: options?, strategy }))
}

impl Transform for OneOf {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        drop(apply(rest, value, effects)?);
        let scope = effects.scope();
        let turn = match &self.strategy {
            // Nobody's turn is taken while a snapshot is compiled.
            Strategy::Sequential(_) if scope.now.is_none() => 0,
            Strategy::Sequential(next) => next.fetch_add(1, Ordering::Relaxed),
            Strategy::Random => usize::try_from(scope.random() >> 1).unwrap_or_default(),
        };
        let option = turn.checked_rem(self.options.len()).and_then(|nth| self.options.get(nth));
        Ok(option.map(|text| text.resolve(scope)).unwrap_or_default())
    }

    fn nature(&self) -> Nature {
        Nature::PerRequest
    }

    fn require(&self, required: &mut Required, secrets: &mut Vec<SecretRef>) {
        self.options.iter().for_each(|option| option.require(required, secrets));
    }
}
