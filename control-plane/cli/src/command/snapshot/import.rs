//! An import: create the snapshot, upload the files, commit. What does not end in a committed snapshot leaves none behind.

use std::{future, path::PathBuf, sync::Arc};

use countersign_engine::transform::PairFilter;
use countersign_proto::control::v1::{
    CommitSnapshotRequest, CreateSnapshotRequest, RedactionCount, RedactionReport, Snapshot,
    SnapshotState, commit_snapshot_response::Event,
};
use indicatif::{HumanCount, ProgressBar};
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::{
    command::transform,
    connect::{Client, Collection},
    embedded::{Embedded, Source},
    failure::Failure,
    output::Output,
    recording,
    upload::{Patience, Plan, Seen, Upload, is_drop},
};

/// What is imported, and how.
#[derive(Debug)]
pub(crate) struct Import<'a> {
    /// Files and directories.
    pub(crate) recordings: &'a [PathBuf],
    /// The snapshot's id.
    pub(crate) id: String,
    /// What the template that the recordings bring along is stored as; `None` leaves it aside.
    pub(crate) transform_id: Option<String>,
    /// Refuses everything when an entry cannot be read.
    pub(crate) strict: bool,
    /// Keeps nothing.
    pub(crate) validate_only: bool,
    /// Keeps only the pairs that it selects; empty keeps all.
    pub(crate) filter: String,
    /// What is taken out before it is stored.
    pub(crate) without: Without,
}

/// What is taken out of a recording before it is stored.
#[derive(Debug, Default)]
pub(crate) struct Without {
    /// A built-in DLP config by name, or the text of one.
    pub(crate) dlp: String,
    /// The JWS signatures of all tokens.
    pub(crate) signatures: bool,
    /// The JWS signatures of the tokens that this transform re-signs; its id.
    pub(crate) resigned_by: Option<String>,
}

impl Import<'_> {
    /// Imports; returns the snapshot with its report.
    pub(crate) async fn run(&self, client: &Client, out: &Output) -> Result<Snapshot, Failure> {
        self.check_filter()?;
        let mut files = recording::walk(self.recordings)?;
        let embedded = match self.transform_id {
            Some(_) => Embedded::find(self.recordings),
            None => Embedded::default(),
        };
        // A file that is named or the only one is looked at in any case, so that it is not left out without a word.
        let traffic = files.iter().filter(|file| !embedded.is_source(&file.path)).count();
        if traffic > 0 {
            files.retain(|file| !embedded.is_source(&file.path));
        }
        let plan = Arc::new(Plan::new(files));
        let name = self.create(client).await?;
        let upload = Upload {
            client: client.snapshots(),
            snapshot: name.clone(),
            id: uuid::Uuid::now_v7().to_string(),
            plan,
            patience: Patience::default(),
        };
        let imported = self.upload_and_commit(client, upload, &embedded, out).await;
        if self.validate_only || imported.is_err() {
            // What another import has committed meanwhile is not this one's to delete.
            let known = super::get(client, &name).await;
            if known.is_ok_and(|known| known.state() == SnapshotState::Importing) {
                // When even this fails, the first failure is the one to tell.
                drop(super::delete(client, &name).await);
            }
        }
        imported
    }

    /// A mistake in the filter is told before anything is uploaded.
    fn check_filter(&self) -> Result<(), Failure> {
        let (filter, found) = PairFilter::parse(&self.filter);
        match filter {
            Some(_) => Ok(()),
            None => Err(Failure::Refused {
                what: "cannot read the filter".to_owned(),
                findings: found.as_slice().iter().map(ToString::to_string).collect(),
            }),
        }
    }

    /// Creates the snapshot, or takes up one whose import never ended.
    async fn create(&self, client: &Client) -> Result<String, Failure> {
        let request = CreateSnapshotRequest {
            parent: client.parent(),
            snapshot_id: self.id.clone(),
            ..CreateSnapshotRequest::default()
        };
        let created = client.snapshots().create_snapshot(request).await;
        match created.map_err(Failure::rpc(format!("import {}", self.id))) {
            Ok(created) => Ok(created.into_inner().name),
            Err(failure) if failure.is(Code::AlreadyExists) => {
                let known = super::get(client, &self.id).await?;
                if known.state() == SnapshotState::Importing {
                    return Ok(known.name);
                }
                Err(Failure::refused(format!(
                    "cannot import {0}: there is a snapshot {0} already, and snapshots never change; \
                     choose another --id, or `countersign snapshot delete {0}` first",
                    self.id
                )))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn upload_and_commit(
        &self,
        client: &Client,
        mut upload: Upload,
        embedded: &Embedded,
        out: &Output,
    ) -> Result<Snapshot, Failure> {
        let transform = self.embed(client, embedded, out).await;
        let request = CommitSnapshotRequest {
            upload_pieces: upload.plan.pieces(),
            name: client.name(Collection::Snapshots, &upload.snapshot),
            upload_id: upload.id.clone(),
            strict: self.strict,
            validate_only: self.validate_only,
            default_transform: transform,
            filter: self.choose_filter(embedded, out),
            dlp_config: self.without.dlp.clone(),
            strip_signatures: self.without.signatures,
            transform: self
                .without
                .resigned_by
                .as_ref()
                .map(|id| client.name(Collection::Transforms, id))
                .unwrap_or_default(),
        };
        let bar = out.bar("importing", upload.plan.bytes());
        let (all_sent, sent) = watch::channel(false);
        let patience = upload.patience;
        let upload = async {
            let uploaded = upload.run(|seen| match seen {
                Seen::Durable { bytes } => bar.set_position(bytes),
                Seen::Dropped { attempt, why } => bar.suspend(|| {
                    let told =
                        format!("the connection dropped ({why}); going on, attempt {attempt}");
                    out.note(&told);
                }),
            });
            uploaded.await?;
            all_sent.send_replace(true);
            // The commit ends the import.
            future::pending().await
        };
        // The server reads the pieces as they come.
        let commit = self.commit(client, patience, request, sent, &bar, out);
        tokio::select! {
            ended = upload => ended,
            ended = commit => ended,
        }
    }

    /// The filter of the metadata counts when the user gives none.
    fn choose_filter(&self, embedded: &Embedded, out: &Output) -> String {
        match &embedded.filter {
            Some((path, filter)) if self.filter.is_empty() => {
                let path = path.display();
                out.note(&format!("note: only pairs are kept that the filter of {path} selects"));
                filter.clone()
            }
            _ => self.filter.clone(),
        }
    }

    /// Stores the template that the recordings bring along, and tells what it is made of; returns its name, or nothing when there is none
    /// or it cannot be used.
    async fn embed(&self, client: &Client, embedded: &Embedded, out: &Output) -> String {
        for note in &embedded.notes {
            out.note(&format!("note: {note}"));
        }
        let text = self.transform_id.as_ref().and_then(|id| Some((id, embedded.text(id)?)));
        let Some((id, text)) = text else { return String::new() };
        let doing = format!("store the template of the recording as {id}");
        let own = Some(id.clone());
        match transform::put(client, &text, own, self.validate_only, &doing).await {
            Ok(stored) => {
                out.findings(&stored.diagnostics);
                for Source { path, blueprint, chains } in &embedded.sources {
                    let what = if *blueprint { "blueprint" } else { "metadata" };
                    let path = path.display();
                    out.note(&format!(
                        "note: {chains} chains of the {what} {path} are applied (transform {id})"
                    ));
                }
                if self.validate_only { String::new() } else { stored.name }
            }
            Err(failure) => {
                out.note(&format!(
                    "note: the recording's own template is not applied: {}",
                    failure.render()
                ));
                String::new()
            }
        }
    }

    async fn commit(
        &self,
        client: &Client,
        patience: Patience,
        request: CommitSnapshotRequest,
        mut sent: watch::Receiver<bool>,
        bar: &ProgressBar,
        out: &Output,
    ) -> Result<Snapshot, Failure> {
        let mut attempt = 0;
        let committed = loop {
            let status = match try_commit(client, request.clone(), bar, out).await {
                Ok(snapshot) => break Ok(snapshot),
                Err(status) => status,
            };
            if is_drop(&status) && !*sent.borrow() {
                // What broke it breaks the upload, too, which knows how to go on; when it ends without success, so does this.
                drop(sent.wait_for(|sent| *sent).await);
                continue;
            }
            attempt += 1;
            if !is_drop(&status) || attempt > patience.attempts {
                break Err(Failure::rpc(format!("import {}", self.id))(status));
            }
            // Committing the same upload again answers with what the first commit made.
            tokio::time::sleep(patience.pause(attempt)).await;
        };
        bar.finish_and_clear();
        committed
    }
}

async fn try_commit(
    client: &Client,
    request: CommitSnapshotRequest,
    bar: &ProgressBar,
    out: &Output,
) -> Result<Snapshot, Status> {
    let mut events = client.snapshots().commit_snapshot(request).await?.into_inner();
    let mut storing: Option<ProgressBar> = None;
    while let Some(message) = events.message().await? {
        match message.event {
            Some(Event::Progress(progress)) if progress.pairs_stored == 0 => {
                bar.set_message(format!("importing {} pairs", HumanCount(progress.pairs)));
            }
            Some(Event::Progress(progress)) => {
                let storing = storing.get_or_insert_with(|| {
                    bar.finish_and_clear();
                    out.counter("storing", progress.pairs)
                });
                storing.set_position(progress.pairs_stored);
            }
            Some(Event::Snapshot(snapshot)) => {
                storing.inspect(ProgressBar::finish_and_clear);
                return Ok(snapshot);
            }
            None => {}
        }
    }
    Err(Status::unavailable("the commit ended without an answer"))
}

/// Tells what an import skipped and refused.
pub(crate) fn report(snapshot: &Snapshot, out: &Output) {
    let Some(report) = &snapshot.report else { return };
    out.findings(&report.findings);
    if report.skipped + report.refused > 0 {
        out.note(&format!(
            "imported {} pairs, skipped {}, refused {}",
            report.imported, report.skipped, report.refused
        ));
    }
    if let Some(redaction) = &report.redaction {
        for line in redaction_lines(redaction) {
            out.note(&line);
        }
    }
}

/// So many places are named per rule.
const PLACES: usize = 4;

/// What was redacted, in lines: counts and places, for there are no values in it.
fn redaction_lines(redaction: &RedactionReport) -> Vec<String> {
    let mut lines = Vec::new();
    if !redaction.dlp_config.is_empty() {
        let values: u64 = redaction.rules.iter().map(|rule| rule.values).sum();
        lines.push(format!("redacted {values} values with `{}`", redaction.dlp_config));
        lines
            .extend(redaction.rules.iter().map(|rule| format!("  {}: {}", rule.rule, count(rule))));
    }
    if let Some(left) = &redaction.tokens_left {
        lines.push(format!("tokens were left: {}", count(left)));
    }
    if let Some(unread) = &redaction.unread {
        lines.push(format!("bodies were not looked into: {}", count(unread)));
    }
    if redaction.signatures_stripped > 0 {
        lines.push(format!("left out {} JWS signatures", redaction.signatures_stripped));
    }
    lines
}

fn count(count: &RedactionCount) -> String {
    let named = count.places.iter().take(PLACES);
    let mut places: Vec<String> =
        named.map(|place| format!("{} ({})", place.place, place.values)).collect();
    if count.elsewhere > 0 || count.places.len() > PLACES {
        places.push("…".to_owned());
    }
    format!("{} in {} pairs at {}", count.values, count.pairs, places.join(", "))
}
