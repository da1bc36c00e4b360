//! `countersign responder`: the fleet.

use std::process::ExitCode;

use clap::Subcommand;
use countersign_proto::control::v1::{ListRespondersRequest, Responder};

use super::PAGE;
use crate::{connect::Client, failure::Failure, output::Output};

/// The commands about responders.
#[derive(Debug, Subcommand)]
pub(crate) enum ResponderCommand {
    /// List the responders that are or were connected, and what they serve
    #[command(visible_alias = "ls")]
    List,
}

/// Runs a command.
pub(crate) async fn run(
    command: ResponderCommand,
    client: &Client,
    out: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        ResponderCommand::List => out.many(&list(client).await?, "no responder has connected yet"),
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client) -> Result<Vec<Responder>, Failure> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListRespondersRequest { parent: client.parent(), page_size: PAGE, page_token };
        let page = client.replays().list_responders(request).await;
        let page = page.map_err(Failure::rpc("list responders"))?.into_inner();
        found.extend(page.responders);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}
