//! `FindMissingChunks`: what a snapshot still lacks.
//!
//! Only what was written for the snapshot, or belongs to a committed one of its project, counts as being there. Whoever knows a digest of another
//! project's content learns nothing of it, and cannot have it committed.

use std::collections::HashSet;

use countersign_engine::snapshot::{
    digest::Digest,
    wire::{decode_digest, encode_digest},
};
use countersign_proto::{
    discovery::v1::{FindMissingChunksRequest, FindMissingChunksResponse},
    r#type::v1 as common,
};

use crate::{
    content::{Closures, ContentError, Root},
    held,
    service::{
        Plane, Problem, chain,
        name::{self, Name},
        snapshot, wire,
    },
    store::{self, Kind},
};

/// How many digests one call may ask for.
pub(super) const ASKED: usize = 10_000;

/// Answers one call.
pub(super) async fn missing(
    plane: &Plane,
    closures: &Closures,
    request: FindMissingChunksRequest,
) -> Result<FindMissingChunksResponse, Problem> {
    let name = Name::parse(Kind::Snapshot, "snapshot", &request.snapshot)?;
    let asked = parse(&request.digests, ASKED)?;
    let record = snapshot::open(plane, &name.full).await?;
    let held = held::of(&*plane.meta, &record).await?;
    let storing = plane.storing().await?;
    let unknown = asked.iter().filter(|digest| !held.contains(digest)).copied().collect();
    let found = of_project(plane, closures, &name.project, unknown).await?;
    let there = asked.iter().filter(|digest| held.contains(digest) || found.contains(digest));
    let there: Vec<Digest> = there.copied().collect();
    let gone: HashSet<Digest> = plane.blobs.missing(&there).await?.into_iter().collect();
    let there: HashSet<Digest> =
        there.into_iter().filter(|digest| !gone.contains(digest)).collect();
    let new: Vec<Digest> = found.into_iter().filter(|digest| there.contains(digest)).collect();
    held::add(plane, &record, storing, &new).await?;
    let missing = asked.iter().filter(|digest| !there.contains(digest)).map(encode_digest);
    Ok(FindMissingChunksResponse { missing: missing.collect() })
}

/// Those that committed snapshots of a project are made of.
async fn of_project(
    plane: &Plane,
    closures: &Closures,
    project: &str,
    mut wanted: HashSet<Digest>,
) -> Result<HashSet<Digest>, Problem> {
    let mut found = HashSet::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let prefix = name::prefix(Kind::Snapshot, project);
    for record in store::all(&*plane.meta, Kind::Snapshot, &prefix).await? {
        let Ok(Some(manifest)) = wire::decode_stored_manifest(record.body) else { continue };
        let closure = match closures.of(&*plane.blobs, Root::Manifest(manifest)).await {
            Ok(closure) => closure,
            Err(ContentError::Store(error)) if !error.is_damage() => return Err(error.into()),
            Err(error) => {
                // Of one that is damaged nothing is known.
                tracing::warn!(
                    snapshot = record.name,
                    error = chain(&error),
                    "a snapshot cannot be read"
                );
                continue;
            }
        };
        found.extend(wanted.extract_if(|digest| closure.contains(digest)));
        if wanted.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// The digests that are asked for, at most so many.
pub(super) fn parse(digests: &[common::Digest], most: usize) -> Result<Vec<Digest>, Problem> {
    if digests.len() > most {
        let message = format!("at most {most} digests may be asked for at once");
        return Err(Problem::field("digests", "TOO_MANY_DIGESTS", message));
    }
    let parse = |(index, digest)| {
        decode_digest(digest).map_err(|error| {
            Problem::field(format!("digests[{index}]"), "INVALID_DIGEST", error.to_string())
        })
    };
    digests.iter().enumerate().map(parse).collect()
}
