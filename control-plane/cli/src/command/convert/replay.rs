//! A TrafficReplay of the incumbent: which of its fields mean the same here, which are kept without effect, and what has to go.
//!
//! Its fields are those of `deploy/crd/trafficreplays.yaml`.

use super::{
    finding::{Findings, Place},
    yaml::{Content, Node},
};

/// The group and version that is read.
pub(super) const THEIRS: &str = "speedscale.com/v1";
/// The group and version that is written.
pub(super) const OURS: &str = "countersign.dev/v1";

const NO_SIDECAR: &str = "there is no sidecar: recorded hosts lead to the responders by host aliases, and TLS is answered by responders \
                          with the authority of spec.tlsSecretRef";
const LOW_DATA: &str = "there is no low-data mode";
const TESTS: &str = "all recorded requests are generated";

/// What becomes of a field.
#[derive(Clone, Copy)]
enum Field {
    /// It means the same.
    Same,
    /// It is kept and has no effect, for this reason.
    Idle(&'static str),
    /// It holds fields.
    Of(&'static [(&'static str, Self)]),
    /// It is a list of what holds fields.
    Each(&'static [(&'static str, Self)]),
}
use Field::{Each, Idle, Of, Same};

const REF: &[(&str, Field)] =
    &[("apiVersion", Same), ("kind", Same), ("name", Same), ("namespace", Same)];
const NAME: &[(&str, Field)] = &[("name", Same)];
const WORKLOAD: &[(&str, Field)] = &[
    ("ref", Of(REF)),
    ("customURI", Same),
    ("tests", Idle(TESTS)),
    ("mocks", Same),
    ("routing", Same),
    ("inTrafficKey", Idle(TESTS)),
    ("inTrafficKeys", Idle(TESTS)),
    ("outTrafficKeys", Idle("spec.workloads[].mocks says which hosts lead to the responders")),
    ("sidecar", Idle(NO_SIDECAR)),
];
const SPEC: &[(&str, Field)] = &[
    ("snapshotID", Same),
    ("testConfigID", Same),
    ("transformID", Same),
    ("buildTag", Same),
    ("cleanup", Same),
    ("collectLogs", Idle("logs are collected by the cluster")),
    ("configChecksum", Idle("it was noted by the other operator")),
    ("customURL", Same),
    ("generatorLowData", Idle(LOW_DATA)),
    ("responderLowData", Idle(LOW_DATA)),
    ("mode", Same),
    ("needsReport", Idle("there is a report in any case")),
    ("proxyMode", Idle(NO_SIDECAR)),
    ("secretRefs", Each(NAME)),
    ("tlsSecretRef", Of(NAME)),
    ("generateKey", Same),
    ("sidecar", Idle(NO_SIDECAR)),
    ("timeout", Same),
    ("ttlAfterReady", Same),
    ("workloadRef", Of(REF)),
    ("workloads", Each(WORKLOAD)),
];

/// What an API server writes into `metadata` and does not want to be given, or what belongs to the other operator.
const SERVER_SET: [&str; 7] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "finalizers",
];
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A change of the text: these bytes become that.
pub(super) type Edit = (std::ops::Range<usize>, String);

/// The changes that make a TrafficReplay of theirs one of ours. What stands in the way is told; the changes are no use then.
pub(super) fn convert(
    text: &str,
    root: &Node,
    place: &Place<'_>,
    found: &mut Findings,
) -> Vec<Edit> {
    let mut edits = Vec::new();
    match root.get("apiVersion").and_then(|version| api_version(text, version)) {
        Some(edit) => edits.push(edit),
        None => found.error(
            &place.field("apiVersion"),
            format!("write `apiVersion: {THEIRS}` out, without an anchor or an escape"),
        ),
    }
    for entry @ (key, value) in root.entries() {
        match key.text() {
            Some("apiVersion" | "kind") => {}
            Some("metadata") => metadata(text, value, &place.field("metadata"), &mut edits, found),
            Some("spec") => spec(value, &place.field("spec"), found),
            Some("status") => cut(text, root, entry, &place.field("status"), &mut edits, found),
            name => unknown(&place.field(name.unwrap_or("?")), found),
        }
    }
    if root.get("spec").is_none() {
        found.error(&place.field("spec"), "a TrafficReplay has one".to_owned());
    }
    edits
}

fn api_version(text: &str, node: &Node) -> Option<Edit> {
    let written = text.get(node.range.clone())?;
    let clean = !node.anchored && node.text() == Some(THEIRS) && written.contains(THEIRS);
    clean.then(|| (node.range.clone(), written.replacen(THEIRS, OURS, 1)))
}

fn metadata(
    text: &str,
    node: &Node,
    place: &Place<'_>,
    edits: &mut Vec<Edit>,
    found: &mut Findings,
) {
    for entry @ (key, value) in node.entries() {
        let name = key.text().unwrap_or("?");
        let place = place.field(name);
        if SERVER_SET.contains(&name) {
            cut(text, node, entry, &place, edits, found);
        } else if name == "ownerReferences" {
            found.warn(&place, "it names an owner that may not be there; it is kept".to_owned());
        } else if ["annotations", "labels"].contains(&name) {
            for entry @ (key, _) in value.entries() {
                let name = key.text().unwrap_or("?");
                let place = place.key(name);
                if name == LAST_APPLIED {
                    cut(text, value, entry, &place, edits, found);
                } else if name.contains("speedscale.com/") {
                    found.warn(&place, "it has no meaning here; it is kept".to_owned());
                }
            }
        }
    }
}

fn spec(node: &Node, place: &Place<'_>, found: &mut Findings) {
    if !matches!(node.content, Content::Mapping { .. }) {
        found.error(place, "it has to be a mapping".to_owned());
        return;
    }
    fields(node, SPEC, place, found);
    if node.text_at(&["snapshotID"]).unwrap_or_default().is_empty() {
        found.error(&place.field("snapshotID"), "it is required".to_owned());
    }
    if node.get("testConfigID").is_none() {
        found.warn(
            &place.field("testConfigID"),
            "it is not given, and is `standard` then".to_owned(),
        );
    }
    if node.get("workloadRef").is_some() && node.get("workloads").is_some() {
        let what = "it excludes spec.workloads: make it one of them".to_owned();
        found.error(&place.field("workloadRef"), what);
    }
    if node.text_at(&["workloadRef", "name"]).is_none() && node.get("workloadRef").is_some() {
        found.error(&place.field("workloadRef").field("name"), "it is required".to_owned());
    }
    for (index, workload) in node.get("workloads").map_or(&[][..], Node::items).iter().enumerate() {
        if workload.text_at(&["routing"]) == Some("nat") {
            let place = place.field("workloads").item(index).field("routing");
            found.warn(&place, "it is done by host aliases".to_owned());
        }
    }
}

/// Looks through the fields of a mapping.
fn fields(node: &Node, known: &[(&str, Field)], place: &Place<'_>, found: &mut Findings) {
    for (key, value) in node.entries() {
        let name = key.text().unwrap_or("?");
        let place = place.field(name);
        match known.iter().find(|(known, _)| *known == name).map(|(_, field)| *field) {
            None => unknown(&place, found),
            Some(Same) => {}
            Some(Idle(why)) => found.warn(&place, format!("it has no effect: {why}")),
            Some(Of(known)) => fields(value, known, &place, found),
            Some(Each(known)) => {
                for (index, item) in value.items().iter().enumerate() {
                    fields(item, known, &place.item(index), found);
                }
            }
        }
    }
}

fn unknown(place: &Place<'_>, found: &mut Findings) {
    found.error(
        place,
        "no TrafficReplay has such a field, and `kubectl apply` would refuse it".to_owned(),
    );
}

/// Takes an entry out, and tells.
fn cut(
    text: &str,
    node: &Node,
    entry: &(Node, Node),
    place: &Place<'_>,
    edits: &mut Vec<Edit>,
    found: &mut Findings,
) {
    match node.lines(text, entry) {
        Some(lines) => {
            edits.push((lines, String::new()));
            found.warn(place, "it belongs to the resource that was; it is left out".to_owned());
        }
        None => found.error(
            place,
            "it belongs to the resource that was; take it out, since it shares a line or has an anchor".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::convert::yaml;

    /// The fields of a mapping in the definition, with what they hold.
    fn compare(known: &[(&str, Field)], schema: &Node, path: &str) {
        let properties = schema.get("properties").unwrap();
        let mut ours: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let mut theirs: Vec<&str> =
            properties.entries().iter().filter_map(|(key, _)| key.text()).collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "{path}");
        for (name, field) in known {
            let schema = properties.get(name).unwrap();
            match field {
                Of(known) => compare(known, schema, &format!("{path}.{name}")),
                Each(known) => {
                    compare(known, schema.get("items").unwrap(), &format!("{path}.{name}[]"));
                }
                Same | Idle(_) => {}
            }
        }
    }

    #[test]
    fn the_fields_are_those_of_the_definition() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/crd/trafficreplays.yaml");
        let text = std::fs::read_to_string(file).unwrap();
        let root = yaml::parse(&text).unwrap().unwrap();
        let version = &root.get("spec").unwrap().get("versions").unwrap().items()[0];
        let schema = version.get("schema").unwrap().get("openAPIV3Schema").unwrap();
        compare(SPEC, schema.get("properties").unwrap().get("spec").unwrap(), "spec");
    }
}
