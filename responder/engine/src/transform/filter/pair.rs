//! Filters on recorded pairs, for whoever has pairs and a filter that a user wrote.

use std::fmt;

use super::{Diagnostic, Diagnostics, Filters, Node, query, read, subject::Recorded};
use crate::snapshot::RrPair;

/// A filter longer than this is refused.
const MAX_LENGTH: usize = 1024 * 1024;

/// Which recorded pairs are meant. It prints as a query.
///
/// A filter *selects*; users who know filters of a forwarder, which drop what matches, have to invert theirs.
#[derive(Debug, Clone)]
pub struct PairFilter {
    filters: Filters,
}

impl PairFilter {
    /// Reads a filter: JSON when it begins like JSON, a query otherwise. A filter with an error is none.
    #[must_use]
    pub fn parse(text: &str) -> (Option<Self>, Diagnostics) {
        if text.trim_start().starts_with(['{', '[']) {
            Self::parse_json(text.as_bytes())
        } else {
            Self::parse_query(text)
        }
    }

    /// Reads the JSON of a rule set (`filter_expression`), of a chain's filters, of a list or of a single filter.
    #[must_use]
    pub fn parse_json(json: &[u8]) -> (Option<Self>, Diagnostics) {
        let mut found = Diagnostics::default();
        if json.len() > MAX_LENGTH {
            found.push(too_large());
            return (None, found);
        }
        let filters = match serde_json::from_slice::<Node>(json) {
            Ok(node) => read::filters(Some(&node), "", &mut found),
            Err(error) => {
                let line = u32::try_from(error.line()).unwrap_or_default();
                let message = format!("the filter is no JSON: {error}");
                found.push(Diagnostic::error("not_json", "", message).line(line));
                None
            }
        };
        (filters.map(|filters| Self { filters }), found)
    }

    /// Reads a query like `(command IS "POST" OR command IS "PUT") AND (location CONTAINS "/v1/")`. An empty one selects every pair. The
    /// steps of a chain in shorthand (`… | res_body() | json_path(path=a)`) may follow and are left aside.
    #[must_use]
    pub fn parse_query(text: &str) -> (Option<Self>, Diagnostics) {
        let mut found = Diagnostics::default();
        if text.len() > MAX_LENGTH {
            found.push(too_large());
            return (None, found);
        }
        let filters = query::parse(text, &mut found);
        (filters.map(|filters| Self { filters }), found)
    }

    /// Whether a pair is meant.
    #[must_use]
    pub fn selects(&self, pair: &RrPair) -> bool {
        self.filters.selects(&Recorded::new(pair))
    }

    /// The tree that it was read into.
    pub(crate) fn into_filters(self) -> Filters {
        self.filters
    }

    /// Whether every pair is meant.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.filters.is_everything()
    }
}

impl fmt::Display for PairFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.filters.fmt(f)
    }
}

fn too_large() -> Diagnostic {
    Diagnostic::error("filter_too_large", "", "the filter is longer than 1 MiB")
}
