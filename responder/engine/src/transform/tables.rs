//! Tables (`dataframes`): CSV text with a header, whose rows are found by the value of the first column.

use std::collections::HashMap;

use csv::StringRecord;

/// The most cells that a table may have.
const MAX_CELLS: usize = 4_000_000;

/// A table that was read.
#[derive(Debug, Default)]
pub(crate) struct Table {
    header: StringRecord,
    rows: HashMap<String, StringRecord>,
    /// The first column from top to bottom, header and all.
    column: Vec<String>,
}

/// Why text is no table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error("the text is no CSV")]
    Malformed(#[source] csv::Error),
    #[error("the table has more than {MAX_CELLS} cells")]
    TooLarge,
}

impl Table {
    /// Reads a table. Of rows with the same key the last one counts.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, TableError> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
        let header = reader.headers().map_err(TableError::Malformed)?.clone();
        let (mut rows, mut cells) = (HashMap::new(), 0_usize);
        let mut column: Vec<String> = header.get(0).map(str::to_owned).into_iter().collect();
        for row in reader.into_records() {
            let row = row.map_err(TableError::Malformed)?;
            cells = cells.saturating_add(row.len());
            if cells > MAX_CELLS {
                return Err(TableError::TooLarge);
            }
            if let Some(key) = row.get(0) {
                column.push(key.to_owned());
                rows.insert(key.to_owned(), row);
            }
        }
        Ok(Self { header, rows, column })
    }

    /// The first column from top to bottom; what would be the header is its first row.
    pub(crate) fn column(&self) -> &[String] {
        &self.column
    }

    /// The cell of a row in the column of this name. The key's own column is no field.
    pub(crate) fn cell(&self, key: &str, field: &str) -> Option<&str> {
        let column = self.header.iter().skip(1).position(|name| name == field)?;
        self.rows.get(key)?.get(column + 1)
    }
}

/// Every row of a CSV text, header and all.
pub(crate) fn rows(text: &[u8]) -> Result<Vec<StringRecord>, TableError> {
    let reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let (mut rows, mut cells) = (Vec::new(), 0_usize);
    for row in reader.into_records() {
        let row = row.map_err(TableError::Malformed)?;
        cells = cells.saturating_add(row.len());
        if cells > MAX_CELLS {
            return Err(TableError::TooLarge);
        }
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_of_a_key_counts_and_the_key_is_no_field() {
        let table = Table::parse(b"id,name,note\n1,Ann,x\n1,Anna\n2,\"B, ob\",y\n").unwrap();
        assert_eq!(table.cell("1", "name"), Some("Anna"));
        assert_eq!(table.cell("1", "note"), None);
        assert_eq!(table.cell("2", "name"), Some("B, ob"));
        assert_eq!(table.cell("2", "id"), None);
        assert_eq!(table.cell("3", "name"), None);
        assert!(Table::parse(b"a,b\n\"\xff\",x\n").is_err());
    }
}
