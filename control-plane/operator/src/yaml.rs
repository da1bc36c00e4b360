//! Documents that are made from types and checked in.

use serde::Serialize;

/// A value as YAML, by way of JSON, so that both say the same.
///
/// # Errors
/// When it has no JSON.
pub fn document<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let value = serde_json::to_value(value)?;
    serde_saphyr::to_string(&value).map_err(serde::ser::Error::custom)
}

/// Compares a checked-in file with what it is made from; with `UPDATE` in the environment, writes it.
#[cfg(test)]
pub(crate) fn check_file(path: &str, expected: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "{path} is not what the types say; UPDATE=1 writes it");
}
