//! `smart_replace` and its kin: learn that a value is now another one, in this and all later answers of the session.

use std::sync::Arc;

use super::{Effects, Nature, Op, StepError, Transform, apply};
use crate::{
    diagnostic::Diagnostics,
    transform::{
        Step, tables,
        world::{Captured, Learned},
    },
};

/// `smart_replace`: learns from the value it gets to what the rest of the chain makes of it.
#[derive(Debug)]
struct Train {
    overwrite: bool,
}

/// `smart_replace_recorded`: learns from what it sees in the recording to what it sees now.
#[derive(Debug)]
struct TrainRecorded {
    overwrite: bool,
}

/// `smart_replace_csv`: learns two columns of a table.
#[derive(Debug)]
struct TrainCsv {
    headers: bool,
    existing: Option<String>,
    new: Option<String>,
    existing_at: usize,
    new_at: usize,
}

fn flag(step: &mut Step<'_>, name: &str, default: bool) -> bool {
    step.optional(name).map_or(default, |text| text.eq_ignore_ascii_case("true"))
}

#[expect(clippy::unnecessary_wraps, reason = "all steps are parsed alike")]
pub(super) fn parse(step: &mut Step<'_>, _path: &str, _found: &mut Diagnostics) -> Option<Op> {
    Some(Arc::new(Train { overwrite: flag(step, "overwrite", false) }))
}

#[expect(clippy::unnecessary_wraps, reason = "all steps are parsed alike")]
pub(super) fn parse_recorded(
    step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Op> {
    Some(Arc::new(TrainRecorded { overwrite: flag(step, "overwrite", false) }))
}

pub(super) fn parse_csv(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let column = |name: Option<String>| name.filter(|name| !name.is_empty());
    Some(Arc::new(TrainCsv {
        headers: flag(step, "headers", true),
        existing: column(step.optional("existing")),
        new: column(step.optional("new")),
        existing_at: step.number("existingNum", 0, path, found)?,
        new_at: step.number("newNum", 1, path, found)?,
    }))
}

/// A JSON string without its quotes; anything else as it is.
fn unquoted(value: &[u8]) -> Vec<u8> {
    match value.trim_ascii() {
        [b'"', .., b'"'] => serde_json::from_slice::<String>(value.trim_ascii())
            .map_or_else(|_| value.to_vec(), String::into_bytes),
        _ => value.to_vec(),
    }
}

impl Transform for Train {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let made = apply(rest, value, effects)?;
        if made != value {
            effects.scope().learn(Learned {
                original: unquoted(value),
                replacement: unquoted(&made),
                overwrite: self.overwrite,
            });
        }
        Ok(made)
    }

    fn nature(&self) -> Nature {
        Nature::PerRequest
    }

    fn learns(&self) -> bool {
        true
    }
}

impl Transform for TrainRecorded {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let scope = effects.scope();
        let captured = Captured {
            side: scope.side,
            chain: scope.chain,
            value: unquoted(value),
            overwrite: self.overwrite,
        };
        scope.captured.push(captured);
        apply(rest, value, effects)
    }

    fn nature(&self) -> Nature {
        Nature::PerRequest
    }

    fn learns(&self) -> bool {
        true
    }
}

impl TrainCsv {
    fn column(
        name: Option<&String>,
        header: Option<&csv::StringRecord>,
        at: usize,
    ) -> Result<usize, StepError> {
        let Some(name) = name else { return Ok(at) };
        header
            .and_then(|header| header.iter().position(|column| column == name))
            .ok_or_else(|| StepError::new("column_not_found", "smart_replace_csv: no such column"))
    }
}

impl Transform for TrainCsv {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let rows = tables::rows(value)
            .map_err(|why| StepError::new("not_csv", format!("smart_replace_csv: {why}")))?;
        // The first row is a header only when columns are named.
        let named = self.existing.is_some() || self.new.is_some();
        let (header, body) = match rows.split_first() {
            Some((header, body)) if self.headers && named => (Some(header), body),
            _ => (None, rows.as_slice()),
        };
        let existing = Self::column(self.existing.as_ref(), header, self.existing_at)?;
        let new = Self::column(self.new.as_ref(), header, self.new_at)?;
        for row in body {
            if let (Some(original), Some(replacement)) = (row.get(existing), row.get(new)) {
                effects.scope().learn(Learned {
                    original: original.as_bytes().to_vec(),
                    replacement: replacement.as_bytes().to_vec(),
                    overwrite: true,
                });
            }
        }
        apply(rest, value, effects)
    }

    fn nature(&self) -> Nature {
        Nature::PerRequest
    }

    fn learns(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::testing::Lab;

    #[test]
    fn learns_what_the_rest_of_the_chain_makes() {
        let lab = Lab::new();
        let step = r#"{"type":"json_path","config":{"path":"id"}},{"type":"smart_replace"},{"type":"constant","config":{"new":"n-1"}}"#;
        assert_eq!(lab.run(step, r#"{"id":"o-1"}"#).unwrap(), r#"{"id":"n-1"}"#);
        assert_eq!(lab.world.replacements.apply(b"/o-1/x").unwrap(), b"/n-1/x");
    }

    #[test]
    fn quotes_are_no_part_of_what_is_learned() {
        let lab = Lab::new();
        let step = r#"{"type":"train"},{"type":"constant","config":{"new":"\"b2\""}}"#;
        lab.run(step, "\"a1\"").unwrap();
        assert_eq!(lab.world.replacements.apply(b"a1").unwrap(), b"b2");
    }

    #[test]
    fn loads_columns_of_a_table() {
        for (config, csv, error) in [
            (r#""existing":"old","new":"now""#, "x,old,now\n-,a1,b1\n", None),
            (r#""existingNum":"1","newNum":"0""#, "b1,a1\n", None),
            ("", "a1,b1\nshort\n", None),
            (r#""existing":"none","new":"now""#, "x,old,now\n", Some("column_not_found")),
        ] {
            let lab = Lab::new();
            let step = format!(r#"{{"type":"train_csv","config":{{{config}}}}}"#);
            assert_eq!(lab.run(&step, csv).err(), error, "{config}");
            if error.is_none() {
                assert_eq!(lab.world.replacements.apply(b"<a1>").unwrap(), b"<b1>", "{config}");
            }
        }
    }
}
