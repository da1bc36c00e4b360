//! How long a value may be that a user's regular expression is searched for in.
//!
//! No expression takes more than linear time here, but each byte may cost a step for every state that the expression can be in. What is written out
//! has few; counted repetitions multiply them. So the product of both is bounded.

use regex_syntax::hir::{Hir, HirKind};

/// The most steps of one search, some tens of nanoseconds each at the worst.
const MOST_STEPS: usize = 16_000_000;
/// No longer value is searched, however simple the expression.
const LONGEST: usize = 4 * 1024 * 1024;
/// So many states that are written out count as one: most of them are never entered together.
const WRITTEN: usize = 64;

/// How many bytes are searched for an expression, which is a sound one.
pub(super) fn longest(pattern: &str) -> usize {
    let mut parser = regex_syntax::ParserBuilder::new().utf8(false).nest_limit(64).build();
    let Ok(hir) = parser.parse(pattern) else { return 0 };
    let (written, in_full) = (states(&hir, |_| 1), states(&hir, |times| times));
    let steps = in_full.saturating_sub(written).saturating_add(written / WRITTEN);
    (MOST_STEPS / steps.max(1)).min(LONGEST)
}

/// The states that it can be in, roughly, where a repetition counts as often as that says.
fn states(hir: &Hir, times: fn(usize) -> usize) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(_) => 1,
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(repetition.min).max(1);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            states(&repetition.sub, times).saturating_mul(times(most))
        }
        HirKind::Capture(capture) => states(&capture.sub, times),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(|part| states(part, times)).fold(0, usize::saturating_add)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_out_searches_long_values_and_what_is_counted_short_ones() {
        for pattern in
            ["a", r#""(\w+)""#, "", r"(?i)bearer [a-z0-9._-]+", r#""access_token": *"([^"]+)""#]
        {
            assert_eq!(longest(pattern), LONGEST, "{pattern}");
        }
        assert!(longest(r"\d{4}-\d{2}-\d{2}") > 1024 * 1024);
        for pattern in ["[01]*1[01]{1000}", "(a{100}){10}", "(", &"[ab]?".repeat(800)] {
            let most = if pattern.contains('?') { 2 * 1024 * 1024 } else { 17_000 };
            assert!(longest(pattern) <= most, "{pattern}: {}", longest(pattern));
        }
    }
}
