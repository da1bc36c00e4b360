//! Tells JSON files that are no recordings apart, so that each is left out with a reason.
//!
//! Recordings of other tools are refused, because traffic was meant to be served from them; side files of a snapshot are skipped.

use crate::formats::{fields::Fields, verdict::Left};

/// Why this object, which is no RRPair, is left out.
pub(super) fn explain(fields: &Fields<'_>) -> Left {
    other_tool(fields).or_else(|| side_file(fields)).unwrap_or_else(|| {
        Left::refused(
            "not_a_recording",
            "",
            "this is no RRPair: it has neither `msgType` nor `http`",
        )
        .hint("recordings are RRPair JSON, JSON lines or markdown")
    })
}

fn other_tool(fields: &Fields<'_>) -> Option<Left> {
    let has = |name| fields.has(name);
    let within = |name, member| object_has(fields, name, member);
    let (what, whose) = if is_array(fields, "mappings")
        || (within("request", "method")
            && (within("response", "status") || has("response") || has("persistent")))
    {
        ("a WireMock mappings file", "WireMock mappings are")
    } else if within("log", "entries") {
        ("a HAR file", "HAR is")
    } else if within("info", "_postman_id") || (has("info") && is_array(fields, "item")) {
        ("a Postman collection", "Postman collections are")
    } else if has("openapi") || has("swagger") {
        ("an OpenAPI document", "OpenAPI documents are")
    } else {
        return None;
    };
    Some(
        Left::refused("format_unsupported", "", format!("this is {what}; {whose} not read yet"))
            .hint("import it with `proxymock import`, then use the RRPair files that it writes"),
    )
}

fn side_file(fields: &Fields<'_>) -> Option<Left> {
    let has = |name| fields.has(name);
    let (code, what) = if has("tokenizeConfig") || has("tokenize_config") {
        ("blueprint", "a blueprint, which holds transforms and no traffic")
    } else if has("tokenizerConfig") || has("tokenConfigId") || has("tokenizer_config") {
        ("snapshot_metadata", "the metadata of a snapshot, which holds no traffic")
    } else if has("assertionGroups") || has("rules") || (has("cluster") && has("generator")) {
        ("test_config", "a test config, which holds no traffic")
    } else if is_array(fields, "generator")
        || is_array(fields, "responder")
        || has("generatorVariables")
        || has("responderVariables")
    {
        ("transform_template", "a transform template, which holds no traffic")
    } else if has("signature") && has("ids") {
        ("snapshot_index", "a line of a snapshot's signature index")
    } else if has("latency") && (has("jwts") || has("segments")) {
        ("snapshot_summary", "the summary of a snapshot")
    } else if only(fields, &["uuid"]) {
        ("snapshot_index", "a line of a snapshot's list of transformed pairs")
    } else if has("items") || looks_like_tokens(fields) {
        ("side_file", "a side file of a workspace or snapshot, which holds no traffic")
    } else {
        return None;
    };
    Some(Left::skipped(code, "", format!("this is {what}")))
}

fn only(fields: &Fields<'_>, names: &[&str]) -> bool {
    let mut left = fields.rest().peekable();
    left.peek().is_some() && left.all(|(name, _)| names.contains(&name))
}

/// `tokens.jsonl` is one object from ids to occurrences.
fn looks_like_tokens(fields: &Fields<'_>) -> bool {
    let mut left = fields.rest().peekable();
    left.peek().is_some()
        && left.all(|(_, raw)| raw.contains("\"replacement_value\"") || raw.contains("\"tokens\""))
}

fn is_array(fields: &Fields<'_>, name: &str) -> bool {
    fields.peek(name).is_some_and(|raw| raw.starts_with('['))
}

fn object_has(fields: &Fields<'_>, name: &str, member: &str) -> bool {
    fields
        .peek(name)
        .filter(|raw| raw.starts_with('{'))
        .and_then(|raw| Fields::parse(raw).ok())
        .is_some_and(|inner| inner.has(member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_named() {
        for (json, skipped, code, says) in [
            (r#"{"mappings":[]}"#, false, "format_unsupported", "WireMock"),
            (
                r#"{"id":"1","request":{"method":"GET","urlPath":"/"},"response":{"status":200}}"#,
                false,
                "format_unsupported",
                "WireMock",
            ),
            (r#"{"log":{"version":"1.2","entries":[]}}"#, false, "format_unsupported", "HAR"),
            (
                r#"{"info":{"name":"x","schema":"s"},"item":[]}"#,
                false,
                "format_unsupported",
                "Postman",
            ),
            (r#"{"openapi":"3.0.0","paths":{}}"#, false, "format_unsupported", "OpenAPI"),
            (r#"{"id":"1","tokenizeConfig":{}}"#, true, "blueprint", "transforms"),
            (r#"{"id":"1","tokenizerConfig":{},"meta":{}}"#, true, "snapshot_metadata", "metadata"),
            (r#"{"id":"t","generator":[],"responder":[]}"#, true, "transform_template", "template"),
            (
                r#"{"id":"c","version":3,"rules":[],"responder":{}}"#,
                true,
                "test_config",
                "test config",
            ),
            (r#"{"signature":"{}","ids":["x"]}"#, true, "snapshot_index", "index"),
            (r#"{"uuid":"x"}"#, true, "snapshot_index", "transformed"),
            (r#"{"1":{"id":"1","tokens":[]}}"#, true, "side_file", "side file"),
            (r#"{"hello":"world"}"#, false, "not_a_recording", "no RRPair"),
            ("{}", false, "not_a_recording", "no RRPair"),
        ] {
            let left = explain(&Fields::parse(json).unwrap());
            assert_eq!((left.skipped, left.why.code), (skipped, code), "{json}");
            assert!(left.why.message.contains(says), "{json}: {}", left.why);
        }
    }
}
