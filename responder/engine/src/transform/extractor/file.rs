//! `file`: a whole file that the node has; what comes of it is thrown away.

use std::sync::Arc;

use super::{Extract, Extractor};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    transform::{Side, Step, materials::Required, message::Message, op::StepError, world::Scope},
};

#[derive(Debug)]
struct File {
    /// As it is written: an absolute path, or `dataframe:<id>__<file>`.
    name: String,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Extractor> {
    let at = format!("{path}.config.filename");
    let name = Step::plain(step.required("filename", path, found)?, &at, found)?;
    if name.starts_with("s3://") {
        found.push(
            Diagnostic::warning(
                "file_store_missing",
                at,
                "there is no file store to read `s3://` from; the chain is left out",
            )
            .hint("mount the file and name it as dataframe:<id>__<file>"),
        );
        return None;
    }
    if name.is_empty() {
        found.push(Diagnostic::error("missing_field", at, "the name is empty"));
        return None;
    }
    Some(Arc::new(File { name }))
}

impl Extract for File {
    fn side(&self) -> Side {
        Side::Request
    }

    fn read(&self, _message: &Message<'_>, scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        let file = scope.world.materials.file(&self.name);
        file.map(|bytes| bytes.to_vec())
            .ok_or_else(|| StepError::new("file_not_found", "file: the node has no such file"))
    }

    fn write(
        &self,
        _message: &mut Message<'_>,
        _value: Vec<u8>,
        _scope: &mut Scope,
    ) -> Result<(), StepError> {
        Ok(())
    }

    fn require(&self, required: &mut Required) {
        required.files.insert(self.name.clone());
    }
}
