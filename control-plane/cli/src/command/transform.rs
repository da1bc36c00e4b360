//! `countersign transform`: templates of what is changed in recorded traffic.

mod preview;
mod suggest;

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use countersign_proto::{
    control::v1::{
        CreateTransformRequest, DeleteTransformRequest, GetTransformRequest, ListTransformsRequest,
        UpdateTransformRequest, ValidateTransformRequest, ValidateTransformResponse,
    },
    transform::v1::Transform,
};
use serde_json::json;

pub(crate) use suggest::SuggestArgs;

use super::{PAGE, read_text};
use crate::{
    connect::{Client, Collection, taken},
    failure::Failure,
    output::Output,
    view::{self, is_error},
};

/// The commands about transform templates.
#[derive(Debug, Subcommand)]
pub(crate) enum TransformCommand {
    /// Compile a template and print every finding; nothing is stored
    #[command(after_help = "\
Examples:
  countersign transform validate jwt.json
  countersign transform validate jwt.json --snapshot login    # also against what was recorded")]
    Validate {
        /// A JSON file, or `-` for stdin
        file: PathBuf,
        /// Also compile it against this snapshot
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
    },
    /// Write the template that re-signs the tokens of a snapshot
    Suggest(SuggestArgs),
    /// Show what a template does to one recorded pair, step by step; nothing is stored or signed
    #[command(after_help = "\
Examples:
  countersign transform preview jwt.json --pair login.md             # a pair from a file
  countersign transform preview jwt.json --snapshot login --record 3 # the fourth pair of a snapshot
  countersign transform preview --id jwt --snapshot login -o json    # a stored template")]
    Preview(preview::PreviewArgs),
    /// Store a template, replacing one of the same id
    Put {
        /// A JSON file, or `-` for stdin
        file: PathBuf,
        /// The id; the template's own `id` by default
        #[arg(long)]
        id: Option<String>,
        /// Only validate
        #[arg(long)]
        validate_only: bool,
    },
    /// Print a template as it was written
    Get {
        /// Its id
        id: String,
    },
    /// List the templates
    #[command(visible_alias = "ls")]
    List,
    /// Delete a template
    #[command(visible_alias = "rm")]
    Delete {
        /// Its id
        id: String,
    },
}

/// Runs a command.
pub(crate) async fn run(
    command: TransformCommand,
    client: &Client,
    out: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        TransformCommand::Validate { file, snapshot } => {
            let found = validate(client, read_text(&file)?, snapshot).await?;
            return Ok(verdict(&file.display().to_string(), &found, out));
        }
        TransformCommand::Suggest(args) => suggest::run(args, client, out).await?,
        TransformCommand::Preview(args) => preview::run(args, client, out).await?,
        TransformCommand::Put { file, id, validate_only } => {
            let doing = format!("put the transform {}", file.display());
            let stored = put(client, &read_text(&file)?, id, validate_only, &doing).await?;
            out.findings(&stored.diagnostics);
            out.one(&stored);
        }
        TransformCommand::Get { id } => {
            let got = get(client, &id).await?;
            if out.is_json() { out.one(&got) } else { out.text(got.template_json.trim_end()) }
        }
        TransformCommand::List => out.many(&list(client).await?, "there are no transforms"),
        TransformCommand::Delete { id } => {
            let name = client.name(Collection::Transforms, &id);
            let request = DeleteTransformRequest { name, ..DeleteTransformRequest::default() };
            let deleted = client.transforms().delete_transform(request).await;
            deleted.map_err(Failure::rpc(format!("delete the transform {id}")))?;
            out.note(&format!("deleted the transform {id}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Compiles a template on the server.
pub(crate) async fn validate(
    client: &Client,
    template_json: String,
    snapshot: Option<String>,
) -> Result<ValidateTransformResponse, Failure> {
    let request = ValidateTransformRequest {
        parent: client.parent(),
        template_json,
        snapshot: snapshot.map(|id| client.name(Collection::Snapshots, &id)).unwrap_or_default(),
    };
    let found = client.transforms().validate_transform(request).await;
    Ok(found.map_err(Failure::rpc("validate the transform"))?.into_inner())
}

fn verdict(file: &str, found: &ValidateTransformResponse, out: &Output) -> ExitCode {
    let errors = found.diagnostics.iter().filter(|found| is_error(found)).count();
    if out.is_json() {
        out.json(&json!({
            "valid": errors == 0,
            "diagnostics": found.diagnostics.iter().map(view::View::json).collect::<Vec<_>>(),
            "requiredSecrets": found.required_secrets.iter().map(view::secret).collect::<Vec<_>>(),
        }));
    } else {
        out.findings(&found.diagnostics);
        let secrets: Vec<_> = found.required_secrets.iter().map(view::secret).collect();
        let needs = if secrets.is_empty() { "no secret".to_owned() } else { secrets.join(", ") };
        let warnings = found.diagnostics.len() - errors;
        out.text(&match errors {
            0 => format!("{file} is valid ({warnings} warnings); it needs {needs}"),
            _ => format!("{file} is refused: {errors} errors, {warnings} warnings"),
        });
    }
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// A stored template.
pub(crate) async fn get(client: &Client, id: &str) -> Result<Transform, Failure> {
    let request = GetTransformRequest { name: client.name(Collection::Transforms, id) };
    let got = client.transforms().get_transform(request).await;
    Ok(got.map_err(Failure::rpc(format!("get the transform {id}")))?.into_inner())
}

/// Stores a template, replacing one of the same id.
pub(crate) async fn put(
    client: &Client,
    text: &str,
    chosen: Option<String>,
    validate_only: bool,
    doing: &str,
) -> Result<Transform, Failure> {
    let mut service = client.transforms();
    let transform = Transform { template_json: text.to_owned(), ..Transform::default() };
    // Without an id the server reads it from the text, and tells when it is taken.
    let name = match chosen {
        Some(chosen) => client.name(Collection::Transforms, &chosen),
        None => {
            let request = CreateTransformRequest {
                parent: client.parent(),
                transform: Some(transform.clone()),
                validate_only,
                ..CreateTransformRequest::default()
            };
            match service.create_transform(request).await {
                Ok(created) => return Ok(created.into_inner()),
                Err(status) => taken(&status).ok_or_else(|| Failure::rpc(doing)(status))?,
            }
        }
    };
    let request = UpdateTransformRequest {
        transform: Some(Transform { name, ..transform }),
        allow_missing: true,
        validate_only,
    };
    Ok(service.update_transform(request).await.map_err(Failure::rpc(doing))?.into_inner())
}

async fn list(client: &Client) -> Result<Vec<Transform>, Failure> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListTransformsRequest { parent: client.parent(), page_size: PAGE, page_token };
        let page = client.transforms().list_transforms(request).await;
        let page = page.map_err(Failure::rpc("list transforms"))?.into_inner();
        found.extend(page.transforms);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}
