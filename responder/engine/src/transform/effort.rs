//! How long a value may be that a user's regular expression is searched for in.
//!
//! No expression takes more than linear time here, but each byte may cost a step for every state that the expression can be in, and repetitions
//! multiply states. So the product of both is bounded.

use regex_syntax::hir::{Hir, HirKind};

/// The most steps of one search, some tens of nanoseconds each at the worst.
const MOST_STEPS: usize = 16_000_000;
/// No longer value is searched, however simple the expression.
const LONGEST: usize = 4 * 1024 * 1024;

/// How many bytes are searched for an expression, which is a sound one.
pub(super) fn longest(pattern: &str) -> usize {
    let parsed =
        regex_syntax::ParserBuilder::new().utf8(false).nest_limit(64).build().parse(pattern);
    let states = parsed.map_or(usize::MAX, |hir| states(&hir)).max(1);
    (MOST_STEPS / states).min(LONGEST)
}

/// The states that it can be in, roughly.
fn states(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(_) => 1,
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            states(&repetition.sub).saturating_mul(usize::try_from(times).unwrap_or(usize::MAX))
        }
        HirKind::Capture(capture) => states(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(states).fold(0, usize::saturating_add)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_expressions_search_long_values_and_counted_ones_short_ones() {
        for pattern in ["a", r#""(\w+)""#, "", r"(?i)bearer [a-z0-9._-]+"] {
            assert!(longest(pattern) > 256 * 1024, "{pattern}: {}", longest(pattern));
        }
        assert_eq!(longest("a"), LONGEST);
        for pattern in ["[01]*1[01]{1000}", "(a{100}){10}", "("] {
            assert!(longest(pattern) <= 16_000, "{pattern}: {}", longest(pattern));
        }
    }
}
