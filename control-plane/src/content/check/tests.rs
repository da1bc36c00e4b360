//! What is sound and what is not: a sound manifest, then one thing wrong at a time.

use countersign_engine::{
    dlp::StoredTreatment,
    snapshot::{HttpRequest, chunk},
};

use super::*;
use crate::{
    content::{self, ChunkRef, Manifest, Root},
    store::blob::FileBlobs,
};

struct World {
    _dir: tempfile::TempDir,
    blobs: FileBlobs,
    held: HashSet<Digest>,
}

impl World {
    /// A snapshot of three endpoints, and its manifest.
    async fn new() -> (Self, Digest) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(dir.path()).unwrap();
        let pair = |ordinal: u64| RrPair {
            ordinal,
            direction: if ordinal.is_multiple_of(2) { Direction::In } else { Direction::Out },
            request: Some(HttpRequest {
                path: format!("/{}", ordinal % 3),
                body: vec![7; 900].into(),
                ..HttpRequest::default()
            }),
            ..RrPair::default()
        };
        let mut pairs: Vec<RrPair> = (0..31).map(pair).collect();
        chunk::sort_by_endpoint(&mut pairs);
        let mut cut = Vec::new();
        chunk::cut::<()>(pairs, |chunk| {
            cut.push(chunk);
            Ok(())
        })
        .unwrap();
        let mut chunks = Vec::new();
        for chunk in cut {
            let pairs = u64::try_from(chunk.ordinals.len()).unwrap();
            let digest = blobs.put(chunk.bytes.into()).await.unwrap();
            chunks.push(ChunkRef { digest, pairs, ordinals: chunk.ordinals.into() });
        }
        assert!(chunks.len() > 2);
        let (manifest, _) = Manifest { chunks, treatment: None }.put(&blobs).await.unwrap();
        let held = content::named(&blobs, Root::Manifest(manifest)).await.unwrap();
        (Self { _dir: dir, blobs, held }, manifest)
    }

    async fn put(&mut self, bytes: Bytes) -> Digest {
        let digest = self.blobs.put(bytes).await.unwrap();
        self.held.insert(digest);
        digest
    }

    async fn stored(&self, manifest: Digest) -> Stored {
        wire::decode_manifest(self.blobs.get(&manifest).await.unwrap().unwrap()).unwrap()
    }

    async fn check(&self, manifest: Digest) -> Result<Found, Unsound> {
        check(&self.blobs, &self.held, manifest, |_| {}).await
    }

    /// Checks a manifest that was changed, and returns what is said of which blob.
    async fn refused(&mut self, stored: &Stored) -> (Digest, String) {
        let manifest = self.put(wire::encode_manifest(stored)).await;
        match self.check(manifest).await.unwrap_err() {
            Unsound::Malformed(digest, what) => (digest, what),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn what_was_cut_here_is_sound() {
    let (world, manifest) = World::new().await;
    let mut seen = Vec::new();
    let found = check(&world.blobs, &world.held, manifest, |at| seen.push(at)).await.unwrap();
    assert_eq!(found, Found { pairs: 31, inbound: 16 });
    let last = seen.last().unwrap();
    assert_eq!((last.pairs, last.bytes_done), (31, last.bytes_total));
}

#[tokio::test]
async fn what_is_not_held_or_not_stored_is_named() {
    let (mut world, manifest) = World::new().await;
    for digest in world.held.clone() {
        world.held.remove(&digest);
        let error = world.check(manifest).await.unwrap_err();
        assert!(matches!(error, Unsound::Missing(missing) if missing == digest), "{error}");
        world.held.insert(digest);
    }
    let gone = world.stored(manifest).await.ordinals.unwrap();
    let live = world.held.iter().copied().filter(|digest| *digest != gone).collect();
    world.blobs.retain(live, std::time::Duration::ZERO).await.unwrap();
    let error = world.check(manifest).await.unwrap_err();
    assert!(matches!(error, Unsound::Missing(missing) if missing == gone), "{error}");
}

#[tokio::test]
async fn numbers_have_to_be_those_of_the_pairs() {
    let (mut world, manifest) = World::new().await;
    let sound = world.stored(manifest).await;
    world.refused(&Stored { pairs: 30, ..sound.clone() }).await;
    world.refused(&Stored { ordinals: None, ..sound.clone() }).await;
    for ordinals in [(0..30).collect(), (1..32).collect(), vec![5; 31], (0..32).collect()] {
        let ordinals: Vec<u64> = ordinals;
        let ordinals = world.put(ordinals::encode(&ordinals).into()).await;
        let stored = Stored { ordinals: Some(ordinals), ..sound.clone() };
        assert_eq!(world.refused(&stored).await.0, ordinals);
    }
    // Any order will do.
    let backwards: Vec<u64> = (0..31).rev().collect();
    let ordinals = world.put(ordinals::encode(&backwards).into()).await;
    let stored = Stored { ordinals: Some(ordinals), ..sound.clone() };
    let manifest = world.put(wire::encode_manifest(&stored)).await;
    assert_eq!(world.check(manifest).await.unwrap().pairs, 31);
}

#[tokio::test]
async fn chunks_have_to_hold_what_their_page_says() {
    let (mut world, manifest) = World::new().await;
    let sound = world.stored(manifest).await;
    let mut chunks = Vec::new();
    for page in &sound.pages {
        let page = world.blobs.get(page).await.unwrap().unwrap();
        chunks.extend(wire::decode_page(page).unwrap());
    }
    let ((first, pairs), (second, others)) = (chunks[0], chunks[1]);
    let cases = [
        // One pair less here and one more there.
        (vec![(first, pairs - 1), (second, others + 1)], "is said to hold"),
        (vec![(first, 0), (second, others + pairs)], "as many pairs as it says"),
        (vec![(first, u64::MAX), (second, others)], "as many pairs as it says"),
    ];
    for (changed, what) in cases {
        let page: Vec<_> = changed.iter().chain(&chunks[2..]).copied().collect();
        let page = world.put(wire::encode_page(&page)).await;
        let refused = world.refused(&Stored { pages: vec![page], ..sound.clone() }).await;
        assert!(refused.1.contains(what), "{}", refused.1);
    }
    let garbage = world.put(Bytes::from(vec![0xff; 4000])).await;
    assert_eq!(world.refused(&Stored { pages: vec![garbage], ..sound.clone() }).await.0, garbage);
    chunks[0] = (garbage, pairs);
    let page = world.put(wire::encode_page(&chunks)).await;
    assert_eq!(world.refused(&Stored { pages: vec![page], ..sound.clone() }).await.0, garbage);
    world.refused(&Stored { pages: Vec::new(), pairs: 0, ..sound.clone() }).await;
    let error = world.check(garbage).await.unwrap_err();
    assert!(matches!(error, Unsound::Malformed(digest, _) if digest == garbage), "{error}");
}

#[tokio::test]
async fn a_treatment_has_to_be_one_that_requests_can_go_through() {
    let (mut world, manifest) = World::new().await;
    let sound = world.stored(manifest).await;
    let config = Bytes::from_static(b"{ no config");
    let treatment = Some(StoredTreatment { config, ..StoredTreatment::default() });
    let (_, what) = world.refused(&Stored { treatment, ..sound }).await;
    assert!(what.contains("treatment"), "{what}");
}

#[tokio::test]
async fn the_first_layout_is_read_too() {
    let (mut world, _) = World::new().await;
    let pair = |ordinal| RrPair { ordinal, location: "/a".into(), ..RrPair::default() };
    let encode = |ordinals: [u64; 2]| {
        let pairs = ordinals.map(pair).map(countersign_engine::snapshot::wire::encode_pair);
        Bytes::from(prost::Message::encode_to_vec(&countersign_proto::snapshot::v1::Chunk {
            pairs: pairs.to_vec(),
        }))
    };
    let (first, second) = (world.put(encode([0, 2])).await, world.put(encode([1, 3])).await);
    let stored = |chunks| Stored { chunks, pairs: 4, ..Stored::default() };
    let sound = world.put(wire::encode_manifest(&stored(vec![(first, 2), (second, 2)]))).await;
    assert_eq!(world.check(sound).await.unwrap(), Found { pairs: 4, inbound: 0 });
    let (_, what) = world.refused(&stored(vec![(first, 2), (first, 2)])).await;
    assert!(what.contains("the number 0"), "{what}");
}
