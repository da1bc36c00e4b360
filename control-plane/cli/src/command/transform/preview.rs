//! `countersign transform preview`: what a template does to one pair.

use std::{fs, path::PathBuf};

use clap::Args;
use countersign_proto::control::v1::{
    ChainPreview, PreviewTransformRequest, PreviewTransformResponse, RecordRef,
    preview_transform_request::{Pair, Template},
};
use serde_json::{Value, json};

use super::super::read_text;
use crate::{
    connect::{Client, Collection},
    failure::Failure,
    output::{Output, Style},
    view::View as _,
};

/// Which template on which pair.
#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    /// The template: a JSON file, or `-` for stdin
    #[arg(required_unless_present = "id", conflicts_with = "id")]
    file: Option<PathBuf>,

    /// A stored template
    #[arg(long)]
    id: Option<String>,

    /// A pair from a file: RRPair JSON or markdown
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "snapshot",
        conflicts_with = "snapshot"
    )]
    pair: Option<PathBuf>,

    /// A pair of this snapshot
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,

    /// Its position in recorded order, from 0, or its uuid
    #[arg(long, value_name = "N|UUID", default_value = "0", requires = "snapshot")]
    record: String,
}

/// How much of a value is shown on a terminal.
const SHOWN: usize = 400;

/// Runs the command.
pub(crate) async fn run(args: PreviewArgs, client: &Client, out: &Output) -> Result<(), Failure> {
    let template = match (&args.file, &args.id) {
        (Some(file), _) => Template::TemplateJson(read_text(file)?),
        (None, id) => {
            let id = id.as_deref().unwrap_or_default();
            Template::Transform(client.name(Collection::Transforms, id))
        }
    };
    let pair = match (&args.pair, &args.snapshot) {
        (Some(file), _) => {
            Pair::Rrpair(fs::read(file).map_err(|error| Failure::read(file, error))?.into())
        }
        (None, snapshot) => {
            let snapshot = snapshot.as_deref().unwrap_or_default();
            let snapshot = client.name(Collection::Snapshots, snapshot);
            Pair::Record(record(&args.record, snapshot)?)
        }
    };
    let request = PreviewTransformRequest {
        parent: client.parent(),
        template: Some(template),
        pair: Some(pair),
    };
    let preview = client.inspect().preview_transform(request).await;
    let preview = preview.map_err(Failure::rpc("preview the transform"))?.into_inner();
    if out.is_json() {
        out.json(&to_json(&preview));
    } else {
        out.findings(&preview.diagnostics);
        for chain in &preview.chains {
            show(chain, out);
        }
        if let Some(after) = preview.after.and_then(|pair| pair.response) {
            out.text(&out.paint(Style::Strong, "response body afterwards"));
            out.text(&format!("  {}", shortened(&after.body)));
        }
        out.text(&out.paint(Style::Strong, "signature"));
        for entry in &preview.signature {
            out.text(&format!("  {} is {}", entry.key, shortened(&entry.value)));
        }
    }
    Ok(())
}

fn record(text: &str, snapshot: String) -> Result<RecordRef, Failure> {
    if let Ok(ordinal) = text.parse() {
        return Ok(RecordRef { snapshot, ordinal, ..RecordRef::default() });
    }
    let uuid = uuid::Uuid::parse_str(text)
        .map_err(|_| Failure::refused(format!("`{text}` is neither a position nor a uuid")))?;
    let uuid = uuid.as_bytes().to_vec().into();
    Ok(RecordRef { snapshot, uuid, ..RecordRef::default() })
}

fn show(chain: &ChainPreview, out: &Output) {
    let side = if chain.on_request { "request" } else { "response" };
    let title = format!("{} ({side}, {})", chain.path, chain.nature);
    out.text(&out.paint(Style::Strong, &title));
    if !chain.admitted {
        out.text(&out.paint(Style::Faint, "  its filters leave this pair aside"));
    }
    for step in &chain.steps {
        out.text(&format!("  {}", step.kind));
        out.text(&format!("    given    {}", shortened(&step.given)));
        let returned =
            if step.failed { "nothing: it failed".into() } else { shortened(&step.returned) };
        out.text(&format!("    returned {returned}"));
    }
    if !chain.failure_code.is_empty() {
        let failure = format!("  skipped [{}]: {}", chain.failure_code, chain.failure);
        out.text(&out.paint(Style::Odd, &failure));
    }
}

/// A value on one line, cut where it is long.
pub(crate) fn shortened(value: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(value)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => {
            format!("{} … ({} bytes)", text.get(..at).unwrap_or_default(), value.len())
        }
        None if text.is_empty() => "(empty)".to_owned(),
        None => text,
    }
}

fn to_json(preview: &PreviewTransformResponse) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let body = |pair: &Option<countersign_proto::snapshot::v1::RrPair>| {
        pair.as_ref().map(|pair| {
            json!({
                "requestBody": pair.request.as_ref().map(|request| text(&request.body)),
                "status": pair.response.as_ref().map(|response| response.status),
                "responseBody": pair.response.as_ref().map(|response| text(&response.body)),
            })
        })
    };
    json!({
        "chains": preview.chains.iter().map(|chain| json!({
            "path": chain.path,
            "side": if chain.on_request { "request" } else { "response" },
            "admitted": chain.admitted,
            "nature": chain.nature,
            "failureCode": chain.failure_code,
            "failure": chain.failure,
            "steps": chain.steps.iter().map(|step| json!({
                "path": step.path,
                "kind": step.kind,
                "given": text(&step.given),
                "returned": (!step.failed).then(|| text(&step.returned)),
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "before": body(&preview.before),
        "after": body(&preview.after),
        "signature": preview.signature.iter()
            .map(|entry| (entry.key.clone(), Value::String(text(&entry.value))))
            .collect::<serde_json::Map<_, _>>(),
        "diagnostics": preview.diagnostics.iter().map(|found| found.json()).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_position_or_a_uuid() {
        assert_eq!(record("3", String::new()).unwrap().ordinal, 3);
        let uuid = record("6e17d25a-2f07-42a4-8eed-b86cf9df3b17", String::new()).unwrap().uuid;
        assert_eq!(uuid.len(), 16);
        assert!(record("x", String::new()).is_err());
    }

    #[test]
    fn values_stay_on_their_line() {
        assert_eq!(shortened(b""), "(empty)");
        assert_eq!(shortened(b"a\nb"), "a b");
        assert!(shortened("é".repeat(500).as_bytes()).ends_with("… (1000 bytes)"));
    }
}
