//! OpenAPI 3.0 and 3.1, in JSON or YAML: every operation becomes a stub that gives its example.
//!
//! The best response answers: a success before all others. Where an example of a response and one of a parameter or of the request's body
//! have the same name, they belong together, and the response answers such a request only. Without an example the schema makes one where
//! that needs no guessing. References are followed within the document.

mod operation;
mod reference;
mod render;
mod request;
mod schema;

use crate::formats::{
    Sink,
    document::Report,
    node::Node,
    verdict::{self, Left},
};

use reference::Document;

/// The most operations of one document.
const MAX_OPERATIONS: usize = 20_000;
/// What an operation may be called.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Reads a document.
pub(super) fn read<S: Sink>(report: &mut Report<'_, S>, root: &Node) {
    let version = root.get("openapi").word();
    if !version.starts_with("3.") {
        return report.left(
            Left::refused("format_unsupported", "openapi", "of OpenAPI, only 3.0 and 3.1 are read")
                .hint("convert the document, with `swagger2openapi` for example"),
        );
    }
    let document = Document::new(root);
    let paths = root.get("paths").members();
    if paths.is_empty() {
        return report.left(Left::skipped("empty_file", "paths", "the document holds no paths"));
    }
    let mut seen = 0_usize;
    for (path, item) in paths.iter().filter(|(path, _)| path.starts_with('/')) {
        let place = format!("paths.{path}");
        let item = match document.follow(item) {
            Ok(item) => item,
            Err(why) => {
                report.left(why.left(&place));
                seen = seen.saturating_add(1);
                continue;
            }
        };
        for method in METHODS {
            let operation = item.get(method);
            if !operation.is_map() {
                continue;
            }
            seen = seen.saturating_add(1);
            if seen > MAX_OPERATIONS {
                return report.left(verdict::limit(format!(
                    "the document has more than {MAX_OPERATIONS} operations"
                )));
            }
            operation::read(
                report,
                operation::Context { document: &document, path, item, method, operation },
            );
        }
    }
    if seen == 0 {
        report.left(Left::skipped("empty_file", "paths", "the document holds no operations"));
    }
}

#[cfg(test)]
mod tests;
