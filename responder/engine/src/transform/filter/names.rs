//! The names of the criteria: as members of a JSON filter and as keywords of a query.
//!
//! Each spelling stands for one kind of criterion; case, `_` and `-` do not matter, and the spellings of both forms are taken in both.

/// What a criterion looks at and how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text that each pair has one of.
    Plain(Plain),
    /// A text that is found by a key.
    Keyed(Place),
    /// A place in the request's body, whose kind is written beside it.
    RequestFilter,
    /// The time of the request.
    TimeRange,
    /// A share of the pairs.
    Sample,
}

/// A text that each pair has one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    Host,
    BodyHash,
    Direction,
    Tech,
    Protocol,
    NetworkAddress,
    Service,
    Cluster,
    Namespace,
    Url,
    Command,
    Location,
    Status,
    Uuid,
    SnapshotId,
    Session,
    Source,
}

/// Where a key leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Tag,
    Header,
    Json,
    Xml,
    XPath,
    SoapXPath,
}

/// One criterion's spellings.
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// The member of a JSON filter.
    pub(super) json: &'static str,
    /// The keyword of a query; empty when it is written with the keyword of another.
    pub(super) query: &'static str,
}

const fn plain(of: Plain, json: &'static str, query: &'static str) -> Entry {
    Entry { kind: Kind::Plain(of), json, query }
}

const fn keyed(of: Place, json: &'static str, query: &'static str) -> Entry {
    Entry { kind: Kind::Keyed(of), json, query }
}

/// Every criterion. `host` and `req_hash` are keywords of our own, so that every filter can be written as a query.
pub(super) const ENTRIES: [Entry; 26] = [
    plain(Plain::Host, "host", "host"),
    keyed(Place::Tag, "tag", "tag"),
    plain(Plain::BodyHash, "requestBodyHash", "req_hash"),
    keyed(Place::Json, "requestBodyJson", "req_json"),
    keyed(Place::Xml, "requestBodyXml", "req_xml"),
    plain(Plain::Direction, "direction", "direction"),
    plain(Plain::Tech, "tech", "tech"),
    plain(Plain::Protocol, "l7protocol", "l7protocol"),
    plain(Plain::NetworkAddress, "network_address", "networkaddr"),
    plain(Plain::Service, "service", "service"),
    plain(Plain::Cluster, "cluster", "cluster"),
    plain(Plain::Namespace, "namespace", "namespace"),
    plain(Plain::Url, "optUrl", "url"),
    plain(Plain::Command, "detectedCommand", "command"),
    plain(Plain::Location, "detectedLocation", "location"),
    plain(Plain::Status, "detectedStatus", "status"),
    Entry { kind: Kind::TimeRange, json: "timeRange", query: "timerange" },
    keyed(Place::Header, "header", "header"),
    keyed(Place::XPath, "httpReqXPath", "req_xpath"),
    keyed(Place::SoapXPath, "httpReqSoapXPath", "req_soapxpath"),
    Entry { kind: Kind::RequestFilter, json: "reqFilter", query: "" },
    Entry { kind: Kind::Sample, json: "sample", query: "sample" },
    plain(Plain::Uuid, "uuid", "uuid"),
    plain(Plain::SnapshotId, "snapshotId", "snapshot"),
    plain(Plain::Session, "session", "session"),
    plain(Plain::Source, "source", "source"),
];

/// The spellings of each criterion in JSON and in queries, and whether a key goes with it.
pub(in crate::transform) fn criteria() -> Vec<(&'static str, &'static str, bool)> {
    let keyed = |kind| matches!(kind, Kind::Keyed(_));
    ENTRIES.iter().map(|entry| (entry.json, entry.query, keyed(entry.kind))).collect()
}

/// The criterion that a name stands for.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    let name = plain_name(name);
    ENTRIES.iter().find(|entry| {
        [entry.json, entry.query].iter().any(|known| !known.is_empty() && plain_name(known) == name)
    })
}

/// The spelling of a criterion in a query.
pub(super) fn keyword(kind: Kind) -> &'static str {
    ENTRIES.iter().find(|entry| entry.kind == kind).map(|entry| entry.query).unwrap_or_default()
}

fn plain_name(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}
