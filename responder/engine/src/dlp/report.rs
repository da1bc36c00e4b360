//! What was redacted where: counts and places, never a value.

use std::collections::BTreeMap;

use super::config::DlpConfig;

/// So many places are named per rule; the others are counted.
const MAX_PLACES: usize = 32;
/// The longest place in a report.
const MAX_PLACE: usize = 160;

/// Counts while pairs are redacted.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    on: bool,
    pair: u64,
    counts: Vec<Count>,
    tokens: Count,
    unread: Count,
}

#[derive(Debug, Clone, Default)]
struct Count {
    values: u64,
    pairs: u64,
    last: u64,
    places: BTreeMap<String, u64>,
    elsewhere: u64,
}

/// What was redacted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// By rule; only those that took something.
    pub rules: Vec<RuleReport>,
    /// Tokens that were left, because they are needed to tell callers apart or are re-signed.
    pub tokens_left: Option<RuleReport>,
    /// Bodies that could not be looked into as what they claim to be.
    pub unread: Option<RuleReport>,
}

/// What one rule took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleReport {
    /// The rule, for example `keys password`.
    pub rule: String,
    /// The category of its marks.
    pub category: String,
    /// How many values.
    pub values: u64,
    /// In how many pairs.
    pub pairs: u64,
    /// Where, and how often there; an element of an array is `#`.
    pub places: Vec<(String, u64)>,
    /// How many values at places beyond those named.
    pub elsewhere: u64,
}

impl Tally {
    /// Counts for this config.
    #[must_use]
    pub fn new(config: &DlpConfig) -> Self {
        Self { on: true, counts: vec![Count::default(); config.rules.len()], ..Self::default() }
    }

    /// Counts nothing, for live requests.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// Takes over what another one counted under the same config, in other pairs.
    pub fn merge(&mut self, other: Self) {
        self.on |= other.on;
        if self.counts.is_empty() {
            self.counts = other.counts;
        } else {
            for (count, other) in self.counts.iter_mut().zip(other.counts) {
                count.merge(other);
            }
        }
        self.tokens.merge(other.tokens);
        self.unread.merge(other.unread);
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    pub(super) fn next_pair(&mut self) {
        self.pair += 1;
    }

    pub(super) fn took(&mut self, rule: usize, place: &str) {
        if self.on
            && let Some(count) = self.counts.get_mut(rule)
        {
            count.add(self.pair, place);
        }
    }

    pub(super) fn left_token(&mut self, place: &str) {
        if self.on {
            self.tokens.add(self.pair, place);
        }
    }

    pub(super) fn unread(&mut self, place: &str) {
        if self.on {
            self.unread.add(self.pair, place);
        }
    }

    /// The report so far.
    #[must_use]
    pub fn report(&self, config: &DlpConfig) -> Report {
        let rules = config.rules.iter().zip(&self.counts);
        Report {
            rules: rules
                .filter_map(|(rule, count)| count.report(&rule.label, &rule.category))
                .collect(),
            tokens_left: self.tokens.report("tokens", "JWT"),
            unread: self.unread.report("unread", ""),
        }
    }
}

impl Count {
    fn add(&mut self, pair: u64, place: &str) {
        self.values += 1;
        if self.pairs == 0 || self.last != pair {
            self.pairs += 1;
            self.last = pair;
        }
        let place: String = place.chars().take(MAX_PLACE).collect();
        if let Some(known) = self.places.get_mut(&place) {
            *known += 1;
        } else if self.places.len() < MAX_PLACES {
            self.places.insert(place, 1);
        } else {
            self.elsewhere += 1;
        }
    }

    fn merge(&mut self, other: Self) {
        self.values += other.values;
        self.pairs += other.pairs;
        self.elsewhere += other.elsewhere;
        for (place, count) in other.places {
            if let Some(known) = self.places.get_mut(&place) {
                *known += count;
            } else if self.places.len() < MAX_PLACES {
                self.places.insert(place, count);
            } else {
                self.elsewhere += count;
            }
        }
    }

    fn report(&self, rule: &str, category: &str) -> Option<RuleReport> {
        (self.values > 0).then(|| RuleReport {
            rule: rule.to_owned(),
            category: category.to_owned(),
            values: self.values,
            pairs: self.pairs,
            places: self.places.iter().map(|(place, count)| (place.clone(), *count)).collect(),
            elsewhere: self.elsewhere,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_values_pairs_and_places_within_bounds() {
        let (config, _) = DlpConfig::parse(br#"{"keys":["password","pin"]}"#);
        let mut tally = Tally::new(&config);
        for pair in 0..100 {
            tally.next_pair();
            tally.took(0, "response.body.password");
            tally.took(0, &format!("response.body.{pair}.{}", "x".repeat(500)));
        }
        let report = tally.report(&config);
        let [row] = report.rules.as_slice() else { panic!("one rule took something") };
        assert_eq!((row.rule.as_str(), row.category.as_str()), ("keys password", "PASSWORD"));
        assert_eq!((row.values, row.pairs), (200, 100));
        assert_eq!(row.places.len(), MAX_PLACES);
        assert_eq!(row.places.iter().map(|place| place.1).sum::<u64>() + row.elsewhere, 200);
        assert!(row.places.iter().all(|place| place.0.len() <= MAX_PLACE));
        assert_eq!(Tally::off().report(&config), Report::default());
        let mut both = Tally::new(&config);
        both.merge(tally.clone());
        both.merge(tally);
        let merged = both.report(&config);
        assert_eq!((merged.rules[0].values, merged.rules[0].pairs), (400, 200));
        assert_eq!(merged.rules[0].places.len(), MAX_PLACES);
    }
}
