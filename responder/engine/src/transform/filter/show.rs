//! Filters as a query, so that what was read can be shown and read again.

use std::fmt::{self, Display, Write as _};

use super::{
    Criterion, Diagnostic, Diagnostics, Filter, Filters,
    names::{Kind, Plain, keyword},
    test::Test,
};

impl Display for Filters {
    /// The terms stand in parentheses, as the grammar has it, even where one group is all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) if parts.is_empty() => Ok(()),
            // There is no word for no pair at all, but a sample of none means it.
            Self::Any(parts) if parts.is_empty() => f.write_str("(sample IS \"0/1\")"),
            Self::All(parts) | Self::Any(parts)
                if parts.iter().any(|part| !matches!(part, Self::One(_))) =>
            {
                self.join(f, true)
            }
            group => {
                f.write_char('(')?;
                group.join(f, false)?;
                f.write_char(')')
            }
        }
    }
}

impl Filters {
    /// The parts of a set, each in parentheses, or only those that are sets themselves.
    fn join(&self, f: &mut fmt::Formatter<'_>, grouped: bool) -> fmt::Result {
        let (parts, with) = match self {
            Self::One(filter) => return filter.fmt(f),
            Self::All(parts) => (parts, " AND "),
            Self::Any(parts) => (parts, " OR "),
        };
        for (nth, part) in parts.iter().enumerate() {
            if nth > 0 {
                f.write_str(with)?;
            }
            if grouped || !matches!(part, Self::One(_)) {
                f.write_char('(')?;
                part.join(f, false)?;
                f.write_char(')')?;
            } else {
                part.join(f, false)?;
            }
        }
        Ok(())
    }
}

impl Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = if self.include { "IS" } else { "NOT" };
        match &self.criterion {
            Criterion::Plain(of, test) => {
                f.write_str(keyword(Kind::Plain(*of)))?;
                self.test(f, test)
            }
            Criterion::Keyed { place, key, test, .. } => {
                f.write_str(keyword(Kind::Keyed(*place)))?;
                f.write_char('[')?;
                match bare(key) {
                    true => f.write_str(key),
                    false => quoted(f, key),
                }?;
                f.write_char(']')?;
                self.test(f, test)
            }
            Criterion::Time(range) => {
                let [start, end] = &range.text;
                f.write_str(keyword(Kind::TimeRange))?;
                f.write_str(if self.include { " " } else { " NOT " })?;
                quoted(f, start)?;
                f.write_char(' ')?;
                quoted(f, end)
            }
            Criterion::Sample(sample) => {
                let each = if sample.each { "[rrpair]" } else { "" };
                let word = keyword(Kind::Sample);
                write!(f, "{word}{each} {is} \"{}/{}\"", sample.keep, sample.out_of)
            }
        }
    }
}

impl Filter {
    fn test(&self, f: &mut fmt::Formatter<'_>, test: &Test) -> fmt::Result {
        let (operator, value) = match test {
            Test::Equal(value) if self.include => ("IS", value.as_str()),
            Test::Equal(value) => ("NOT", value.as_str()),
            Test::Contains(part) => {
                let value = std::str::from_utf8(part.needle()).unwrap_or_default();
                (if self.include { "CONTAINS" } else { "NOT CONTAINS" }, value)
            }
            Test::Matches(regex) if self.include => ("REGEX", regex.as_str()),
            Test::Matches(regex) => ("NOT REGEX", regex.as_str()),
        };
        write!(f, " {operator} ")?;
        quoted(f, value)
    }
}

/// Whether a key can stand in brackets as it is.
fn bare(key: &str) -> bool {
    let mut open = 0_i32;
    for c in key.chars() {
        match c {
            '[' => open += 1,
            ']' => open -= 1,
            _ => {}
        }
        if open < 0 {
            return false;
        }
    }
    let quoted = key.starts_with(['"', '\'']);
    open == 0 && !quoted && key.trim() == key && !key.is_empty()
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}

/// Says of a criterion that it cannot decide anything here.
pub(super) fn remark(criterion: &Criterion, at: &str, found: &mut Diagnostics) {
    if matches!(criterion, Criterion::Plain(Plain::SnapshotId, _)) {
        found.push(Diagnostic::info(
            "filter_not_decidable",
            at,
            "a recorded pair does not know which snapshot it is from; the criterion is taken to hold",
        ));
    }
}
