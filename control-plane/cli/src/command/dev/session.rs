//! What `dev` serves: one snapshot, one replay, and what they are made again from.
//!
//! A new snapshot comes with a new replay, which is started and ready before the old one goes, so that no request falls in between.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use countersign_proto::{
    control::v1::{Replay, Snapshot},
    snapshot::v1::ServeDirection,
};

use super::adjust::Adjust;
pub(crate) use super::watch::Changes;
use crate::{
    args::Serve,
    command::{
        read_text,
        replay::{self, wait_until_ready},
        snapshot::{self, Import, Without, report},
        test_config, transform,
    },
    connect::{Client, Collection, id},
    failure::Failure,
    output::Output,
    view::{self, is_error},
};

/// What `dev` creates is called so, so that a kept data directory can be tidied by the next run.
const PREFIX: &str = "countersign-dev-";
const READY: Duration = Duration::from_secs(60);

/// The files that are served.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    /// The recordings.
    pub(crate) recordings: Vec<PathBuf>,
    /// The transform template.
    pub(crate) transform: Option<PathBuf>,
    /// The test config.
    pub(crate) test_config: Option<PathBuf>,
    /// What comes on top of it.
    pub(crate) adjust: Adjust,
    /// Which pairs; chosen by what there is when absent.
    pub(crate) serve: Option<Serve>,
}

impl Inputs {
    /// Whether there is another test config than the built-in one.
    fn has_test_config(&self) -> bool {
        self.test_config.is_some() || !self.adjust.is_empty()
    }
}

/// One run of `dev`.
#[derive(Debug)]
pub(crate) struct Session {
    /// The control plane.
    pub(crate) client: Client,
    inputs: Inputs,
    run: String,
    imports: u32,
    current: Option<Current>,
}

/// What is served now.
#[derive(Debug)]
pub(crate) struct Current {
    /// The snapshot.
    pub(crate) snapshot: Snapshot,
    /// The replay.
    pub(crate) replay: Replay,
    /// Which pairs.
    pub(crate) serve: ServeDirection,
}

impl Session {
    /// A session that serves nothing yet.
    pub(crate) fn new(client: Client, inputs: Inputs) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { client, inputs, run: format!("{:x}", since.as_millis()), imports: 0, current: None }
    }

    /// The files that are served.
    pub(crate) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// What is served now.
    pub(crate) fn current(&self) -> Option<&Current> {
        self.current.as_ref()
    }

    /// How much is served, in words.
    pub(crate) fn counts(&self) -> String {
        let Some(current) = &self.current else { return "nothing".to_owned() };
        let pairs = match current.serve {
            ServeDirection::In => current.snapshot.in_count,
            ServeDirection::All => current.snapshot.pair_count,
            ServeDirection::Out | ServeDirection::Unspecified => current.snapshot.out_count,
        };
        let plural = if pairs == 1 { "" } else { "s" };
        format!("{pairs} {} pair{plural}", view::serve(current.serve))
    }

    /// Imports and serves everything for the first time.
    pub(crate) async fn start(&mut self, out: &Output) -> Result<(), Failure> {
        self.tidy().await?;
        self.put_transform().await?;
        self.put_test_config().await?;
        let snapshot = self.import(out).await?;
        self.serve_instead(snapshot, out).await
    }

    /// Takes over what changed. After an error the last good state is still served.
    pub(crate) async fn reload(&mut self, changes: Changes, out: &Output) -> Result<(), Failure> {
        if changes.transform {
            self.put_transform().await?;
        }
        if changes.test_config {
            self.put_test_config().await?;
        }
        if changes.recordings {
            let snapshot = self.import(out).await?;
            self.refuse_worse(&snapshot).await?;
            return self.serve_instead(snapshot, out).await;
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        let started = replay::start_named(&self.client, &current.replay.name).await?;
        current.replay = wait_until_ready(&self.client, &started, READY).await?;
        out.findings(&replay::findings(&current.replay));
        Ok(())
    }

    /// Removes what earlier runs left in a kept data directory.
    async fn tidy(&self) -> Result<(), Failure> {
        for known in replay::list(&self.client).await? {
            if id(&known.name).starts_with(PREFIX) {
                replay::delete(&self.client, &known.name).await?;
            }
        }
        for known in snapshot::list(&self.client).await? {
            if id(&known.name).starts_with(PREFIX) {
                snapshot::delete(&self.client, &known.name).await?;
            }
        }
        Ok(())
    }

    async fn put_transform(&self) -> Result<(), Failure> {
        let Some(file) = &self.inputs.transform else { return Ok(()) };
        let text = read_text(file)?;
        let found = transform::validate(&self.client, text.clone(), None).await?.diagnostics;
        if found.iter().any(is_error) {
            let what = format!("the transform template {} is refused", file.display());
            return Err(Failure::Refused {
                what,
                findings: found.iter().map(view::finding).collect(),
            });
        }
        let own = Some(self.own("transform"));
        let doing = format!("put the transform {}", file.display());
        transform::put(&self.client, &text, own, false, &doing).await?;
        // Warnings are told when the replay starts, together with what the recording adds.
        Ok(())
    }

    async fn put_test_config(&self) -> Result<(), Failure> {
        if !self.inputs.has_test_config() {
            return Ok(());
        }
        let (text, doing) = match &self.inputs.test_config {
            Some(file) => (read_text(file)?, format!("put the test config {}", file.display())),
            None => (r#"{"id":"dev"}"#.to_owned(), "put what the flags say".to_owned()),
        };
        let (text, own) = (self.inputs.adjust.apply(text), Some(self.own("test-config")));
        test_config::put(&self.client, &text, own, false, &doing).await?;
        Ok(())
    }

    async fn import(&mut self, out: &Output) -> Result<Snapshot, Failure> {
        self.imports += 1;
        let import = Import {
            recordings: &self.inputs.recordings,
            // A template that the user names is served instead of the recording's own.
            transform_id: self.inputs.transform.is_none().then(|| self.own("embedded")),
            id: format!("{PREFIX}{}-{}", self.run, self.imports),
            strict: false,
            validate_only: false,
            filter: String::new(),
            without: Without {
                resigned_by: self.inputs.transform.as_ref().map(|_| self.own("transform")),
                ..Without::default()
            },
        };
        let snapshot = import.run(&self.client, out).await?;
        report(&snapshot, out);
        Ok(snapshot)
    }

    /// An edit after which less can be read than before is a broken edit.
    async fn refuse_worse(&self, new: &Snapshot) -> Result<(), Failure> {
        let refused =
            |snapshot: &Snapshot| snapshot.report.as_ref().map_or(0, |report| report.refused);
        let before = self.current.as_ref().map_or(0, |current| refused(&current.snapshot));
        if refused(new) <= before {
            return Ok(());
        }
        snapshot::delete(&self.client, &new.name).await?;
        Err(Failure::refused("the edited recording holds entries that cannot be read"))
    }

    async fn serve_instead(&mut self, snapshot: Snapshot, out: &Output) -> Result<(), Failure> {
        let serve = self.choose(&snapshot, out);
        let replay = match self.run_replay(&snapshot, serve).await {
            Ok(replay) => replay,
            Err(failure) => {
                // When even this fails, the first failure is the one to tell.
                drop(replay::delete(&self.client, id(&snapshot.name)).await);
                drop(snapshot::delete(&self.client, &snapshot.name).await);
                return Err(failure);
            }
        };
        out.findings(&replay::findings(&replay));
        let old = self.current.replace(Current { snapshot, replay, serve });
        if let Some(old) = old {
            replay::delete(&self.client, &old.replay.name).await?;
            snapshot::delete(&self.client, &old.snapshot.name).await?;
        }
        Ok(())
    }

    async fn run_replay(
        &self,
        snapshot: &Snapshot,
        serve: ServeDirection,
    ) -> Result<Replay, Failure> {
        let own = |collection, given: bool, what| {
            if given { self.client.name(collection, &self.own(what)) } else { String::new() }
        };
        let replay = Replay {
            snapshot: snapshot.name.clone(),
            transform: match &self.inputs.transform {
                None => snapshot.transform.clone(),
                Some(_) => own(Collection::Transforms, true, "transform"),
            },
            test_config: own(Collection::TestConfigs, self.inputs.has_test_config(), "test-config"),
            serve: serve.into(),
            ..Replay::default()
        };
        let created = replay::create(&self.client, id(&snapshot.name), replay).await?;
        let started = replay::start_named(&self.client, &created.name).await?;
        wait_until_ready(&self.client, &started, READY).await
    }

    fn choose(&self, snapshot: &Snapshot, out: &Output) -> ServeDirection {
        if let Some(serve) = self.inputs.serve {
            return serve.into();
        }
        match (snapshot.in_count, snapshot.out_count) {
            (1.., 0) => {
                out.note("note: all pairs are IN: they were recorded at the service's own door, and are served as its answers (--serve in)");
                ServeDirection::In
            }
            (1.., _) => {
                out.note(&format!(
                    "note: the {} OUT pairs are served; --serve in or --serve all also serves the {} IN pairs",
                    snapshot.out_count, snapshot.in_count
                ));
                ServeDirection::Out
            }
            (0, _) => ServeDirection::Out,
        }
    }

    fn own(&self, what: &str) -> String {
        format!("{PREFIX}{what}")
    }
}
