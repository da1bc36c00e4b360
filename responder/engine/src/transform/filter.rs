//! Filters: which pairs a chain runs on, and which pairs of a recording are meant.
//!
//! A filter selects. A live request does not know everything that a recorded pair knows (the status of its answer, its session, its
//! time), so asking it has a third outcome, *unknown*, which [`crate::compile`] resolves; a recorded pair that does not know something
//! is given the benefit of the doubt. Filters come as JSON and as queries; both are read into the same tree, which prints as a query.

mod criterion;
mod names;
mod pair;
mod query;
mod read;
mod show;
mod subject;
mod test;
mod value;

use super::{Node, did_you_mean, join};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    request::Parts,
    snapshot::RrPair,
};
use criterion::Criterion;
pub(crate) use subject::Recorded;
use subject::Subject;
use value::Sample;

pub(super) use names::criteria;
pub use pair::PairFilter;
pub(crate) use test::compile_regex;

/// A tree of filters. Nothing in it is redundant: no set directly inside one of its own kind, none with one member, and of the sets
/// without members only a whole tree.
#[derive(Debug, Clone)]
pub(crate) enum Filters {
    /// All of them; none at all means every pair.
    All(Vec<Self>),
    /// At least one of them; none at all means no pair.
    Any(Vec<Self>),
    /// One filter.
    One(Filter),
}

/// One filter.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    include: bool,
    criterion: Criterion,
}

/// What a filter says of a request or pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Yes,
    No,
    Unknown,
}

impl Filters {
    /// Reads the `filters` member of a chain, a rule set or a list of filters; absent means every pair.
    pub(super) fn parse(node: Option<&Node>, path: &str, found: &mut Diagnostics) -> Option<Self> {
        read::filters(node, path, found)
    }

    fn everything() -> Self {
        Self::All(Vec::new())
    }

    fn nothing() -> Self {
        Self::Any(Vec::new())
    }

    fn is_everything(&self) -> bool {
        matches!(self, Self::All(parts) if parts.is_empty())
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Any(parts) if parts.is_empty())
    }

    /// What passes all of them.
    fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                part if part.is_nothing() => return part,
                Self::All(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        if kept.len() == 1 { kept.remove(0) } else { Self::All(kept) }
    }

    /// What passes at least one of them.
    fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                part if part.is_everything() => return part,
                Self::Any(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        if kept.len() == 1 { kept.remove(0) } else { Self::Any(kept) }
    }

    /// One criterion, included or excluded. A sample of nothing or of everything needs no asking.
    fn one(include: bool, criterion: Criterion) -> Self {
        let whole = match &criterion {
            Criterion::Sample(sample) => sample.is_whole(),
            _ => None,
        };
        match whole {
            Some(whole) if whole == include => Self::everything(),
            Some(_) => Self::nothing(),
            None => Self::One(Filter { include, criterion }),
        }
    }

    /// Whether a recorded pair passes.
    pub(crate) fn admits(&self, pair: &RrPair, parts: &Parts) -> bool {
        self.selects(&Recorded::with(pair, parts))
    }

    /// Whether a live request passes, as far as it can tell.
    pub(crate) fn admits_live(&self, live: &Parts) -> Verdict {
        self.verdict(&Subject::Live(live))
    }

    /// The same for one whose parts are worked out only where they matter.
    pub(crate) fn selects(&self, recorded: &Recorded<'_>) -> bool {
        self.verdict(&Subject::Recorded(recorded)) != Verdict::No
    }

    fn verdict(&self, subject: &Subject<'_>) -> Verdict {
        match self {
            Self::All(parts) => {
                fold(parts.iter().map(|part| part.verdict(subject)), Verdict::No, Verdict::Yes)
            }
            Self::Any(parts) => {
                fold(parts.iter().map(|part| part.verdict(subject)), Verdict::Yes, Verdict::No)
            }
            Self::One(filter) => match filter.criterion.holds(subject) {
                None => Verdict::Unknown,
                Some(holds) if holds == filter.include => Verdict::Yes,
                Some(_) => Verdict::No,
            },
        }
    }
}

/// Three-valued AND (`decisive` = No) and OR (`decisive` = Yes).
fn fold(verdicts: impl Iterator<Item = Verdict>, decisive: Verdict, otherwise: Verdict) -> Verdict {
    let mut result = otherwise;
    for verdict in verdicts {
        if verdict == decisive {
            return decisive;
        }
        if verdict == Verdict::Unknown {
            result = Verdict::Unknown;
        }
    }
    result
}

/// What is wrong with a criterion, wherever it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrong {
    code: &'static str,
    part: Part,
    message: String,
    hint: String,
}

/// The part of a criterion that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Key,
    Value,
    Operator,
}

impl Wrong {
    fn new(code: &'static str, part: Part, message: impl Into<String>) -> Self {
        Self { code, part, message: message.into(), hint: String::new() }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

#[cfg(test)]
mod tests;
