//! Random text: what a `rand_string` pattern describes.
//!
//! Not cryptographic: a seed and a count decide everything, so that a run can be repeated.

use rand::{SeedableRng as _, distr::Distribution as _, rngs::SmallRng};

/// How often `*`, `+` and `{n,}` repeat at the most.
const MAX_REPEAT: u32 = 64;
/// The longest pattern.
const MAX_PATTERN: usize = 1024;
/// What a pattern may grow to, in characters.
const MAX_GENERATED: u64 = 64 * 1024;

/// Describes random strings.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    generator: rand_regex::Regex,
}

impl Pattern {
    /// Reads a regular expression; the error says what is wrong with it.
    pub(crate) fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_PATTERN {
            return Err(format!("the pattern is longer than {MAX_PATTERN} bytes"));
        }
        // Anchors say nothing about text that is made.
        let bare = pattern.strip_prefix('^').unwrap_or(pattern);
        let bare = match bare.strip_suffix('$') {
            Some(inner) if !inner.ends_with('\\') => inner,
            _ => bare,
        };
        let hir = regex_syntax::ParserBuilder::new()
            .nest_limit(32)
            .build()
            .parse(bare)
            .map_err(|error| last_line(&error.to_string()))?;
        if largest(&hir) > MAX_GENERATED {
            return Err(format!(
                "the pattern describes texts of more than {MAX_GENERATED} characters"
            ));
        }
        let generator = rand_regex::Regex::with_hir(hir, MAX_REPEAT)
            .map_err(|error| last_line(&error.to_string()))?;
        Ok(Self { generator })
    }

    /// A string.
    pub(crate) fn generate(&self, seed: u64) -> String {
        self.generator.sample(&mut SmallRng::seed_from_u64(seed))
    }
}

/// The longest text, in characters, that can come of a pattern.
fn largest(hir: &regex_syntax::hir::Hir) -> u64 {
    use regex_syntax::hir::HirKind;
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => u64::try_from(literal.0.len()).unwrap_or(u64::MAX),
        HirKind::Class(_) => 1,
        HirKind::Repetition(repetition) => {
            let endless = repetition.min.saturating_add(MAX_REPEAT);
            let most = repetition.max.unwrap_or(endless);
            largest(&repetition.sub).saturating_mul(u64::from(most))
        }
        HirKind::Capture(capture) => largest(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(largest).fold(0, u64::saturating_add),
        HirKind::Alternation(parts) => parts.iter().map(largest).max().unwrap_or(0),
    }
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or("it does not parse").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_what_the_pattern_describes_and_the_same_for_the_same_seed() {
        let pattern = Pattern::parse("^user-[a-f0-9]{8}$").unwrap();
        let made = pattern.generate(7);
        assert_eq!(made, pattern.generate(7));
        assert_ne!(made, pattern.generate(8));
        assert!(regex::Regex::new("^user-[a-f0-9]{8}$").unwrap().is_match(&made), "{made}");
        assert!(Pattern::parse("[a-z]*").unwrap().generate(1).len() <= 64);
    }

    #[test]
    fn refuses_what_it_cannot_make() {
        for pattern in ["(", "(a{1000}){1000}{1000}", "\\b"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
        assert!(Pattern::parse(&"a".repeat(2000)).is_err());
    }
}
