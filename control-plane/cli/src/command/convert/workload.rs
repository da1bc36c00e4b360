//! Annotations of workloads that ask the incumbent for a replay or a sidecar: the first become a TrafficReplay of its own, the others are told.

use std::fmt::Write as _;

use super::{
    finding::{Findings, Place},
    replay::OURS,
    yaml::{Node, quoted},
};

const REPLAY: &str = "replay.speedscale.com/";
const SIDECAR: &str = "sidecar.speedscale.com/";
/// The kinds whose pods a replay can lead to responders.
const KINDS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// The TrafficReplay that the annotations of a workload ask for.
pub(super) fn convert(root: &Node, place: &Place<'_>, found: &mut Findings) -> Option<String> {
    let mut asked = Asked::default();
    let template = place.field("spec").field("template");
    let of_pods = root.get("spec").and_then(|spec| spec.get("template"));
    let places = [(Some(root), place), (of_pods, &template)];
    for (object, place) in places {
        let annotations = object.and_then(|object| object.get("metadata")?.get("annotations"));
        let place = place.field("metadata").field("annotations");
        for (key, value) in annotations.map_or(&[][..], Node::entries) {
            let (name, text) = (key.text().unwrap_or_default(), value.text().unwrap_or_default());
            asked.hear(name, text, &place.key(name), found);
        }
    }
    asked.manifest(root, place, found)
}

#[derive(Default)]
struct Asked {
    snapshot: Option<String>,
    fields: Vec<(&'static str, String)>,
}

impl Asked {
    fn hear(&mut self, name: &str, text: &str, place: &Place<'_>, found: &mut Findings) {
        if let Some(what) = name.strip_prefix(REPLAY) {
            let field = match what {
                "snapshot-id" => {
                    self.snapshot = Some(text.to_owned());
                    let what = "a TrafficReplay is made of it; take it out, if the other operator still runs";
                    return found.warn(place, what.to_owned());
                }
                "testconfig-id" => "testConfigID",
                "mode" => "mode",
                "cleanup" => "cleanup",
                "env-id" => return found.warn(place, "there are no environments".to_owned()),
                _ => return found.warn(place, "it is not known, and has no effect".to_owned()),
            };
            self.fields.push((field, text.to_owned()));
        } else if let Some(what) = name.strip_prefix(SIDECAR) {
            found.warn(place, sidecar(what).to_owned());
        }
    }

    fn manifest(self, root: &Node, place: &Place<'_>, found: &mut Findings) -> Option<String> {
        let Some(snapshot) = self.snapshot else {
            for (field, _) in &self.fields {
                let place = place.field("metadata").field("annotations");
                found.warn(
                    &place,
                    format!("{field} is named, but no snapshot: nothing is replayed"),
                );
            }
            return None;
        };
        let kind = root.text_at(&["kind"]).unwrap_or_default();
        if !KINDS.contains(&kind) {
            let what = format!("a replay is for a {}, not for a {kind}", KINDS.join(", a "));
            found.error(&place.field("kind"), what);
            return None;
        }
        let Some(name) = root.text_at(&["metadata", "name"]) else {
            found.error(&place.field("metadata").field("name"), "a replay needs it".to_owned());
            return None;
        };
        let mut text = format!(
            "---\n# From the annotations of {kind} {name}.\napiVersion: {OURS}\nkind: TrafficReplay\nmetadata:\n  name: {}\n",
            quoted(&format!("{name}-replay")),
        );
        if let Some(namespace) = root.text_at(&["metadata", "namespace"]) {
            let _ = writeln!(text, "  namespace: {}", quoted(namespace));
        }
        let _ = writeln!(text, "spec:\n  snapshotID: {}", quoted(&snapshot));
        if !self.fields.iter().any(|(field, _)| *field == "testConfigID") {
            text.push_str("  testConfigID: standard\n");
        }
        for (field, value) in self.fields {
            let _ = writeln!(text, "  {field}: {}", quoted(&value));
        }
        let _ = writeln!(text, "  workloadRef:\n    kind: {kind}\n    name: {}", quoted(name));
        Some(text)
    }
}

fn sidecar(what: &str) -> &'static str {
    match what {
        "inject" => {
            "there is no sidecar: record with `countersign record`, and replay with a TrafficReplay"
        }
        "tls-out" | "tls-secret" => {
            "there is no sidecar: responders answer TLS with the authority that spec.tlsSecretRef of the TrafficReplay names"
        }
        "prometheus-port" | "prometheus-enable-scrape-annotations" => {
            "there is no sidecar: responders and control plane have metrics of their own"
        }
        _ => "there is no sidecar, and it has no effect",
    }
}
