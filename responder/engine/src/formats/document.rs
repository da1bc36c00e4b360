//! Documents of other tools: whole files that hold many exchanges, and no RRPair.

use crate::{
    diagnostic::Diagnostic,
    formats::{
        Sink,
        foreign::{self, Tool},
        har, hoverfly,
        node::Node,
        openapi, postman,
        reader::tell,
        verdict::Left,
        wiremock,
    },
    snapshot::RrPair,
};

/// Where the findings of a document go.
pub(super) struct Report<'r, S: Sink> {
    pub(super) sink: &'r mut S,
    /// The file.
    pub(super) path: &'r str,
    /// The line on which the document begins.
    pub(super) line: u32,
}

impl<S: Sink> Report<'_, S> {
    /// Hands over a pair, or what is said in its stead.
    pub(super) fn pair(&mut self, pair: Result<RrPair, Left>) {
        match pair {
            Ok(pair) => self.sink.pair(pair),
            Err(left) => self.left(left),
        }
    }

    /// Hands over what is said in an entry's stead.
    pub(super) fn left(&mut self, left: Left) {
        tell(self.sink, self.path, self.line, left);
    }

    /// Says what of a pair that was handed over is served otherwise than written.
    pub(super) fn note(&mut self, why: Diagnostic) {
        self.sink.noted(why.subject(self.path).line(self.line));
    }
}

/// Reads JSON that is a document of a known tool.
pub(super) fn read_json<S: Sink>(path: &str, line: u32, text: &[u8], sink: &mut S) {
    let tool = foreign::tool_of(text);
    if tool == Some(Tool::Har) {
        let mut stream = har::Stream::new();
        stream.push(text, sink, path);
        return stream.finish(sink, path);
    }
    if tool == Some(Tool::WireMock) {
        return wiremock::read(Report { sink, path, line }, text);
    }
    read(Report { sink, path, line }, tool, Node::json(text));
}

/// Reads YAML, which is only looked at for OpenAPI.
pub(super) fn read_yaml<S: Sink>(path: &str, text: &[u8], sink: &mut S) {
    let is_openapi = text.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii_start();
        [&b"openapi"[..], b"\"openapi\"", b"'openapi'", b"swagger", b"\"swagger\"", b"{"]
            .iter()
            .any(|word| line.starts_with(word))
    });
    if !is_openapi {
        let left = Left::skipped(
            foreign::UNKNOWN,
            "",
            "of YAML, only OpenAPI documents are read; this is none",
        );
        return tell(sink, path, 1, left);
    }
    read(Report { sink, path, line: 1 }, Some(Tool::OpenApi), Node::yaml(text));
}

fn read<S: Sink>(mut report: Report<'_, S>, tool: Option<Tool>, document: Result<Node, Left>) {
    let document = match document {
        Ok(document) => document,
        Err(left) => return report.left(left),
    };
    match tool {
        Some(Tool::Hoverfly) => hoverfly::read(&mut report, &document),
        Some(Tool::Postman) => postman::read(&mut report, &document),
        Some(Tool::OpenApi) => openapi::read(&mut report, &document),
        // These two are read from their text, above.
        Some(Tool::Har | Tool::WireMock) | None => report.left(foreign::unknown()),
    }
}
