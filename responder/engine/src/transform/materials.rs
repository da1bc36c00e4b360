//! Materials: what chains use besides the traffic. The engine opens no file and reads no environment, so a node hands them in.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::jwt::key::SecretRef;

/// Files, tables and environment variables of a node.
#[derive(Debug, Clone, Default)]
pub struct Materials {
    /// Files by the name under which a template asks for them.
    pub files: BTreeMap<String, Bytes>,
    /// Environment variables that templates may read.
    pub environment: BTreeMap<String, String>,
    /// Where random values start.
    pub seed: u64,
}

/// What a template asks of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Required {
    /// Files, as they are named in the template.
    pub files: BTreeSet<String>,
    /// Tables (`dataframes`), by name.
    pub dataframes: BTreeSet<String>,
    /// Environment variables.
    pub environment: BTreeSet<String>,
    /// The secrets that are put into answers.
    pub secret_texts: BTreeSet<SecretRef>,
    /// Variables, which are no node's: other chains make them.
    pub(crate) variables: BTreeSet<String>,
}

impl Materials {
    /// A file.
    pub(crate) fn file(&self, name: &str) -> Option<&Bytes> {
        self.files.get(name)
    }

    /// A table's file: `dataframe:<name>`.
    pub(crate) fn dataframe(&self, name: &str) -> Option<&Bytes> {
        self.files.get(&dataframe_file(name))
    }
}

impl Required {
    /// Every file by the name that [`Materials::files`] has it under.
    #[must_use]
    pub fn all_files(&self) -> BTreeSet<String> {
        let tables = self.dataframes.iter().map(|name| dataframe_file(name));
        self.files.iter().cloned().chain(tables).collect()
    }
}

/// The name of a table's file.
fn dataframe_file(name: &str) -> String {
    format!("dataframe:{name}__payload.csv")
}
