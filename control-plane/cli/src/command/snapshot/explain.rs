//! `countersign snapshot explain`: how a request would be matched.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use clap::Args;
use countersign_proto::{
    control::v1::ExplainRequestRequest,
    snapshot::v1::{Explanation, Header, HttpRequest, ServeDirection},
    r#type::v1::Diagnostic,
};
use http::Uri;
use serde_json::{Value, json};

use crate::{
    args::Serve,
    connect::{Client, Collection},
    failure::Failure,
    output::{Output, Style},
    view::View as _,
};

/// The request, as curl would be told.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The snapshot
    id: String,

    /// The URL
    url: Uri,

    /// The method; POST when there is a body, else GET
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<String>,

    /// A header field, `Name: value`
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,

    /// The body, or `@FILE`
    #[arg(short, long, value_name = "BODY")]
    data: Option<String>,

    /// The transform that the replay would have
    #[arg(long, value_name = "ID")]
    transform: Option<String>,

    /// Which recorded pairs would be served; `out` by default, or `in` when there are no others
    #[arg(long, value_enum)]
    serve: Option<Serve>,
}

/// Runs the command.
pub(crate) async fn run(args: ExplainArgs, client: &Client, out: &Output) -> Result<(), Failure> {
    let transform = args.transform.as_deref();
    let request = ExplainRequestRequest {
        parent: client.parent(),
        snapshot: client.name(Collection::Snapshots, &args.id),
        transform: transform.map(|id| client.name(Collection::Transforms, id)).unwrap_or_default(),
        serve: args.serve.map(ServeDirection::from).unwrap_or_default().into(),
        request: Some(request(&args)?),
    };
    let explained = client.inspect().explain_request(request).await;
    let explained = explained.map_err(Failure::rpc("explain the request"))?.into_inner();
    let (explanation, diagnostics) =
        (explained.explanation.unwrap_or_default(), explained.diagnostics);
    if out.is_json() {
        out.json(&to_json(&explanation, &diagnostics));
    } else {
        show(&explanation, out);
    }
    Ok(())
}

fn request(args: &ExplainArgs) -> Result<HttpRequest, Failure> {
    let body = match args.data.as_deref() {
        None => Bytes::new(),
        Some(data) => match data.strip_prefix('@') {
            Some(file) => {
                let file = PathBuf::from(file);
                fs::read(&file).map_err(|error| Failure::read(&file, error))?.into()
            }
            None => data.to_owned().into(),
        },
    };
    let method = match &args.method {
        Some(method) => method.clone(),
        None if args.data.is_some() => "POST".to_owned(),
        None => "GET".to_owned(),
    };
    let headers = args.headers.iter().map(|field| {
        let (name, value) = field.split_once(':').ok_or_else(|| {
            Failure::refused(format!("`{field}` is no header field: write `Name: value`"))
        })?;
        Ok(Header { name: name.trim().to_owned(), value: value.trim().to_owned().into() })
    });
    Ok(HttpRequest {
        method,
        host: args.url.authority().map(|host| host.as_str().to_owned()).unwrap_or_default(),
        path: args.url.path().to_owned(),
        query: args.url.query().unwrap_or_default().to_owned(),
        headers: headers.collect::<Result<_, Failure>>()?,
        body,
        ..HttpRequest::default()
    })
}

fn show(explained: &Explanation, out: &Output) {
    for credential in &explained.credentials {
        out.text(&format!("presents {}: {}", credential.place, credential.what));
    }
    if !explained.chains.is_empty() {
        out.text(&format!("request chains that ran: {}", explained.chains.join(", ")));
    }
    out.text(&out.paint(Style::Strong, "signature"));
    for entry in &explained.signature {
        out.text(&format!("  {} is {}", entry.key, String::from_utf8_lossy(&entry.value)));
    }
    if !explained.stub.is_empty() {
        out.text(&out.paint(Style::Good, &format!("answered by the stub {}", explained.stub)));
    } else if explained.candidates.is_empty() {
        out.text(&out.paint(Style::Bad, "nothing recorded answers; what comes near:"));
        out.text(&pretty(&explained.near_miss_json));
    } else {
        out.text(&out.paint(
            Style::Good,
            &format!("{} recorded pairs answer in turn", explained.candidates.len()),
        ));
        out.text(&format!("  {}", explained.narrowing));
        for (nth, candidate) in (0_u32..).zip(&explained.candidates) {
            let turn = if nth == explained.chosen { "  <- first" } else { "" };
            out.text(&format!(
                "  record {}: status {}, {} tokens, made as {}{turn}",
                candidate.ordinal, candidate.status, candidate.tokens, candidate.way
            ));
        }
    }
}

fn pretty(text: &str) -> String {
    serde_json::from_str::<Value>(text)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| text.to_owned())
}

fn to_json(explained: &Explanation, diagnostics: &[Diagnostic]) -> Value {
    json!({
        "chains": explained.chains,
        "credentials": explained.credentials.iter()
            .map(|credential| json!({ "place": credential.place, "what": credential.what }))
            .collect::<Vec<_>>(),
        "signature": explained.signature.iter()
            .map(|entry| (entry.key.clone(), Value::String(String::from_utf8_lossy(&entry.value).into_owned())))
            .collect::<serde_json::Map<_, _>>(),
        "candidates": explained.candidates.iter().map(|candidate| json!({
            "record": candidate.ordinal,
            "status": candidate.status,
            "tokens": candidate.tokens,
            "way": candidate.way,
        })).collect::<Vec<_>>(),
        "identity": (!explained.candidates.is_empty()).then_some(&explained.identity),
        "recorded": explained.recorded,
        "narrowing": (!explained.candidates.is_empty()).then_some(&explained.narrowing),
        "chosen": (!explained.candidates.is_empty()).then_some(explained.chosen),
        "stub": (!explained.stub.is_empty()).then_some(&explained.stub),
        "nearMiss": serde_json::from_str::<Value>(&explained.near_miss_json).ok(),
        "diagnostics": diagnostics.iter().map(|found| found.json()).collect::<Vec<_>>(),
    })
}
