//! Tells JSON that is no recorded HTTP pair apart, so that each kind is left out with a reason.
//!
//! Recordings of other tools are refused, because traffic was meant to be served from them; side files of a snapshot are skipped.

use crate::formats::{
    fields::Fields,
    verdict::{self, Left},
};

/// Payload keys of protocols other than HTTP, in lower case, and the name to print.
const PROTOCOLS: &[(&str, &str)] = &[
    ("postgres", "Postgres"),
    ("amqp", "AMQP"),
    ("mysql", "MySQL"),
    ("mongo", "MongoDB"),
    ("kafka", "Kafka"),
    ("redis", "Redis"),
    ("memcache", "Memcached"),
    ("cassandra", "Cassandra"),
    ("mssql", "SQL Server"),
    ("tds", "SQL Server"),
    ("dns", "DNS"),
    ("smtp", "SMTP"),
    ("ldap", "LDAP"),
    ("mqtt", "MQTT"),
    ("nats", "NATS"),
    ("tcp", "TCP"),
    ("udp", "UDP"),
];

/// Files of a snapshot and of a workspace that hold no traffic and whose entries do not say what they are.
const SIDE_FILES: &[&str] = &[
    "affected-by-transforms.jsonl",
    "bad-rrs.jsonl",
    "events.jsonl",
    "generator_var_cache.jsonl",
    "responder_var_cache.jsonl",
    "rrpair_transforms.jsonl",
    "sig_rr_mappings.jsonl",
    "snapshot-log.jsonl",
    "streams.jsonl",
    "summary.json",
    "tokens.jsonl",
    "transform-changes.jsonl",
    "triggers.jsonl",
];

/// The code of an object that nothing is known about.
pub(super) const UNKNOWN: &str = "not_a_recording";
/// The code of an object that is a document of another tool; it never reaches a user.
pub(super) const DOCUMENT: &str = "document";

/// Whether a file of this name is known to hold no traffic.
pub(super) fn is_side_file(path: &str) -> bool {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    SIDE_FILES.contains(&name)
}

/// Whether an object is a pair at all.
pub(super) fn check_kind(top: &mut Fields<'_>) -> Result<(), Left> {
    match top.text("msgType")?.as_deref() {
        Some("rrpair") => Ok(()),
        None if top.has("http") || top.has("l7protocol") => Ok(()),
        None => Err(explain(top)),
        Some(other) => {
            // The kind is a word of the recorder's; whatever else stands here is not repeated.
            let known = other.len() <= 32 && other.bytes().all(|b| b.is_ascii_alphanumeric());
            let what = if known {
                format!("the entry is of type `{other}`")
            } else {
                "the entry is of another type".to_owned()
            };
            Err(Left::skipped("not_a_pair", "msgType", format!("{what}, no recorded pair")))
        }
    }
}

/// Why a pair without an HTTP payload is left out.
pub(super) fn without_http(top: &Fields<'_>, protocol: &str) -> Left {
    let known = |name: &str| {
        PROTOCOLS
            .iter()
            .find(|(key, _)| name.to_ascii_lowercase().starts_with(key))
            .map(|(_, name)| *name)
    };
    let payload =
        top.rest().filter(|(_, raw)| raw.starts_with('{')).find_map(|(name, _)| known(name));
    let kafka = top.has("apiKey") && top.has("correlationId");
    let name = match (known(protocol).or(payload), protocol) {
        (Some(name), _) => name,
        (None, _) if kafka => "Kafka",
        (None, "" | "http" | "https") => return verdict::missing("http"),
        (None, _) => protocol,
    };
    Left::skipped(
        "protocol_unsupported",
        "l7protocol",
        format!("this is a pair of the protocol {name}; only HTTP is served"),
    )
}

/// A tool whose documents are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    WireMock,
    Har,
    Postman,
    OpenApi,
    Hoverfly,
}

/// Why this object, which is no RRPair, is left out; [`DOCUMENT`] when another reader takes it.
fn explain(fields: &Fields<'_>) -> Left {
    if tool(fields).is_some() {
        return Left::skipped(DOCUMENT, "", "this is a document of another tool");
    }
    side_file(fields).unwrap_or_else(unknown)
}

/// What is said of an object that nothing is known about.
pub(super) fn unknown() -> Left {
    Left::refused(UNKNOWN, "", "this is no RRPair: it has neither `msgType` nor `http`").hint(
        "recordings are RRPair JSON, JSON lines or markdown, HAR, Postman collections, Hoverfly simulations, WireMock mappings or OpenAPI",
    )
}

/// The tool whose document this text is.
pub(super) fn tool_of(text: &[u8]) -> Option<Tool> {
    tool(&Fields::parse(std::str::from_utf8(text).ok()?).ok()?)
}

fn tool(fields: &Fields<'_>) -> Option<Tool> {
    let has = |name| fields.has(name);
    let within = |name, member| object_has(fields, name, member);
    let is_object = |name| fields.peek(name).is_some_and(|raw| raw.starts_with('{'));
    if is_array(fields, "mappings") || (is_object("request") && is_object("response")) {
        Some(Tool::WireMock)
    } else if within("log", "entries") {
        Some(Tool::Har)
    } else if within("data", "pairs") && (within("meta", "schemaVersion") || has("meta")) {
        Some(Tool::Hoverfly)
    } else if within("info", "_postman_id")
        || (has("info") && is_array(fields, "item"))
        || (within("collection", "info") && within("collection", "item"))
    {
        Some(Tool::Postman)
    } else if has("openapi") || has("swagger") {
        Some(Tool::OpenApi)
    } else {
        None
    }
}

fn side_file(fields: &Fields<'_>) -> Option<Left> {
    let has = |name| fields.has(name);
    let within = |name, member| object_has(fields, name, member);
    let (code, what) = if has("_postman_variable_scope") {
        (
            "postman_environment",
            "a Postman environment; only variables of the collection are put in",
        )
    } else if has("tokenizeConfig") || has("tokenize_config") {
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
    } else if within("latency", "values") {
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
        for (json, tool) in [
            (r#"{"mappings":[]}"#, Tool::WireMock),
            (
                r#"{"id":"1","request":{"method":"GET","urlPath":"/"},"response":{"status":200}}"#,
                Tool::WireMock,
            ),
            (r#"{"log":{"version":"1.2","entries":[]}}"#, Tool::Har),
            (r#"{"info":{"name":"x","schema":"s"},"item":[]}"#, Tool::Postman),
            (r#"{"collection":{"info":{},"item":[]}}"#, Tool::Postman),
            (r#"{"openapi":"3.0.0","paths":{}}"#, Tool::OpenApi),
            (r#"{"data":{"pairs":[]},"meta":{"schemaVersion":"v5"}}"#, Tool::Hoverfly),
        ] {
            let fields = Fields::parse(json).unwrap();
            assert_eq!(
                (tool_of(json.as_bytes()), explain(&fields).why.code),
                (Some(tool), DOCUMENT)
            );
        }
        for (json, skipped, code, says) in [
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
            (r#"{"latency":{"values":[]}}"#, true, "snapshot_summary", "summary"),
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
