//! `csv` and `csv_iter`: one cell after the other, down a column, from the start again after the last.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use arc_swap::ArcSwapOption;
use csv::StringRecord;

use super::{Effects, Nature, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    snapshot::digest::Digest,
    transform::{Step, materials::Required, tables},
};

/// `csv`: the value is the text of the table.
#[derive(Debug)]
struct Csv {
    column: Column,
    has_header: bool,
    next: AtomicUsize,
    /// The table that was read last, by the digest of its text.
    read: ArcSwapOption<(Digest, Vec<StringRecord>)>,
}

#[derive(Debug)]
enum Column {
    Index(usize),
    Header(String),
}

/// `csv_iter`: the table is named.
#[derive(Debug)]
struct Iter {
    name: String,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let index = step.optional("index").or_else(|| step.optional("column"));
    let header = step.optional("header").filter(|header| !header.is_empty());
    let has_header = step.optional("headersPresent").or_else(|| step.optional("hasHeader"));
    let has_header = has_header.is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let mut wrong = |name: &str, message: &str| {
        let at = format!("{path}.config.{name}");
        found.push(Diagnostic::error("wrong_type", at, message));
        None
    };
    let column = match (index, header) {
        (Some(index), None) => match index.trim().parse() {
            Ok(index) => Column::Index(index),
            Err(_) => return wrong("index", "`index` is a number from 0"),
        },
        (None, Some(_)) if !has_header => {
            return wrong("header", "`header` needs `hasHeader` to be true");
        }
        (None, Some(header)) => Column::Header(header),
        _ => return wrong("index", "exactly one of `index` and `header` is needed"),
    };
    Some(Arc::new(Csv {
        column,
        has_header,
        next: AtomicUsize::new(0),
        read: ArcSwapOption::empty(),
    }))
}

pub(super) fn parse_iter(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let name = match step.optional("name") {
        Some(name) => name,
        None => step.required("csv_name", path, found)?,
    };
    Some(Arc::new(Iter { name }))
}

impl Csv {
    fn cell(&self, rows: &[StringRecord]) -> Result<Vec<u8>, StepError> {
        let (header, body) = match rows.split_first() {
            Some((header, body)) if self.has_header => (Some(header), body),
            _ => (None, rows),
        };
        let column = match (&self.column, header) {
            (Column::Index(index), _) => *index,
            (Column::Header(name), header) => header
                .and_then(|header| header.iter().position(|column| column == name))
                .ok_or_else(|| StepError::new("column_not_found", "csv: no such column"))?,
        };
        let nth = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(body.len());
        let row = nth
            .and_then(|nth| body.get(nth))
            .ok_or_else(|| StepError::new("table_empty", "csv: there is no row"))?;
        row.get(column)
            .map(|cell| cell.as_bytes().to_vec())
            .ok_or_else(|| StepError::new("row_too_short", "csv: the row has no such column"))
    }
}

impl Transform for Csv {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let digest = Digest::of(value);
        let known = self.read.load_full().filter(|known| known.0 == digest);
        let table = match known {
            Some(known) => known,
            None => {
                let rows = tables::rows(value)
                    .map_err(|why| StepError::new("not_csv", format!("csv: {why}")))?;
                let read = Arc::new((digest, rows));
                self.read.store(Some(Arc::clone(&read)));
                read
            }
        };
        let cell = self.cell(&table.1)?;
        apply(rest, &cell, effects)
    }

    fn nature(&self) -> Nature {
        Nature::PerRequest
    }

    fn advances(&self) -> bool {
        true
    }
}

impl Transform for Iter {
    fn apply(
        &self,
        _value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let scope = effects.scope();
        let Some(text) = scope.table_text(&self.name) else {
            return Err(StepError::new(
                "table_not_found",
                format!("csv_iter: csv {} doesn't exist", self.name),
            ));
        };
        let cell = scope
            .world
            .next_row(&self.name, &text)
            .ok_or_else(|| StepError::new("table_empty", "csv_iter: there is no row"))?;
        apply(rest, cell.as_bytes(), effects)
    }

    fn nature(&self) -> Nature {
        Nature::PerRequest
    }

    fn advances(&self) -> bool {
        true
    }

    fn require(&self, required: &mut Required, _secrets: &mut Vec<crate::jwt::key::SecretRef>) {
        required.dataframes.insert(self.name.clone());
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::testing::{Lab, codes};

    const TABLE: &str = "name,age\nann,30\nbob\n";

    #[test]
    fn walks_down_a_column_and_starts_again() {
        let lab = Lab::new();
        let step = crate::transform::testing::chain(
            r#"{"type":"res_body"}"#,
            r#"{"type":"csv","config":{"header":"name","hasHeader":"true"}}"#,
        );
        let mut effects = crate::transform::testing::Marks::new(lab.scope());
        let mut next = || {
            let cell = super::apply(&step.ops, TABLE.as_bytes(), &mut effects).unwrap();
            String::from_utf8(cell).unwrap()
        };
        assert_eq!([next(), next(), next()], ["ann", "bob", "ann"]);
    }

    #[test]
    fn names_what_it_does_not_find() {
        let lab = Lab::new();
        for (config, code) in [
            (r#""index":"5""#, "row_too_short"),
            (r#""header":"size","hasHeader":"true""#, "column_not_found"),
        ] {
            let step = format!(r#"{{"type":"csv","config":{{{config}}}}}"#);
            assert_eq!(lab.run(&step, TABLE), Err(code), "{config}");
        }
        assert_eq!(lab.run(r#"{"type":"csv","config":{"index":"0"}}"#, ""), Err("table_empty"));
        assert_eq!(lab.run(r#"{"type":"csv","config":{"column":"1"}}"#, TABLE).unwrap(), "age");
    }

    #[test]
    fn needs_exactly_one_column() {
        for config in [
            "",
            r#""index":"0","header":"a","hasHeader":"true""#,
            r#""header":"a""#,
            r#""index":"-1""#,
        ] {
            let step = format!(r#"{{"type":"csv","config":{{{config}}}}}"#);
            assert_eq!(codes(r#"{"type":"empty"}"#, &step), ["wrong_type"], "{config}");
        }
    }

    #[test]
    fn named_tables_have_one_cursor_for_all() {
        let lab = Lab::with_files(&[("dataframe:ids__payload.csv", "1,x\n2,y\n")]);
        let step = r#"{"type":"csv_iter","config":{"csv_name":"ids"}}"#;
        let got: Vec<_> = (0..3).map(|_| lab.run(step, "ignored").unwrap()).collect();
        assert_eq!(got, ["1", "2", "1"]);
        let absent = r#"{"type":"csv_iter","config":{"csv_name":"none"}}"#;
        assert_eq!(lab.run(absent, ""), Err("table_not_found"));
    }
}
