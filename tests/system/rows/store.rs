//! What the control plane stores, and what befalls it: its process, its disk, its files, and the servers that several control planes share.
//!
//! Two rows need a disk that does as it is told, and lie beside the code in the control plane's `store`: power that fails (`d03_…` in `sqlite/power.rs` and
//! `blob.rs`), and a disk that does not bring to rest what was written (`d04_…` in `sqlite/tests.rs` and `blob.rs`).

mod damage;
mod disk;
mod servers;

use std::time::Duration;

use harness::faults::pause;
use tokio::task::spawn_blocking;

use super::*;

impl World {
    /// The control plane's data directory.
    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where the control plane listens.
    pub(super) fn grpc(&self) -> SocketAddr {
        self.server.trim_start_matches("http://").parse().unwrap()
    }

    /// Starts the control plane again with what it has stored, once it has ended.
    pub(super) async fn revive(&mut self) {
        self.plane = process::control_plane(&self.data(), &self.grpc().to_string());
        assert_eq!(self.plane.address("grpc").await, self.grpc());
    }

    /// Runs a control plane that is expected not to start, on this directory.
    fn refused(data: &Path) -> Finished {
        let data = data.to_string_lossy();
        process::run(
            "countersign-control-plane",
            ["--listen", "127.0.0.1:0", "--ui-listen", "none", "--data-dir", &data],
        )
    }

    /// Writes a recording that nothing else has a line of.
    fn recording(&self, id: &str) -> String {
        let lines = (0..200).map(|nth| {
            let body = json!({"of": id, "nth": nth, "text": "x".repeat(nth * 7)});
            recording::line("GET", &format!("/{id}/{nth}"), &body)
        });
        let file = self.dir.path().join(format!("{id}.jsonl"));
        fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
        file.to_string_lossy().into_owned()
    }

    /// Imports it.
    pub(super) fn import_as(&self, id: &str) -> Finished {
        self.cli(&["snapshot", "import", &self.recording(id), "--id", id])
    }

    /// Has replays with the transform `words` answer the recordings of [`Self::import_as`] with this word, from their next start on.
    pub(super) fn edit(&self, word: &str) -> Finished {
        let steps = [
            json!({"type": "json_path", "config": {"path": "of"}}),
            json!({"type": "constant", "config": {"new": word}}),
        ];
        let chain = json!({"extractor": {"type": "res_body"}, "transforms": steps});
        let file = self.dir.path().join("words.json");
        fs::write(&file, json!({"id": "words", "responder": [chain]}).to_string()).unwrap();
        self.cli(&["transform", "put", &file.to_string_lossy()])
    }

    /// Imports it beside what the test goes on with.
    fn importing(&self, id: &str) -> JoinHandle<Finished> {
        let (server, file, id) = (self.server.clone(), self.recording(id), id.to_owned());
        spawn_blocking(move || {
            let arguments = ["--server", &server, "snapshot", "import", &file, "--id", &id];
            process::run("countersign", arguments)
        })
    }

    /// The address of all that a snapshot holds; `None` while it is not committed.
    fn manifest(&self, id: &str) -> Option<String> {
        let shown = self.cli(&["--output", "json", "snapshot", "show", id]);
        let shown: Value = serde_json::from_str(&shown.stdout()).ok()?;
        let ready = shown["state"] == "READY";
        shown["manifest"].as_str().filter(|_| ready).map(str::to_owned)
    }

    /// `countersign store` on the data directory, while no control plane has it.
    fn store(&self, arguments: &[&str]) -> Finished {
        let data = self.data().to_string_lossy().into_owned();
        process::run("countersign", [&["store"], arguments, &["--data-dir", &data]].concat())
    }

    /// Asserts that everything that is stored can be read and is as it was stored, once the control plane has ended.
    async fn is_sound(&mut self) {
        assert!(self.plane.terminate().await.success());
        drop(self.store(&["scrub"]).ok());
    }
}

/// Waits until a responder's disk cache has a replay, which is a moment after the responder serves it.
pub(super) async fn on_disk(cache: &Path, replay: &str) {
    wait_until("the disk cache has it", || async {
        let served = fs::read_to_string(cache.join("current.json")).ok()?;
        served.contains(&format!("/replays/{replay}\"")).then_some(())
    })
    .await;
}

/// The word that a replay with the transform `words` answers with.
pub(super) async fn word(client: &Client, path: &str) -> Option<String> {
    let asked = client.try_send(http::Method::GET, path, Default::default(), Default::default());
    let answer = asked.await.ok().filter(|answer| answer.status == 200)?;
    Some(answer.json()["of"].as_str()?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn d01_what_was_acknowledged_survives_kill_9_and_the_rest_is_there_whole_or_not_at_all() {
    let mut world = World::serve(Vec::new()).await;
    let mut random = fastrand::Rng::with_seed(1);
    let ids: Vec<String> = (0..8).map(|nth| format!("s{nth}")).collect();
    let mut acknowledged = 0;
    for id in &ids {
        let importing = world.importing(id);
        pause(Duration::from_millis(random.u64(0..400))).await;
        world.plane.kill();
        world.revive().await;
        let was_acknowledged = importing.await.unwrap().code() == 0;
        let manifest = world.manifest(id);
        assert!(manifest.is_some() || !was_acknowledged, "{id} was acknowledged and is lost");
        acknowledged += usize::from(was_acknowledged);
        // The same lines again, in one piece, have the same address: all of it is there, and nothing else.
        if let Some(manifest) = manifest {
            let again = format!("{id}-again");
            let file = world.recording(id);
            drop(world.cli(&["snapshot", "import", &file, "--id", &again]).ok());
            assert_eq!(world.manifest(&again).as_ref(), Some(&manifest), "{id}");
        }
    }
    assert!(acknowledged > 0, "nothing was tried");
    world.is_sound().await;
    drop(world.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn d02_a_start_that_is_killed_again_and_again_loses_nothing() {
    let mut world = World::serve(Vec::new()).await;
    drop(world.import_as("kept").ok());
    let kept = world.manifest("kept").unwrap();
    let importing = world.importing("torn");
    pause(Duration::from_millis(150)).await;
    world.plane.kill();
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..15 {
        world.plane = process::control_plane(&world.data(), &world.grpc().to_string());
        pause(Duration::from_millis(random.u64(0..200))).await;
        world.plane.kill();
    }
    world.revive().await;
    let torn = importing.await.unwrap();
    assert_eq!(world.manifest("kept"), Some(kept));
    assert!(torn.code() != 0 || world.manifest("torn").is_some(), "{}", torn.text());
    world.is_sound().await;
    drop(world.end().await);
}

#[tokio::test]
async fn d08_a_second_process_on_a_data_directory_ends_and_names_the_first() {
    let world = World::serve(Vec::new()).await;
    let holder = format!("in use by another process (pid {})", world.plane.id());
    for second in [World::refused(&world.data()), world.store(&["scrub"])] {
        assert_eq!(second.code(), 1, "{}", second.text());
        assert!(second.text().contains(&holder), "no `{holder}` in {}", second.text());
    }
    drop(world.import_as("after").ok());
    drop(world.end().await);
}

/// Asserts that a start ends with the code that says that starting again is of no use, and names what is in the way.
fn assert_unusable(out: &Finished, parts: &[&str]) {
    assert_eq!(out.code(), 78, "{}", out.text());
    for part in parts {
        assert!(out.text().contains(part), "no `{part}` in {}", out.text());
    }
}

// A data directory that belongs to somebody else is refused by the system, which lets root do as it likes: `an_unusable_data_directory_is_named` of the
// control plane tries that where tests do not run as root. A missing parent is no mistake: it is made.
#[tokio::test]
async fn d09_a_data_directory_that_cannot_be_used_is_named_with_exit_code_78() {
    let world = World::serve(Vec::new()).await;
    let path = |name: &str| world.dir.path().join(name);
    fs::write(path("file"), "not a directory").unwrap();
    assert_unusable(&World::refused(&path("file")), &["cannot make", "/file"]);
    assert_unusable(&World::refused(&path("file/below")), &["cannot make", "/file/below"]);
    fs::create_dir_all(path("odd/meta.db")).unwrap();
    assert_unusable(&World::refused(&path("odd")), &["the database", "/odd/meta.db"]);
    fs::create_dir_all(path("foreign")).unwrap();
    fs::write(path("foreign/meta.db"), "no database, but as long as one ".repeat(200)).unwrap();
    assert_unusable(&World::refused(&path("foreign")), &["/foreign/meta.db", "not a database"]);
    if let Some(disks) = harness::disks::Disks::mount(world.dir.path(), &["protected"]) {
        disks.protect(0).unwrap();
        let parts = ["/protected", "Read-only file system"];
        assert_unusable(&World::refused(&path("protected")), &parts);
    }
    let mut made = process::control_plane(&path("a/b/c"), "127.0.0.1:0");
    made.address("grpc").await;
    drop(world.end().await);
}

// Layouts are changed in one transaction of the database, so that a start which is cut off leaves the old one; what was there before stays beside it as a copy, for
// whoever goes back.
#[tokio::test]
async fn d10_a_newer_layout_is_refused_and_the_old_one_is_kept_when_it_is_changed() {
    let mut world = World::serve(Vec::new()).await;
    drop(world.import_as("kept").ok());
    let kept = world.manifest("kept");
    assert!(world.plane.terminate().await.success());
    let database = world.data().join("meta.db");
    let sql = |path: &Path, statements: &str| {
        rusqlite::Connection::open(path).unwrap().execute_batch(statements).unwrap();
    };
    sql(&database, "PRAGMA user_version = 99");
    let parts = ["meta.db has layout 99", "layouts up to 2"];
    assert_unusable(&World::refused(&world.data()), &parts);

    sql(&database, "DROP TABLE leases; PRAGMA user_version = 1");
    for after in [20, 60, 100] {
        world.plane = process::control_plane(&world.data(), &world.grpc().to_string());
        pause(Duration::from_millis(after)).await;
        world.plane.kill();
    }
    world.revive().await;
    assert_eq!(world.manifest("kept"), kept);
    drop(world.import_as("after").ok());
    let copy = world.data().join("meta.db.layout-1");
    let layout = rusqlite::Connection::open(&copy).unwrap();
    let layout: i64 = layout.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(layout, 1);
    world.is_sound().await;
    drop(world.end().await);
}
