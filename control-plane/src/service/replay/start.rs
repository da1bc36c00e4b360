//! `StartReplay`: compile as a responder will, store the bundle, announce it.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use countersign_engine::{
    diagnostic::{Diagnostic, has_errors},
    snapshot::{
        Serve,
        digest::Digest,
        wire::{decode_serve, encode_digest, encode_serve},
    },
    transform::Template,
};
use countersign_proto::{
    control::v1::{Replay, ReplayState, Snapshot, StartReplayRequest, TestConfig},
    snapshot::v1::ServeDirection,
    transform::v1::Transform,
};
use prost::Message as _;

use super::{
    Parts,
    change::{self, Chosen},
};
use crate::{
    content::Bundle,
    publish::Assignment,
    service::{
        Plane, Problem, announced::decode_policy, name::Name, snapshot, stored, test_config, wire,
    },
    store::{Kind, Record, now},
    validate::{self, Checked},
};

/// Validates a replay and, unless asked only for that, announces it. Returns its record.
pub(super) async fn start(
    plane: &Plane,
    name: &Name,
    asked: &StartReplayRequest,
) -> Result<Record, Problem> {
    let record = plane.get(Kind::Replay, &name.full).await?;
    let replay: Replay = stored(&record)?;
    let policy = asked.rollout_policy.or(replay.rollout_policy).unwrap_or_default();
    let policy = decode_policy(&policy)?;
    let parts = Parts::parse(&name.project, &replay)?;
    let (snapshot, manifest) = snapshot::ready(plane, &parts.snapshot).await?;
    let serve = choose(parts.serve, &snapshot);
    let transform = match &parts.transform {
        None => None,
        Some(transform) => {
            Some(stored::<Transform>(&plane.get(Kind::Transform, &transform.full).await?)?)
        }
    };
    let config = test_config::get(plane, &parts.test_config).await?;
    refuse_nothing_to_serve(name, &snapshot, serve)?;

    let (template, findings, hosts) =
        check(plane, &name.project, manifest, transform.as_ref(), &config, serve).await?;
    if has_errors(&findings) {
        let what = format!("replay {} cannot be started", name.full);
        return Err(Problem::Unusable { what, reason: "REPLAY_INVALID", findings });
    }
    let diagnostics = wire::encode_diagnostics(&findings);
    if asked.validate_only {
        return Ok(Record {
            body: Replay { diagnostics, ..replay }.encode_to_vec().into(),
            ..record
        });
    }

    let transform = transform.map(|transform| Bytes::from(transform.template_json));
    let config = Bytes::from(config.config_json);
    let function = plane.blobs.function();
    let parts = transform.iter().chain([&config]).map(|part| Digest::by(function, part));
    let missing = plane.blobs.missing(&parts.collect::<Vec<_>>()).await?;
    let length = missing.iter().map(Digest::size).sum();
    plane.quota.take(plane, &name.project, length).await?;
    // It counts as if it was gone, too, as it is once something else is started.
    plane.quota.released(&name.project, length);
    let storing = plane.storing().await?;
    // Everything that the announcement names is durable before the commit that makes it visible.
    let bundle = Bundle {
        manifest,
        transform: match transform {
            None => None,
            Some(transform) => Some(plane.blobs.put(transform).await?),
        },
        test_config: plane.blobs.put(config).await?,
        required_secrets: template.required_secrets(),
        serve,
    };
    let bundle = plane.blobs.put(wire::encode_bundle(&bundle)).await?;
    let started = Replay {
        state: ReplayState::Running.into(),
        serve: encode_serve(serve).into(),
        bundle: Some(encode_digest(&bundle)),
        generation: replay.generation.saturating_add(1),
        diagnostics,
        rollout_policy: asked.rollout_policy.or(replay.rollout_policy),
        hosts: hosts.into_iter().collect(),
        ..replay
    };
    let next = Assignment { bundle, generation: started.generation, start_time: now() };
    let chosen = Chosen { next, policy, proven: false, storing: Some(storing) };
    change::announce(plane, record, &started, chosen).await
}

/// Compiles as a responder will; the template is empty when the replay has none. Returns the hosts that were recorded, too.
async fn check(
    plane: &Plane,
    project: &str,
    manifest: Digest,
    transform: Option<&Transform>,
    config: &TestConfig,
    serve: Serve,
) -> Result<(Arc<Template>, Vec<Diagnostic>, BTreeSet<String>), Problem> {
    let Checked { template, mut findings } = match transform {
        Some(transform) => validate::template(&transform.template_json),
        None => Checked { template: Template::default(), findings: Vec::new() },
    };
    let config = test_config::accept(&config.config_json)?;
    let _turn = plane.heavy(project).await?;
    let template = Arc::new(template);
    let compiled = validate::compiles(&*plane.blobs, manifest, &template, config, serve).await?;
    for found in compiled.findings {
        if !findings.contains(&found) {
            findings.push(found);
        }
    }
    Ok((template, findings, compiled.hosts))
}

/// What is served when nobody said so: OUT, unless the recording was made at the service's own door and holds IN pairs only.
pub(crate) fn choose(asked: ServeDirection, snapshot: &Snapshot) -> Serve {
    match asked {
        ServeDirection::Unspecified if snapshot.out_count == 0 && snapshot.in_count > 0 => {
            Serve::In
        }
        asked => decode_serve(asked),
    }
}

fn refuse_nothing_to_serve(name: &Name, snapshot: &Snapshot, serve: Serve) -> Result<(), Problem> {
    let (count, asked, other) = match serve {
        Serve::All => (snapshot.pair_count, "", ""),
        Serve::Out => (snapshot.out_count, "OUT", "IN"),
        Serve::In => (snapshot.in_count, "IN", "OUT"),
    };
    if count > 0 {
        return Ok(());
    }
    let message = format!(
        "snapshot {} has no recorded {asked} pair to serve; its {} pairs are {other}: create the replay with `serve` set to {other} or ALL",
        snapshot.name, snapshot.pair_count
    );
    Err(Problem::State { reason: "NOTHING_TO_SERVE", subject: name.full.clone(), message })
}
