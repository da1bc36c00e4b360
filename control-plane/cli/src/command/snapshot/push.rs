//! A push: what a snapshot is made of is asked for at the target, and what is missing there is read at the source and written on.
//!
//! Whatever the target has acknowledged stays there until the snapshot is committed or deleted, so that a push that broke off goes on with the rest,
//! also in another process. No chunk is on disk here, and few are in memory.

mod copy;

use clap::Args;
use countersign_engine::snapshot::{digest::Digest, wire};
use countersign_proto::{
    control::v1::{
        CommitSnapshotManifestRequest, CreateSnapshotRequest, GetTransformRequest, Snapshot,
        SnapshotState, commit_snapshot_response::Event,
    },
    discovery::v1::{GetCapabilitiesRequest, GetCapabilitiesResponse},
    r#type::v1 as common,
};
use indicatif::HumanBytes;
use tonic::{Code, Status};

use self::copy::{Copy, Retries};
use crate::{
    command::transform,
    connect::{self, Client, Collection, Hidden},
    failure::Failure,
    output::Output,
};
use countersign_tls::client::Settings;

/// Copies a snapshot.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign snapshot push login --to http://staging.example:4180
  countersign snapshot push login --to http://staging.example:4180 --id login-2 --to-project shop

A dropped connection is taken up again where it broke, and so is a push that was ended: run the same
command again. The transform that the snapshot came with is stored there as <id>-embedded.")]
pub(crate) struct PushArgs {
    /// The snapshot's id
    #[arg(value_name = "ID")]
    snapshot: String,

    /// The control plane to copy it to
    #[arg(long, value_name = "URL")]
    to: String,

    /// What it is called there; its id by default
    #[arg(long, value_name = "NEW")]
    id: Option<String>,

    /// The token that is shown there; better in the variable, since others see what stands on a command line. The one for here is not shown there
    #[arg(long, env = "COUNTERSIGN_TO_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    to_token: Option<Hidden>,

    /// The project there; the same by default
    #[arg(long, value_name = "PROJECT")]
    to_project: Option<String>,
}

/// Runs the command.
pub(super) async fn run(args: PushArgs, source: &Client, out: &Output) -> Result<(), Failure> {
    let snapshot = super::get(source, &args.snapshot).await?;
    let manifest = match (snapshot.state(), &snapshot.manifest) {
        (SnapshotState::Ready, Some(manifest)) => manifest.clone(),
        _ => {
            let what = format!("cannot push {}: it is still being imported", args.snapshot);
            return Err(Failure::refused(what));
        }
    };
    let project = args.to_project.unwrap_or_else(|| source.parent());
    // Certificates are for whoever speaks TLS; the other control plane need not.
    let plain = args.to.starts_with("http://");
    let tls = if plain { Settings::default() } else { source.tls().clone() };
    // A token is shown to nobody but those it was given out by.
    let bearer = args.to_token.as_ref().map(Hidden::bearer).transpose()?;
    let target = Client::connect(&args.to, &project, &tls, bearer.unwrap_or_default()).await?;
    let id = args.id.unwrap_or_else(|| connect::id(&snapshot.name).to_owned());
    let push = Push { source, target: &target, snapshot: &snapshot, manifest, id, out };
    let pushed = push.run().await?;
    out.one(&pushed);
    Ok(())
}

/// What is copied, from where, to where.
struct Push<'a> {
    source: &'a Client,
    target: &'a Client,
    snapshot: &'a Snapshot,
    manifest: common::Digest,
    id: String,
    out: &'a Output,
}

impl Push<'_> {
    async fn run(&self) -> Result<Snapshot, Failure> {
        let manifest = decode(&self.manifest)?;
        let can = self.target.chunks().get_capabilities(GetCapabilitiesRequest {}).await;
        let can = can.map_err(self.failed())?.into_inner();
        let made = self.create().await?;
        if made.state() == SnapshotState::Ready {
            self.out.note(&format!("{} is there already, with the same content", self.id));
            return Ok(made);
        }
        let copy = Copy {
            source: self.source.chunks(),
            target: self.target.chunks(),
            from: self.snapshot.name.clone(),
            to: made.name.clone(),
            can: can.clone(),
        };
        let mut retries = Retries::new(self.out);
        let all = retries.run(self.failed(), async || copy.closure(manifest).await).await?;
        self.check(&all, &can)?;
        let total: u64 = all.iter().map(Digest::size).sum();
        let bar = self.out.bar("pushing", total);
        let mut sent = copy::Sent::default();
        let copied = retries.copy(self.failed(), &copy, &all, &mut sent, &bar).await;
        bar.finish_and_clear();
        copied?;
        let transform = self.transform().await?;
        let committed =
            retries.run(self.failed(), async || self.commit(&made.name, &transform).await).await?;
        self.out.note(&format!(
            "sent {} ({} bytes) of {}: {} of {} chunks were missing",
            HumanBytes(sent.bytes()),
            sent.bytes(),
            HumanBytes(total),
            sent.chunks(),
            all.len()
        ));
        Ok(committed)
    }

    /// Creates the snapshot, or takes up one that was never committed, or has this content already.
    async fn create(&self) -> Result<Snapshot, Failure> {
        let snapshot = Snapshot {
            display_name: match &*self.snapshot.display_name {
                // It was made of the id.
                title if title == connect::id(&self.snapshot.name) => String::new(),
                title => title.to_owned(),
            },
            ..Snapshot::default()
        };
        let request = CreateSnapshotRequest {
            parent: self.target.parent(),
            snapshot_id: self.id.clone(),
            snapshot: Some(snapshot),
            validate_only: false,
        };
        match self.target.snapshots().create_snapshot(request).await {
            Ok(created) => Ok(created.into_inner()),
            Err(status) if status.code() == Code::AlreadyExists => {
                let known = super::get(self.target, &self.id).await?;
                let same = known.manifest.as_ref() == Some(&self.manifest);
                if known.state() == SnapshotState::Importing || same {
                    return Ok(known);
                }
                Err(Failure::refused(format!(
                    "cannot push {0}: there is a snapshot {0} with other content there, and snapshots never change; \
                     choose another --id, or delete it first",
                    self.id
                )))
            }
            Err(status) => Err(self.failed()(status)),
        }
    }

    /// Whether the target can do with what is to be sent.
    fn check(&self, all: &[Digest], can: &GetCapabilitiesResponse) -> Result<(), Failure> {
        let unknown = |digest: &&Digest| {
            !can.digest_functions().any(|known| known == wire::encode_function(digest.function()))
        };
        if let Some(digest) = all.iter().find(unknown) {
            let function = digest.function().name();
            let what =
                format!("cannot push {}: the control plane there knows no {function}", self.id);
            return Err(Failure::refused(what));
        }
        match all.iter().find(|digest| digest.size() > can.max_chunk_bytes) {
            None => Ok(()),
            Some(digest) => Err(Failure::refused(format!(
                "cannot push {}: {digest} has {}, and the control plane there takes {} at most",
                self.id,
                HumanBytes(digest.size()),
                HumanBytes(can.max_chunk_bytes)
            ))),
        }
    }

    /// Copies the transform that the snapshot came with; returns its name there, or nothing when there is none.
    async fn transform(&self) -> Result<String, Failure> {
        if self.snapshot.transform.is_empty() {
            return Ok(String::new());
        }
        let request = GetTransformRequest { name: self.snapshot.transform.clone() };
        let template = match self.source.transforms().get_transform(request).await {
            Ok(template) => template.into_inner().template_json,
            Err(status) if status.code() == Code::NotFound => {
                self.out.note("note: the transform that the snapshot came with is gone");
                return Ok(String::new());
            }
            Err(status) => return Err(self.failed()(status)),
        };
        let id = super::embedded_id(&self.id);
        let doing = format!("store the transform {id}");
        let stored = transform::put(self.target, &template, Some(id), false, &doing).await?;
        Ok(stored.name)
    }

    async fn commit(&self, name: &str, transform: &str) -> Result<Snapshot, Status> {
        let request = CommitSnapshotManifestRequest {
            name: name.to_owned(),
            manifest: Some(self.manifest.clone()),
            default_transform: transform.to_owned(),
        };
        let call = self.target.snapshots().commit_snapshot_manifest(request).await;
        let mut events = call?.into_inner();
        let bar = self.out.bar("checking", 0);
        while let Some(message) = events.message().await? {
            match message.event {
                Some(Event::Progress(progress)) => {
                    bar.set_length(progress.bytes_total);
                    bar.set_position(progress.bytes_done);
                }
                Some(Event::Snapshot(snapshot)) => {
                    bar.finish_and_clear();
                    return Ok(snapshot);
                }
                None => {}
            }
        }
        Err(Status::unavailable("the commit ended without an answer"))
    }

    fn failed(&self) -> impl Fn(Status) -> Failure {
        let doing = format!("push {}", self.target.name(Collection::Snapshots, &self.id));
        move |status| Failure::rpc(doing.clone())(status)
    }
}

fn decode(digest: &common::Digest) -> Result<Digest, Failure> {
    wire::decode_digest(digest).map_err(|error| Failure::chain(&error))
}
