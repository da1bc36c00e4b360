//! `countersign testconfig`: how replays behave.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use countersign_proto::control::v1::{
    CloneTestConfigRequest, CreateTestConfigRequest, DeleteTestConfigRequest, GetTestConfigRequest,
    ListTestConfigsRequest, TestConfig, UpdateTestConfigRequest,
};

use super::{PAGE, read_text};
use crate::{
    connect::{Client, Collection, id, taken},
    failure::Failure,
    output::Output,
};

/// The commands about test configs.
#[derive(Debug, Subcommand)]
pub(crate) enum TestConfigCommand {
    /// Print a test config as it was written
    Get {
        /// Its id
        id: String,
    },
    /// List the test configs
    #[command(visible_alias = "ls")]
    List,
    /// Copy a test config under another id; the copy may be changed
    #[command(after_help = "Example:\n  countersign testconfig clone standard my-config")]
    Clone {
        /// The id of the original, for example `standard`
        from: String,
        /// The id of the copy
        to: String,
    },
    /// Store a test config, replacing one of the same id
    #[command(after_help = "\
Example:
  countersign testconfig get standard > my-config.json     # change its id, then
  countersign testconfig put my-config.json")]
    Put {
        /// A JSON file, or `-` for stdin
        file: PathBuf,
        /// The id; the config's own `id` by default
        #[arg(long)]
        id: Option<String>,
        /// Only validate
        #[arg(long)]
        validate_only: bool,
    },
    /// Delete a test config
    #[command(visible_alias = "rm")]
    Delete {
        /// Its id
        id: String,
    },
}

/// Runs a command.
pub(crate) async fn run(
    command: TestConfigCommand,
    client: &Client,
    out: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        TestConfigCommand::Get { id } => show(&get(client, &id).await?, out),
        TestConfigCommand::List => out.many(&list(client).await?, "there are no test configs"),
        TestConfigCommand::Clone { from, to } => {
            let request = CloneTestConfigRequest {
                name: client.name(Collection::TestConfigs, &from),
                test_config_id: to,
            };
            let copied = client.test_configs().clone_test_config(request).await;
            let doing = format!("clone the test config {from}");
            out.one(&copied.map_err(Failure::rpc(doing))?.into_inner());
        }
        TestConfigCommand::Put { file, id, validate_only } => {
            let doing = format!("put the test config {}", file.display());
            out.one(&put(client, &read_text(&file)?, id, validate_only, &doing).await?);
        }
        TestConfigCommand::Delete { id } => {
            let name = client.name(Collection::TestConfigs, &id);
            let request = DeleteTestConfigRequest { name, ..DeleteTestConfigRequest::default() };
            let deleted = client.test_configs().delete_test_config(request).await;
            deleted.map_err(Failure::rpc(format!("delete the test config {id}")))?;
            out.note(&format!("deleted the test config {id}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Stores a test config, replacing one of the same id.
pub(crate) async fn put(
    client: &Client,
    text: &str,
    chosen: Option<String>,
    validate_only: bool,
    doing: &str,
) -> Result<TestConfig, Failure> {
    let mut service = client.test_configs();
    let config = TestConfig { config_json: text.to_owned(), ..TestConfig::default() };
    // Without an id the server reads it from the text, and tells when it is taken.
    let name = match chosen {
        Some(chosen) => client.name(Collection::TestConfigs, &chosen),
        None => {
            let request = CreateTestConfigRequest {
                parent: client.parent(),
                test_config: Some(config.clone()),
                validate_only,
                ..CreateTestConfigRequest::default()
            };
            match service.create_test_config(request).await {
                Ok(created) => return Ok(created.into_inner()),
                Err(status) => taken(&status).ok_or_else(|| Failure::rpc(doing)(status))?,
            }
        }
    };
    let request = UpdateTestConfigRequest {
        test_config: Some(TestConfig { name, ..config }),
        allow_missing: true,
        validate_only,
    };
    Ok(service.update_test_config(request).await.map_err(Failure::rpc(doing))?.into_inner())
}

fn show(config: &TestConfig, out: &Output) {
    if out.is_json() {
        out.one(config);
    } else {
        out.text(config.config_json.trim_end());
    }
    if config.protected {
        out.note(&format!(
            "note: `{0}` is protected; `countersign testconfig clone {0} my-config` makes a copy that may be changed",
            id(&config.name)
        ));
    }
}

/// A stored test config.
pub(crate) async fn get(client: &Client, id: &str) -> Result<TestConfig, Failure> {
    let request = GetTestConfigRequest { name: client.name(Collection::TestConfigs, id) };
    let got = client.test_configs().get_test_config(request).await;
    Ok(got.map_err(Failure::rpc(format!("get the test config {id}")))?.into_inner())
}

async fn list(client: &Client) -> Result<Vec<TestConfig>, Failure> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListTestConfigsRequest { parent: client.parent(), page_size: PAGE, page_token };
        let page = client.test_configs().list_test_configs(request).await;
        let page = page.map_err(Failure::rpc("list test configs"))?.into_inner();
        found.extend(page.test_configs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}
