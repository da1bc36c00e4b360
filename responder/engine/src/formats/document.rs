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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::formats::tests::read;

    /// A document of each tool that has most of what its reader looks at.
    fn documents() -> [Value; 3] {
        [
            json!({"info": {"_postman_id": "1"}, "variable": [{"key": "a", "value": "{{b}}"}], "auth": {"type": "basic", "basic": [{"key": "username", "value": "u"}]},
                "item": [{"name": "f", "item": [{"request": {"method": "POST", "header": [{"key": "X", "value": "1"}],
                    "url": {"raw": "https://{{a}}/x/:id", "host": ["a", "b"], "path": ["c"], "query": [{"key": "q", "value": "1"}], "variable": [{"key": "id", "value": "7"}]},
                    "body": {"mode": "graphql", "graphql": {"query": "{a}", "variables": "{}"}}}, "response": [{"code": 200, "body": "x", "header": []}]}]}]}),
            json!({"meta": {"schemaVersion": "v5"}, "data": {"pairs": [{"request": {"method": [{"matcher": "exact", "value": "GET"}], "destination": [{"matcher": "glob", "value": "*.a"}],
                "query": {"q": [{"matcher": "array", "value": ["1"], "config": {"ignoreUnknown": true}}]}, "body": [{"matcher": "form", "value": {"f": [{"matcher": "regex", "value": "a"}]}}],
                "requiresState": {"s": "1"}}, "response": {"status": 200, "body": "x", "headers": {"A": ["1"]}, "transitionsState": {"s": "2"}, "removesState": ["t"], "fixedDelay": 1}}]}}),
            json!({"openapi": "3.1.0", "servers": [{"url": "https://{r}.a/v1", "variables": {"r": {"default": "x"}}}], "paths": {"/a/{id}": {"parameters": [{"name": "id", "in": "path",
                "examples": {"one": {"value": 1}}}], "post": {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}, "responses": {"200": {"headers": {"X": {"example": 1}},
                "content": {"application/json": {"examples": {"one": {"$ref": "#/components/examples/e"}}, "schema": {"allOf": [{"$ref": "#/components/schemas/S"}]}}}}}}}},
                "components": {"examples": {"e": {"value": {"a": 1}}}, "schemas": {"S": {"type": "object", "required": ["a"], "properties": {"a": {"type": "array", "items": {"oneOf": [{"type": "integer"}]}}}}}}}),
        ]
    }

    /// The places of all values in a document.
    fn places(value: &Value, at: &str, into: &mut Vec<String>) {
        into.push(at.to_owned());
        let escape = |name: &str| name.replace('~', "~0").replace('/', "~1");
        match value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(nth, item)| places(item, &format!("{at}/{nth}"), into)),
            Value::Object(map) => map
                .iter()
                .for_each(|(name, item)| places(item, &format!("{at}/{}", escape(name)), into)),
            _ => {}
        }
    }

    fn odd() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(json!(null)),
            Just(json!(true)),
            Just(json!(-1)),
            Just(json!(1e300)),
            Just(json!([])),
            Just(json!([[{}]])),
            Just(json!({"$ref": "#"})),
            Just(json!({"$ref": "#/paths"})),
            Just(json!({"a": {"value": {}}})),
            "[{}:/?#&= a-zü*]{0,12}".prop_map(Value::from),
        ]
    }

    proptest! {
        #[test]
        fn whatever_stands_anywhere_each_entry_ends_in_some_way(document in 0_usize..3, changes in prop::collection::vec((any::<prop::sample::Index>(), odd()), 1..4)) {
            let mut document = documents()[document].clone();
            for (at, odd) in changes {
                let mut all = Vec::new();
                places(&document, "", &mut all);
                if let Some(place) = document.pointer_mut(&all[at.index(all.len())]) {
                    *place = odd;
                }
            }
            let seen = read("x.json", &[document.to_string().as_bytes()]);
            prop_assert!(!seen.pairs.is_empty() || !seen.skipped.is_empty() || !seen.refused.is_empty(), "{document}");
        }
    }

    #[test]
    fn the_documents_themselves_are_read() {
        for document in documents() {
            let seen = read("x.json", &[document.to_string().as_bytes()]);
            assert_eq!((seen.pairs.len(), seen.refused.len()), (1, 0), "{document} {seen:?}");
        }
    }
}
