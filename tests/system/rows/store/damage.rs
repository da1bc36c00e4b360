//! Files that are not what was stored.

use std::collections::BTreeMap;

use super::*;

/// All files below a directory, by their paths.
pub(super) fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

type Damage = fn(&mut Vec<u8>);

/// What may become of a file.
const DAMAGES: [(&str, Damage); 4] = [
    ("a bit is flipped", |bytes| {
        let middle = bytes.len() / 3;
        bytes[middle] ^= 4;
    }),
    ("it is cut off", |bytes| bytes.truncate(bytes.len() / 2)),
    ("it is all zeros", |bytes| bytes.fill(0)),
    ("it is another one", |bytes| *bytes = b"what another file holds".to_vec()),
];

#[tokio::test]
async fn d07_a_damaged_file_is_named_with_its_snapshot_and_all_others_are_served() {
    let mut world = World::serve(Vec::new()).await;
    let before = files(&world.data().join("blobs"));
    drop(world.import_as("hurt").ok());
    let after = files(&world.data().join("blobs"));
    let of_it: Vec<_> = after.iter().filter(|(path, _)| !before.contains_key(*path)).collect();
    assert!(!of_it.is_empty());
    for (path, whole) in &of_it {
        for (what, damage) in DAMAGES {
            let mut bytes = (*whole).clone();
            damage(&mut bytes);
            world.plane.kill();
            fs::write(path, &bytes).unwrap();
            let told = world.store(&["scrub"]);
            let case = format!("{what}: {}", path.display());
            assert_eq!(told.code(), 1, "{case}: {}", told.text());
            assert!(told.text().contains("snapshots/hurt"), "{case}: {}", told.text());
            world.revive().await;
            let refused = world.cli(&["replay", "start", "hurt"]);
            let says = ["is damaged", "is missing from the store", "cannot be read"];
            let text = refused.text();
            assert!(refused.code() == 1 && says.iter().any(|s| text.contains(s)), "{case}: {text}");
            drop(world.cli(&["replay", "start", "all", "--transform", "t", "--wait"]).ok());
            fs::write(path, whole).unwrap();
        }
    }
    // Put aside, it is missing; the same recording mends it.
    world.plane.kill();
    for (path, whole) in &of_it {
        let mut bytes = (*whole).clone();
        DAMAGES[0].1(&mut bytes);
        fs::write(path, &bytes).unwrap();
    }
    assert_eq!(world.store(&["scrub", "--quarantine"]).code(), 1);
    world.revive().await;
    let file = world.recording("hurt");
    drop(world.cli(&["snapshot", "import", &file, "--id", "mended"]).ok());
    drop(world.cli(&["replay", "start", "hurt", "--wait"]).ok());
    assert_eq!(world.client.get("/hurt/1").await.status, 200);
    assert!(world.plane.terminate().await.success());
    let told = world.store(&["scrub", "--output", "json"]);
    let told: Value = serde_json::from_str(&told.stdout()).unwrap();
    assert_eq!((&told["missing"], &told["affected"]), (&json!([]), &json!([])), "{told:#}");
    drop(world.end().await);
}

#[tokio::test]
async fn d15_a_blob_that_is_of_another_version_is_not_served_and_the_last_good_one_goes_on() {
    let mut world = World::serve(Vec::new()).await;
    drop(world.import_as("first").ok());
    drop(world.edit("one").ok());
    let start = ["replay", "start", "moves", "--snapshot", "first", "--transform", "words"];
    drop(world.cli(&[&start[..], &["--wait"]].concat()).ok());
    let cache = world.dir.path().join("cache-late");
    let secrets = world.dir.path().join("secrets");
    let mut late = process::responder("late", world.grpc(), &secrets, Some(&cache));
    let client = Client::new(late.address("data").await);
    wait_until("the first version is served", || async {
        (word(&client, "/first/1").await.as_deref() == Some("one")).then_some(())
    })
    .await;
    late.kill();

    // The record tells of the second version, and where its bundle was is the first one's.
    let blobs = world.data().join("blobs");
    drop(world.edit("two").ok());
    let before = files(&blobs);
    drop(world.cli(&start).ok());
    let after = files(&blobs);
    let fresh: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    world.plane.kill();
    assert!(!fresh.is_empty());
    let other = before.values().min_by_key(|bytes| bytes.len()).unwrap();
    for path in fresh {
        fs::write(path, other).unwrap();
    }
    world.revive().await;
    let mut late = process::responder("late", world.grpc(), &secrets, Some(&cache));
    let client = Client::new(late.address("data").await);
    // Whoever has fetched it already serves it; for all others it is damaged.
    wait_until("the second version is refused", || async {
        let told = world.cli(&["--output", "json", "replay", "status", "moves"]).stdout();
        told.contains("is damaged").then_some(())
    })
    .await;
    let served = word(&client, "/first/1").await;
    assert_eq!(served.as_deref(), Some("one"), "the last good one goes on");
    let served = word(&world.client, "/first/1").await.unwrap();
    assert!(["one", "two"].contains(&&*served), "{served}");
    assert_eq!(client.get("/probe").await.status, 200, "others are served");
    drop(world.end().await);
}
