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

/// Why this object, which is no RRPair, is left out.
fn explain(fields: &Fields<'_>) -> Left {
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
    let within = |name, member| object_has(fields, name, member);
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
