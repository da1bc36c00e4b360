//! One pass over a message: what becomes of a value that a rule names, and of a text that no rule names.

use std::ops::Range;

use super::{Redactor, Tally, config::DlpConfig, invent, mark, pattern::Found, token};
use crate::json;

/// A span and what takes its place.
pub(super) type Edit = (Range<usize>, Vec<u8>);

/// Documents within strings within documents are looked into this deep.
const MAX_NESTED: u8 = 3;

/// Ways to authenticate that stand before a credential (RFC 9110, section 11.1), and the category of what follows.
const SCHEMES: [(&str, Option<&str>); 8] = [
    ("basic", Some("BASIC")),
    ("bearer", Some("TOKEN")),
    ("jwtbearer", Some("TOKEN")),
    ("token", Some("TOKEN")),
    ("dpop", Some("TOKEN")),
    ("digest", None),
    ("negotiate", None),
    ("aws4-hmac-sha256", None),
];

/// A redactor at work, the place where it is, and the counts.
pub(super) struct Pass<'p> {
    pub(super) redactor: &'p Redactor,
    pub(super) tally: &'p mut Tally,
    pub(super) place: String,
}

impl<'p> Pass<'p> {
    pub(super) fn new(redactor: &'p Redactor, tally: &'p mut Tally) -> Self {
        Self { redactor, tally, place: String::new() }
    }

    pub(super) fn config(&self) -> &'p DlpConfig {
        &self.redactor.config
    }

    /// Steps into a place; returns where to step back to.
    pub(super) fn enter(&mut self, step: &str) -> usize {
        let from = self.place.len();
        if self.tally.is_on() {
            if from > 0 {
                self.place.push('.');
            }
            self.place.push_str(step);
        }
        from
    }

    pub(super) fn leave(&mut self, from: usize) {
        self.place.truncate(from);
    }

    /// A value under a rule, or under none.
    pub(super) fn value(&mut self, rule: Option<usize>, text: &[u8]) -> Option<Vec<u8>> {
        let edits = match rule {
            Some(rule) => self.named(rule, text),
            None => self.loose(text, 0),
        };
        (!edits.is_empty()).then(|| json::replace(text, &edits))
    }

    /// The value that a rule names is replaced as a whole, except for the name of a scheme before it. One that holds a token is only
    /// looked through for patterns.
    pub(super) fn named(&mut self, rule: usize, text: &[u8]) -> Vec<Edit> {
        let tokens = self.tokens(text);
        if !tokens.is_empty() {
            return self.patterns(text, tokens);
        }
        let (start, category) = scheme(text);
        let Some(value) = text.get(start..).filter(|value| !value.is_empty()) else {
            return Vec::new();
        };
        let Some(new) = self.replacement(rule, category, value) else { return Vec::new() };
        self.tally.took(rule, &self.place);
        vec![(start..text.len(), new)]
    }

    fn replacement(&self, rule: usize, category: Option<&str>, value: &[u8]) -> Option<Vec<u8>> {
        let config = self.config();
        let category = category.or_else(|| config.rules.get(rule).map(|r| r.category.as_str()))?;
        if let Some((old, hash)) = mark::parse(value) {
            // A client sends back what it got elsewhere. What patterns tell keeps its category; other marks get that of the place,
            // as the recorded value got it.
            let told = config.patterns.iter().any(|(pattern, _)| pattern.category == old);
            return (!told && old != category).then(|| mark::labelled(category, hash).into_bytes());
        }
        if config.reverse && invent::is_invented(value) {
            return None;
        }
        let told = config.patterns.iter().find(|(pattern, _)| pattern.takes_all(value));
        let category = told.map_or(category, |(pattern, _)| pattern.category.as_str());
        Some(self.redactor.replace(category, value))
    }

    /// A text that no rule names: a document within it is walked, anything else is looked through for patterns.
    pub(super) fn loose(&mut self, text: &[u8], nested: u8) -> Vec<Edit> {
        if nested < MAX_NESTED
            && matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
            && let Ok(edits) = self.document(text, nested + 1)
        {
            return edits;
        }
        let tokens = self.tokens(text);
        self.patterns(text, tokens)
    }

    /// The tokens that are left.
    pub(super) fn tokens(&mut self, text: &[u8]) -> Vec<Range<usize>> {
        if self.config().tokens {
            return Vec::new();
        }
        let tokens = token::find(text);
        for _ in &tokens {
            self.tally.left_token(&self.place);
        }
        tokens
    }

    /// What patterns take outside the spans that are left.
    pub(super) fn patterns(&mut self, text: &[u8], left: Vec<Range<usize>>) -> Vec<Edit> {
        let config = self.config();
        let mut edits: Vec<Edit> = Vec::new();
        if config.patterns.is_empty() {
            return edits;
        }
        let mut taken = left;
        if let Some(marks) = mark::pattern() {
            taken.extend(marks.find_iter(text).map(|found| found.range()));
        }
        taken.sort_by_key(|span| span.start);
        for (pattern, rule) in &config.patterns {
            let spans = match pattern.find(text) {
                Found::Spans(spans) => spans,
                Found::TooMany => {
                    self.tally.took(*rule, &self.place);
                    return vec![(0..text.len(), self.redactor.replace(&pattern.category, text))];
                }
            };
            let free: Vec<_> = spans.into_iter().filter(|span| !overlaps(&taken, span)).collect();
            for span in &free {
                let value = text.get(span.clone()).unwrap_or_default();
                edits.push((span.clone(), self.redactor.replace(&pattern.category, value)));
                self.tally.took(*rule, &self.place);
            }
            if !free.is_empty() {
                taken.extend(free);
                taken.sort_by_key(|span| span.start);
            }
        }
        edits.sort_by_key(|edit| edit.0.start);
        edits
    }

    /// A JSON number under a rule, or one that a pattern takes as a whole.
    pub(super) fn number(&mut self, rule: Option<usize>, text: &[u8]) -> Option<Vec<u8>> {
        let config = self.config();
        let rule = rule.or_else(|| {
            let told = config.patterns.iter().find(|(pattern, _)| pattern.takes_all(text));
            told.map(|(_, rule)| *rule)
        })?;
        self.tally.took(rule, &self.place);
        Some(mark::number(&self.redactor.key, text))
    }
}

/// Whether a span overlaps one of others, which are in order and do not overlap each other.
fn overlaps(taken: &[Range<usize>], span: &Range<usize>) -> bool {
    let next = taken.partition_point(|other| other.end <= span.start);
    taken.get(next).is_some_and(|other| other.start < span.end)
}

/// The length of a scheme and its blank at the beginning, and the category of what follows.
fn scheme(text: &[u8]) -> (usize, Option<&'static str>) {
    let Some(length) = text.iter().take(32).position(|byte| *byte == b' ') else {
        return (0, None);
    };
    let name = text.get(..length).unwrap_or_default();
    SCHEMES
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))
        .map_or((0, None), |(_, category)| (length + 1, *category))
}
