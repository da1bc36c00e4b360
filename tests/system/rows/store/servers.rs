//! PostgreSQL and an object store, and all that can happen between them and a control plane.

use std::sync::atomic::AtomicBool;

use harness::{
    link::{Fault, Link},
    servers::{PASSWORD, Postgres, S3Server, SECRET_KEY},
    shared::Plane,
};

use super::{damage::files, *};

/// A world whose control plane stores nothing of its own.
struct Shared {
    world: World,
    postgres: Postgres,
    s3: S3Server,
    /// To the database.
    database: Link,
    /// To the object store.
    blobs: Link,
    variables: Vec<(String, String)>,
    admin: Client,
}

impl Shared {
    /// `None`, with a notice, where a server is not installed.
    async fn start() -> Option<Self> {
        let (postgres, s3) = Postgres::start().zip(S3Server::start())?;
        let bucket = s3.bucket("rows") + "/store";
        let dir = tempfile::tempdir().unwrap();
        let plane = Plane::start(&dir.path().join("data"), &postgres, &s3, &bucket).await;
        let Plane { mut process, database, blobs, addr, variables, .. } = plane;
        let admin = Client::new(process.address("admin").await);
        let world = World::serve_from(dir, (process, addr), Vec::new()).await;
        Some(Self { world, postgres, s3, database, blobs, variables, admin })
    }

    fn store(&self, arguments: &[&str]) -> Finished {
        let data = self.world.data().to_string_lossy().into_owned();
        let arguments = [&["store"], arguments, &["--data-dir", &data]].concat();
        process::run_in("countersign", arguments, &self.variables)
    }

    /// Asserts that the store is told not to answer, and that it does again once the fault is over.
    async fn falters(&self, link: &Link, fault: Fault, ask: &[&str]) {
        link.set(fault);
        let refused = self.world.cli(ask);
        assert_ne!(refused.code(), 0, "{fault:?}: {}", refused.text());
        let told = refused.text();
        assert!(told.contains(" now"), "{fault:?}: it is said that it may pass: {told}");
        link.set(Fault::None);
        wait_until("the store answers again", || async {
            (self.world.cli(ask).code() == 0).then_some(())
        })
        .await;
    }

    async fn end(self) {
        let told = self.world.end().await;
        assert!(!told.contains(PASSWORD) && !told.contains(SECRET_KEY), "{told}");
    }
}

/// Imports one small recording after the other until it is told to end; which were acknowledged, and which were not.
fn import_until(server: &str, file: &str, ended: &AtomicBool) -> [Vec<String>; 2] {
    let mut all = [Vec::new(), Vec::new()];
    let mut count = 0;
    while !ended.load(Ordering::Relaxed) {
        count += 1;
        let id = format!("w{count}");
        let arguments = ["--server", server, "snapshot", "import", file, "--id", &id];
        let done = process::run("countersign", arguments).code() == 0;
        all[usize::from(!done)].push(id);
    }
    all
}

/// The same beside the test.
fn import_beside(world: &World, ended: &Arc<AtomicBool>) -> JoinHandle<[Vec<String>; 2]> {
    let (server, file, ended) = (world.server.clone(), world.recording("w"), Arc::clone(ended));
    spawn_blocking(move || import_until(&server, &file, &ended))
}

#[tokio::test(flavor = "multi_thread")]
async fn d06_a_store_that_fails_or_stalls_fails_the_call_in_time_and_shows_in_the_health() {
    let Some(shared) = Shared::start().await else { return };
    drop(shared.world.import_as("big").ok());
    let list = ["snapshot", "list"];
    let export = ["snapshot", "export", "big", "--out", "-"];
    for fault in [Fault::Silent, Fault::Cut] {
        shared.falters(&shared.database, fault, &list).await;
        shared.falters(&shared.blobs, fault, &export).await;
    }
    shared.database.set(Fault::Silent);
    wait_until("the control plane is not ready", || async {
        let ready = shared.admin.get("/readyz").await;
        (ready.status == 503 && ready.json().to_string().contains("does not answer")).then_some(())
    })
    .await;
    shared.database.set(Fault::None);
    wait_until("it is ready again", || async {
        (shared.admin.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    shared.end().await;
}

// What a control plane keeps in its own data directory is copied while it is stopped: the directory belongs to one process.
#[tokio::test(flavor = "multi_thread")]
async fn d11_a_backup_that_is_taken_during_writes_is_whole_when_it_is_restored() {
    let Some(shared) = Shared::start().await else { return };
    let ended = Arc::new(AtomicBool::new(false));
    drop(shared.world.import_as("before").ok());
    let manifest = shared.world.manifest("before");
    let writing = import_beside(&shared.world, &ended);
    let path = |name: &str| shared.world.dir.path().join(name).to_string_lossy().into_owned();
    let mut revision = 0_u64;
    for nth in 0..3 {
        revision = wait_until("imports go on", || {
            let now: u64 = shared.postgres.sql("SELECT rev FROM meta").parse().unwrap();
            async move { (now > revision + 2).then_some(now) }
        })
        .await;
        let (backup, restored) = (path(&format!("backup-{nth}")), path(&format!("restored-{nth}")));
        drop(shared.store(&["backup", &backup]).ok());
        let arguments = ["store", "restore", &backup, "--data-dir", &restored];
        drop(process::run("countersign", arguments).ok());
        drop(process::run("countersign", ["store", "scrub", "--data-dir", &restored]).ok());
        let mut plane = process::control_plane(Path::new(&restored), "127.0.0.1:0");
        let server = format!("http://{}", plane.address("grpc").await);
        let show = ["--server", &server, "--output", "json", "snapshot", "show", "before"];
        let shown: Value =
            serde_json::from_str(&process::run("countersign", show).ok().stdout()).unwrap();
        assert_eq!(shown["manifest"].as_str(), manifest.as_deref());
    }
    ended.store(true, Ordering::Relaxed);
    let [acknowledged, _] = writing.await.unwrap();
    assert!(!acknowledged.is_empty(), "nothing was written meanwhile");
    shared.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d12_a_database_that_dies_during_commits_loses_nothing_acknowledged_and_nothing_is_done_twice()
 {
    let Some(mut shared) = Shared::start().await else { return };
    let ended = Arc::new(AtomicBool::new(false));
    let writing = import_beside(&shared.world, &ended);
    let mut revision = 0_u64;
    for round in 0..6 {
        // Each comes while commits are under way.
        revision = wait_until("imports go on", || {
            let now: u64 = shared.postgres.sql("SELECT rev FROM meta").parse().unwrap();
            async move { (now > revision + 6).then_some(now) }
        })
        .await;
        if round % 3 == 0 {
            shared.postgres.crash();
            shared.postgres.resume();
        } else if round % 3 == 1 {
            shared.postgres.cut_connections();
        } else {
            shared.database.set(Fault::Cut);
            pause(Duration::from_millis(300)).await;
            shared.database.set(Fault::None);
        }
    }
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'countersign-control-plane'";
    let open: u32 = shared.postgres.sql(open).parse().unwrap();
    assert!(open < 40, "{open} connections");
    ended.store(true, Ordering::Relaxed);
    let [acknowledged, open] = writing.await.unwrap();
    assert!(acknowledged.len() > 3, "{acknowledged:?}");
    let manifest = shared.world.manifest(&acknowledged[0]);
    for id in &acknowledged {
        assert_eq!(shared.world.manifest(id), manifest, "{id} was acknowledged");
    }
    // Whether one of the others was done is not known. It is whole if it was, and can be asked for again if it was not.
    for id in &open {
        let file = shared.world.recording("w");
        let again = shared.world.cli(&["snapshot", "import", &file, "--id", id]);
        assert_eq!(shared.world.manifest(id), manifest, "{id}: {}", again.text());
    }
    drop(shared.store(&["scrub"]).ok());
    shared.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d13_conflicts_and_locks_of_the_database_are_waited_for_and_writers_read_what_they_wrote() {
    let Some(mut shared) = Shared::start().await else { return };
    let template = shared.world.dir.path().join("t.json").to_string_lossy().into_owned();
    // Somebody holds what each commit raises, for a while, and then ends in an error as after a deadlock.
    for seconds in ["0.5", "2"] {
        let url = shared.postgres.url();
        let hold =
            format!("BEGIN; SELECT rev FROM meta FOR UPDATE; SELECT pg_sleep({seconds}); ROLLBACK");
        assert!(url.contains("postgres"));
        let (held, put) = tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                let held = scope.spawn(|| shared.postgres.sql(&hold));
                let put = shared.world.cli(&["transform", "put", &template]);
                (held.join(), put)
            })
        });
        assert!(held.is_ok());
        drop(put.ok());
    }
    // Whoever wrote at one control plane reads it at another one at once, though that has not heard of it yet.
    let dir = shared.world.dir.path().join("other");
    let bucket = shared.variables.iter().find(|(name, _)| name == "COUNTERSIGN_BLOBS");
    let other = Plane::start(&dir, &shared.postgres, &shared.s3, &bucket.unwrap().1).await;
    let server = format!("http://{}", other.addr);
    for nth in 0..10 {
        let id = format!("t{nth}");
        drop(shared.world.cli(&["transform", "put", &template, "--id", &id]).ok());
        let get = ["--server", &server, "transform", "get", &id];
        drop(process::run("countersign", get).ok());
    }
    // Another version of the server comes back on other connections.
    shared.postgres.crash();
    shared.postgres.resume();
    wait_until("the other one works again", || async {
        let list = ["--server", &server, "transform", "list"];
        (process::run("countersign", list).code() == 0).then_some(())
    })
    .await;
    shared.end().await;
}

// Requests are signed with the machine's time. Whether a store takes one of a clock that is 20 minutes off is up to that store; ours here does not look.
#[tokio::test(flavor = "multi_thread")]
async fn d14_objects_that_are_late_cut_off_exchanged_missing_or_left_over_are_told_apart() {
    let Some(shared) = Shared::start().await else { return };
    let world = &shared.world;
    let blobs = shared.s3.files().join("rows/store/blobs");
    let before = files(&blobs);
    drop(world.import_as("hurt").ok());
    let after = files(&blobs);
    let (path, whole) = after
        .iter()
        .filter(|(path, _)| !before.contains_key(*path))
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap();
    let refused = |says: &str| {
        let refused = world.cli(&["replay", "start", "hurt"]);
        let text = refused.text();
        assert!(refused.code() == 1 && text.contains(says), "no `{says}` in {text}");
        drop(world.cli(&["replay", "start", "all", "--transform", "t", "--wait"]).ok());
        let told = shared.store(&["scrub"]);
        assert_eq!(told.code(), 1, "{}", told.text());
        assert!(told.text().contains("snapshots/hurt"), "{}", told.text());
    };
    fs::write(path, whole.get(..whole.len() / 2).unwrap()).unwrap();
    refused("is damaged");
    fs::write(path, vec![b'x'; whole.len()]).unwrap();
    refused("is damaged");
    fs::remove_file(path).unwrap();
    refused("is missing from the store");
    // The same recording mends it.
    drop(world.cli(&["snapshot", "import", &world.recording("hurt"), "--id", "mended"]).ok());
    drop(world.cli(&["replay", "start", "hurt", "--wait"]).ok());
    drop(shared.store(&["scrub"]).ok());

    // What nothing names stays for a day, since somebody may be about to name it.
    drop(world.import_as("gone").ok());
    let with = files(&blobs).len();
    drop(world.cli(&["snapshot", "delete", "gone"]).ok());
    drop(shared.store(&["gc"]).ok());
    assert_eq!(files(&blobs).len(), with);
    drop(shared.store(&["gc", "--grace", "0"]).ok());
    assert!(files(&blobs).len() < with);

    // An answer that is lost is no reason to do anything twice.
    for fault in [Fault::Cut, Fault::Slow(Duration::from_millis(200))] {
        let importing = world.importing("late");
        pause(Duration::from_millis(100)).await;
        shared.blobs.set(fault);
        pause(Duration::from_millis(500)).await;
        shared.blobs.set(Fault::None);
        let first = importing.await.unwrap();
        assert!(first.code() != 0 || world.manifest("late").is_some(), "{}", first.text());
    }
    let again =
        world.cli(&["snapshot", "import", &world.recording("late"), "--id", "late-again"]).ok();
    let manifest = world.manifest("late-again");
    assert!(world.manifest("late").is_none_or(|late| Some(late) == manifest), "{}", again.text());
    drop(shared.store(&["scrub"]).ok());
    shared.end().await;
}
