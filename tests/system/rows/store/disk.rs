//! A disk that is full.

use harness::disks::Disks;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn d05_a_full_disk_refuses_what_does_not_fit_and_nothing_is_stored_by_halves() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disks) = Disks::mount(dir.path(), &["data"]) else { return };
    let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let grpc = plane.address("grpc").await;
    let mut world = World::serve_from(dir, (plane, grpc), Vec::new()).await;
    let kept = world.manifest("all");
    let (mut refused, mut fitted) = (0, 0);
    // Every place where there may be no room: in the log of the database, an upload, a blob, a list of blobs.
    for room in (0..20).map(|nth| nth * 40960) {
        let id = format!("r{room}");
        disks.leave(0, room).unwrap();
        let imported = world.import_as(&id);
        let put =
            world.cli(&["transform", "put", &world.dir.path().join("t.json").to_string_lossy()]);
        let manifest = world.manifest(&id);
        assert_eq!(world.manifest("all"), kept, "reads go on");
        disks.empty(0).unwrap();
        for out in [&imported, &put] {
            let told =
                out.code() == 0 || out.text().contains("full") || out.text().contains("space");
            assert!(told, "{room}: {}", out.text());
        }
        assert_eq!(imported.code() == 0, manifest.is_some(), "{room}: {}", imported.text());
        refused += usize::from(imported.code() != 0);
        fitted += usize::from(imported.code() == 0);
    }
    assert!(refused > 3 && fitted > 3, "{refused} were refused, {fitted} fitted");
    // It goes on by itself once there is room.
    drop(world.import_as("after").ok());
    drop(world.cli(&["replay", "start", "after", "--wait"]).ok());
    assert_eq!(world.client.get("/after/1").await.status, 200);
    world.is_sound().await;
    drop(world.end().await);
    drop(disks);
}
