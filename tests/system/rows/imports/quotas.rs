//! Uploads and projects that are larger than they may be.

use super::*;

#[tokio::test]
async fn s07_an_upload_above_the_quota_is_refused_when_it_crosses_and_others_go_on() {
    let world = World::serve_with(Vec::new(), &Setup::of_plane("--max-upload-mib 1")).await;
    let large = world.import("large.jsonl", lines(4_000), &[]);
    assert_eq!(large.code(), 1, "{}", large.text());
    assert!(large.text().contains("the upload is larger than 1048576 bytes"), "{}", large.text());
    assert_eq!(world.snapshot("large"), None);
    let mut uploads = world.uploads().await;
    uploads.create("raw").await;
    let refused = uploads.send("raw", lines(4_000).as_bytes(), 500_000).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.get_details_error_info().unwrap().reason, "UPLOAD_TOO_LARGE");
    assert_eq!(refused.get_details_quota_failure().unwrap().violations[0].subject, "upload");
    assert_eq!(world.report("small.jsonl", lines(10))["imported"], 10);
    drop(world.cli(&["snapshot", "delete", "raw"]).ok());
    assert_eq!(world.staged(), Vec::<PathBuf>::new());
    drop(world.end().await);
}

#[tokio::test]
async fn s07_what_unfolds_to_more_than_its_project_has_room_for_is_refused_and_deleting_makes_room()
{
    let world = World::serve_with(Vec::new(), &Setup::of_plane("--project-quota-mib 1")).await;
    let packed = |count| zip(&[Entry::file("a.jsonl", lines(count))]);
    let large = world.import("large.zip", packed(9_000), &[]);
    assert_eq!(large.code(), 1, "{}", large.text());
    assert!(large.text().contains("projects/default may store 1048576 bytes"), "{}", large.text());
    assert_eq!(world.snapshot("large"), None);
    assert_eq!(world.report("half.zip", packed(3_000))["imported"], 3_000);
    assert_eq!(world.import("next.zip", packed(3_000), &[]).code(), 1);
    let elsewhere = world.import("there.zip", packed(3_000), &["--project", "other"]);
    assert_eq!(elsewhere.code(), 0, "{}", elsewhere.text());
    drop(world.cli(&["snapshot", "delete", "half"]).ok());
    assert_eq!(world.report("next.zip", packed(3_000))["imported"], 3_000);
    drop(world.end().await);
}
