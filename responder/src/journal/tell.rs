//! What is told of the journal: entries as JSON, filtered, without a credential.

use bytes::Bytes;
use countersign_engine::{
    near_miss::Presented,
    request::{self, Request, host_key},
    witness::{self, Veiled, Witness},
};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value, json};

use super::{
    Journal, Messages, Outcome,
    pack::{Packed, Unpacked},
};
use crate::snapshots::Table;

/// So many entries are told unless more are asked for.
const LIMIT: usize = 100;

/// Which entries are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// At most so many, the last first.
    pub(crate) limit: usize,
    /// With this outcome; `borrowed` are hits that were recorded for somebody else.
    pub(crate) outcome: Option<String>,
    /// Of this host, with or without port.
    pub(crate) host: Option<String>,
    /// Whose path begins like this.
    pub(crate) path: Option<String>,
}

impl Default for Filter {
    fn default() -> Self {
        Self { limit: LIMIT, outcome: None, host: None, path: None }
    }
}

impl Filter {
    /// Reads a query; the error says what is wrong with it.
    pub(crate) fn parse(query: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for (name, value) in request::query(query) {
            match name.as_str() {
                "limit" => {
                    filter.limit = value.parse().map_err(|_| "`limit` is a number".to_owned())?;
                }
                "outcome" => {
                    let known = [
                        Outcome::Hit,
                        Outcome::Miss,
                        Outcome::PassedThrough,
                        Outcome::Refused,
                        Outcome::Unavailable,
                        Outcome::Defect,
                    ];
                    let names = known.map(Outcome::as_str);
                    if value != "borrowed" && !names.contains(&value.as_str()) {
                        return Err(format!("`outcome` is one of {}, borrowed", names.join(", ")));
                    }
                    filter.outcome = Some(value);
                }
                "host" => filter.host = Some(value),
                "path" => filter.path = Some(value),
                "format" if matches!(&*value, "json" | "jsonl") => {}
                "format" => return Err("`format` is json or jsonl".to_owned()),
                other => {
                    return Err(format!(
                        "there is no `{other}`: limit, outcome, host, path and format are known"
                    ));
                }
            }
        }
        Ok(filter)
    }

    fn admits(&self, packed: &Packed, head: &Unpacked) -> bool {
        // Who is a borrower shows only when the request is looked at; see `Journal::tell`.
        let outcome =
            self.outcome.as_deref().map(|name| if name == "borrowed" { "hit" } else { name });
        outcome.is_none_or(|outcome| outcome == packed.outcome.as_str())
            && self.host.as_ref().is_none_or(|host| host_key(host) == host_key(&head.host))
            && self.path.as_ref().is_none_or(|path| head.path.starts_with(path.as_str()))
    }
}

impl Journal {
    /// The credentials of the last requests since then, in nanoseconds since the epoch, by the serial number of their replay, and when the last of them
    /// came. Takes time: not for the request path's threads.
    pub(crate) fn presented(
        &self,
        since: i64,
        most: usize,
        table: &Table,
    ) -> (Vec<(u64, Vec<Presented>)>, i64) {
        let newest = self.newest(since, most);
        let last = newest.first().map_or(since, |packed| packed.at);
        let look = |packed: &Packed| {
            let serial = packed.replay?;
            let replay = table.of_serial(serial)?;
            let head = packed.unpack();
            Some((serial, replay.serving.credentials(&head.request(), packed.at)))
        };
        (newest.iter().filter_map(look).collect(), last)
    }

    /// The entries that a filter admits, the last first. Takes time: not for the request path's threads.
    pub(crate) fn tell(&self, filter: &Filter, table: &Table) -> Vec<Value> {
        let borrowed = filter.outcome.as_deref() == Some("borrowed");
        self.entries()
            .iter()
            .map(|packed| (packed, packed.unpack()))
            .filter(|(packed, head)| filter.admits(packed, head))
            .map(|(packed, head)| self.entry(packed, &head, table))
            .filter(|entry| !borrowed || entry.get("answered_for").is_some())
            .take(filter.limit)
            .collect()
    }

    fn entry(&self, packed: &Packed, head: &Unpacked, table: &Table) -> Value {
        let request = head.request();
        let veiled = witness::veiled(&request, &self.veil, packed.at);
        let replay = packed.replay.and_then(|serial| table.of_serial(serial));
        let witness = replay
            .filter(|_| packed.outcome != Outcome::Refused)
            .map(|replay| replay.serving.witness(&request, packed.origin, &self.veil, packed.at));
        let mut out = Map::new();
        let mut set = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
        set("time", time(packed.at).into());
        set("duration_us", packed.micros.into());
        set("outcome", packed.outcome.as_str().into());
        set("status", packed.status.into());
        set("replay", replay.map_or(Value::Null, |replay| replay.assignment.name.as_str().into()));
        set("method", head.method.as_str().into());
        set("host", head.host.as_str().into());
        set("path", veiled.path.as_str().into());
        set("query", veiled.query.as_str().into());
        set("headers", headers(&veiled));
        set("request_bytes", packed.request_bytes.into());
        if let Some(Messages { heard, missed, said }) = packed.messages {
            set("messages", json!({ "client": heard, "not_recorded": missed, "server": said }));
        }
        if packed.cut {
            set("headers_left_out", true.into());
        }
        if self.settings.bodies {
            set("request_body", text(&veiled.body));
            if let Some((kind, body)) = &head.answer {
                set("response_body", text(&self.answer(kind, body, packed.at)));
            }
        }
        if let Some(origin) = packed.origin {
            set("record", origin.ordinal.into());
        }
        if let Some(witness) = witness {
            saw(&witness, &mut set);
        }
        if let Some(nearest) = &packed.nearest {
            set("nearest", serde_json::to_value(&nearest.nearest).unwrap_or_default());
        }
        Value::Object(out)
    }

    /// The body of an answer, in which fresh tokens stand.
    fn answer(&self, kind: &[u8], body: &Bytes, now: i64) -> Bytes {
        let mut headers = HeaderMap::new();
        if let Ok(kind) = HeaderValue::from_bytes(kind) {
            headers.insert(header::CONTENT_TYPE, kind);
        }
        let as_request = Request { headers: &headers, body, ..Request::default() };
        witness::veiled(&as_request, &self.veil, now).body
    }
}

fn saw(witness: &Witness, set: &mut dyn FnMut(&str, Value)) {
    let entries =
        witness.signature.iter().map(|entry| (entry.key.clone(), entry.value.as_str().into()));
    set("signature", Value::Object(entries.collect()));
    set("credentials", serde_json::to_value(&witness.credentials).unwrap_or_default());
    if let Some(who) = &witness.asked_by {
        set("asked_by", who.as_str().into());
    }
    if let Some(who) = &witness.answered_for {
        set("answered_for", who.as_str().into());
    }
}

fn headers(veiled: &Veiled) -> Value {
    let mut all: Map<String, Value> = Map::new();
    for (name, value) in &veiled.headers {
        let values = all.entry(name.clone()).or_insert_with(|| json!([]));
        if let Value::Array(values) = values {
            values.push(value.as_str().into());
        }
    }
    Value::Object(all)
}

fn text(body: &Bytes) -> Value {
    String::from_utf8_lossy(body).into_owned().into()
}

fn time(nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default().to_string()
}
