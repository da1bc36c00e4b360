//! Tables (`dataframes`): CSV files whose rows are found by the value of their first column.

use super::materials::Materials;

/// A cell: the row whose first column is `key`, the column that the header calls `field`. The last row of a key wins.
pub(crate) fn cell(materials: &Materials, table: &str, key: &str, field: &str) -> Option<String> {
    let bytes = materials.dataframe(table)?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes.as_ref());
    let column = reader.headers().ok()?.iter().position(|name| name == field)?;
    if column == 0 {
        return None;
    }
    reader
        .records()
        .filter_map(Result::ok)
        .filter(|row| row.get(0) == Some(key))
        .last()
        .and_then(|row| row.get(column).map(str::to_owned))
}
