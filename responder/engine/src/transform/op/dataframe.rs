//! `csv_dataframe` and `dataframe_lookup`: tables whose rows are found by key.

use std::sync::Arc;

use super::{Effects, Nature, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    jwt::key::SecretRef,
    transform::{Step, materials::Required, tables, text::Text},
};

/// `csv_dataframe`: makes a table of CSV text, in a variable, whose rows are found by its primary key: it puts that column first.
#[derive(Debug)]
struct Load {
    primary_key: String,
}

/// `dataframe_lookup`: the cell of a table that was loaded by a variable of its name, or lies among the node's tables.
#[derive(Debug)]
struct Lookup {
    name: String,
    key: Text,
    field: Text,
}

pub(super) fn parse_load(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let primary_key = step.required("primary_key", path, found)?;
    if primary_key.is_empty() {
        found.push(Diagnostic::error(
            "missing_field",
            format!("{path}.config.primary_key"),
            "empty key supplied for indexing",
        ));
        return None;
    }
    Some(Arc::new(Load { primary_key }))
}

pub(super) fn parse_lookup(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let name = step.required("dataframe_name", path, found);
    let mut text = |name: &str| {
        let written = step.required(name, path, found)?;
        Text::parse(&written, &format!("{path}.config.{name}"), found)
    };
    let (key, field) = (text("key"), text("field"));
    Some(Arc::new(Lookup { name: name?, key: key?, field: field? }))
}

impl Transform for Load {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let error =
            |code, message: String| StepError::new(code, format!("csv_dataframe: {message}"));
        let rows = tables::rows(value).map_err(|why| error("not_csv", why.to_string()))?;
        let column = rows
            .first()
            .and_then(|header| header.iter().position(|name| name == self.primary_key))
            .ok_or_else(|| {
                error("column_not_found", "supplied key not found in header row".to_owned())
            })?;
        let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        for row in &rows {
            let others = row.iter().enumerate().filter(|(nth, _)| *nth != column);
            let fields = row.get(column).into_iter().chain(others.map(|(_, field)| field));
            writer.write_record(fields).map_err(|why| error("not_csv", why.to_string()))?;
        }
        let table = writer.into_inner().map_err(|why| error("not_csv", why.to_string()))?;
        apply(rest, &table, effects)
    }
}

impl Transform for Lookup {
    fn apply(
        &self,
        _value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let scope = effects.scope();
        let (key, field) = (self.key.resolve_string(scope), self.field.resolve_string(scope));
        let cell = scope.cell(&self.name, &key, &field).ok_or_else(|| {
            StepError::new("cell_not_found", "dataframe_lookup: there is no such cell")
        })?;
        apply(rest, cell.as_bytes(), effects)
    }

    fn nature(&self) -> Nature {
        Nature::PerRequest
    }

    fn require(&self, required: &mut Required, secrets: &mut Vec<SecretRef>) {
        required.dataframes.insert(self.name.clone());
        self.key.require(required, secrets);
        self.field.require(required, secrets);
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::testing::{Lab, codes};

    const LOOKUP: &str = r#"{"type":"dataframe_lookup","config":{"dataframe_name":"users","key":"u1","field":"name"}}"#;

    #[test]
    fn finds_a_cell_of_a_table_of_the_node_or_of_a_variable() {
        let lab = Lab::with_files(&[("dataframe:users__payload.csv", "id,name\nu1,Ann\n")]);
        assert_eq!(lab.run(LOOKUP, "x").unwrap(), "Ann");
        lab.world.set_variable("users", "id,name\nu1,Anna\n".into());
        assert_eq!(lab.run(LOOKUP, "x").unwrap(), "Anna");
        assert_eq!(Lab::new().run(LOOKUP, "x"), Err("cell_not_found"));
    }

    #[test]
    fn a_loaded_table_is_found_by_its_primary_key() {
        let load =
            |key: &str| format!(r#"{{"type":"csv_dataframe","config":{{"primary_key":"{key}"}}}}"#);
        let csv = "name,id\nAnn,u1\n\"B,b\",u2\n";
        assert_eq!(Lab::new().run(&load("id"), csv).unwrap(), "id,name\nu1,Ann\nu2,\"B,b\"\n");
        assert_eq!(Lab::new().run(&load("nr"), csv), Err("column_not_found"));
        assert_eq!(codes(r#"{"type":"empty"}"#, &load("")), ["missing_field"]);
    }
}
