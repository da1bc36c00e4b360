//! `countersign transform suggest`: the template that a recording asks for.

use clap::Args;
use countersign_proto::control::v1::{
    CreateTransformRequest, SuggestTransformRequest, SuggestTransformResponse,
};
use countersign_proto::transform::v1::Transform;
use serde_json::{Value, json};

use crate::{
    connect::{Client, Collection},
    failure::Failure,
    output::Output,
    view::{self, View as _},
};

/// Suggests a template.
#[derive(Debug, Args)]
#[command(after_help = "\
Finds every token that a response of the snapshot issues, and writes one chain for each place.
The template is compiled against the snapshot. Which tokens it does not cover, and which secrets
to mount, is told on stderr.

Examples:
  countersign transform suggest login > jwt.json                 # to be read, changed and put
  countersign transform suggest login --create                   # store it as it is
  countersign transform suggest login --secret jwt-demo/tls.key  # one key for all tokens
  countersign transform suggest login --secret jwt-demo          # hmac.key for HS*, else tls.key")]
pub(crate) struct SuggestArgs {
    /// The snapshot
    snapshot: String,

    /// The template's id; the snapshot's by default
    #[arg(long)]
    id: Option<String>,

    /// The secret to sign with, `<secret>/<key>` or `<secret>`; by default each issuer and key id has its own
    #[arg(long)]
    secret: Option<String>,

    /// Store the template instead of printing it; one of the same id is not replaced
    #[arg(long)]
    create: bool,
}

/// Runs the command.
pub(crate) async fn run(args: SuggestArgs, client: &Client, out: &Output) -> Result<(), Failure> {
    let id = args.id.unwrap_or_else(|| args.snapshot.clone());
    let request = SuggestTransformRequest {
        parent: client.parent(),
        snapshot: client.name(Collection::Snapshots, &args.snapshot),
        transform_id: id.clone(),
        secret: args.secret.unwrap_or_default(),
    };
    let suggested = client.transforms().suggest_transform(request).await;
    let doing = format!("suggest a transform for the snapshot {}", args.snapshot);
    let suggested = suggested.map_err(Failure::rpc(doing))?.into_inner();
    tell(&suggested, out);
    if args.create {
        let request = CreateTransformRequest {
            parent: client.parent(),
            transform_id: id.clone(),
            transform: Some(Transform {
                template_json: suggested.template_json,
                ..Transform::default()
            }),
            validate_only: false,
        };
        let created = client.transforms().create_transform(request).await;
        let created = created.map_err(Failure::rpc(format!("create the transform {id}")))?;
        out.one(&created.into_inner());
    } else if out.is_json() {
        out.json(&as_json(&suggested));
    } else {
        out.raw(suggested.template_json.as_bytes());
    }
    Ok(())
}

/// What people should know, beside the template itself.
fn tell(suggested: &SuggestTransformResponse, out: &Output) {
    for needed in &suggested.secrets {
        out.note(&secret(needed));
    }
    // Each secret is told already.
    let others: Vec<_> = suggested
        .diagnostics
        .iter()
        .filter(|finding| finding.code != "secret_needed")
        .cloned()
        .collect();
    out.findings(&others);
    let count = suggested.resigned_count;
    out.note(&format!("{count} recorded {} re-signed", plural(count, "token is", "tokens are")));
}

fn secret(needed: &countersign_proto::control::v1::SuggestedSecret) -> String {
    let name = needed.secret.as_ref().map(view::secret).unwrap_or_default();
    let of = if needed.iss.is_empty() { String::new() } else { format!(" of {}", needed.iss) };
    let kid = if needed.kid.is_empty() { String::new() } else { format!(", kid {}", needed.kid) };
    let count = needed.token_count;
    format!(
        "mount the secret {name}: {}{of}{kid}; it signs {count} {}",
        needed.key,
        plural(count, "token", "tokens")
    )
}

fn plural(count: u64, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

fn as_json(suggested: &SuggestTransformResponse) -> Value {
    let secrets = suggested.secrets.iter().map(|needed| {
        json!({
            "secret": needed.secret.as_ref().map(view::secret),
            "key": needed.key,
            "iss": needed.iss,
            "kid": needed.kid,
            "tokenCount": needed.token_count,
        })
    });
    json!({
        "templateJson": suggested.template_json,
        "diagnostics": suggested.diagnostics.iter().map(|finding| finding.json()).collect::<Vec<_>>(),
        "secrets": secrets.collect::<Vec<_>>(),
        "resignedCount": suggested.resigned_count,
    })
}
