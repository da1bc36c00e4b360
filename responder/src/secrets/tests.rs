//! Secrets as the kubelet, a person and an attacker leave them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;

const KEY: &str =
    "a signing key for tests, long enough for every HMAC: 0123456789abcdef0123456789abcdef";
const NEXT: &str =
    "the key that comes after it, long enough for every HMAC: 0123456789abcdef0123456789";

struct Node {
    root: TempDir,
    snapshots: Arc<Snapshots>,
    metrics: Arc<Metrics>,
    secrets: Arc<Secrets>,
}

const PACE: Pace = Pace {
    overlap: Duration::ZERO,
    grace: Duration::from_secs(600),
    kept: Duration::from_secs(3600),
};

impl Node {
    fn new() -> Self {
        Self::with(PACE, false)
    }

    fn with(pace: Pace, strict: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new(1));
        let snapshots = Arc::new(Snapshots::new(Arc::clone(&metrics), true));
        let secrets = Arc::new(Secrets::new(
            (root.path().to_owned(), strict),
            pace,
            Arc::clone(&snapshots),
            Arc::clone(&metrics),
        ));
        Self { root, snapshots, metrics, secrets }
    }

    fn write(&self, secret: &str, key: &str, content: &str) {
        fs::create_dir_all(self.root.path().join(secret)).unwrap();
        fs::write(self.root.path().join(secret).join(key), content).unwrap();
    }

    /// What comes of asking for a key.
    fn require(&self, secret: &str, key: &str) -> Report {
        let secret = named(secret, key);
        self.secrets.require(std::slice::from_ref(&secret));
        self.secrets.report(&secret)
    }

    fn code(&self, secret: &str, key: &str) -> Option<&'static str> {
        self.require(secret, key).problem.map(|(code, _)| code)
    }
}

/// Writes a generation as the kubelet does: a new directory, then the link replaced by renaming.
fn mount(root: &Path, secret: &str, generation: u32, keys: &[(&str, &str)]) {
    let dir = root.join(secret);
    let name = format!("..2026_11_24_{generation}");
    fs::create_dir_all(dir.join(&name)).unwrap();
    for (key, content) in keys {
        fs::write(dir.join(&name).join(key), content).unwrap();
        if !dir.join(key).is_symlink() {
            symlink(format!("{DATA_LINK}/{key}"), dir.join(key)).unwrap();
        }
    }
    symlink(&name, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join(DATA_LINK)).unwrap();
}

#[tokio::test]
async fn a_key_is_given_up_when_its_file_was_not_put_right_in_time() {
    let node = Node::with(Pace { kept: Duration::ZERO, ..PACE }, true);
    node.write("jwt", "key", KEY);
    fs::set_permissions(node.root.path().join("jwt/key"), fs::Permissions::from_mode(0o600))
        .unwrap();
    assert!(node.require("jwt", "key").resolved);
    fs::remove_file(node.root.path().join("jwt/key")).unwrap();
    node.secrets.settle().await;
    let gone = node.secrets.report(&named("jwt", "key"));
    assert!(!gone.resolved);
    assert_eq!(gone.problem.map(|(code, _)| code), Some("secret_missing"));
    // One that everybody may read does not take its place, nor does it count as a change each time.
    node.write("jwt", "key", NEXT);
    fs::set_permissions(node.root.path().join("jwt/key"), fs::Permissions::from_mode(0o644))
        .unwrap();
    assert_eq!(node.code("jwt", "key"), Some("secret_world_readable"));
    assert_eq!(node.metrics.secret_errors.get(), 2);
    node.secrets.settle().await;
    assert_eq!(node.metrics.secret_errors.get(), 2);
    fs::set_permissions(node.root.path().join("jwt/key"), fs::Permissions::from_mode(0o400))
        .unwrap();
    let good = node.require("jwt", "key");
    assert!(good.resolved && good.problem.is_none() && good.note.is_none(), "{good:?}");
}

#[test]
fn a_switched_mount_brings_the_new_key_at_once() {
    let node = Node::new();
    mount(node.root.path(), "jwt", 1, &[("key", KEY)]);
    let first = node.require("jwt", "key");
    assert!(first.resolved && first.problem.is_none(), "{first:?}");

    mount(node.root.path(), "jwt", 2, &[("key", NEXT)]);
    assert_eq!(node.secrets.reload(), Settled::Yes);
    let second = node.secrets.report(&named("jwt", "key"));
    assert!(second.resolved && second.generation > first.generation, "{second:?}");
    // The replays are bound to the new ring.
    assert_eq!(node.metrics.key_ring.get(), i64::try_from(second.generation).unwrap());
}

#[tokio::test]
async fn a_file_replaced_in_place_counts_once_it_stays_as_it_is() {
    let node = Node::new();
    node.write("jwt", "key", KEY);
    let first = node.require("jwt", "key").generation;

    node.write("jwt", "key", "half of it");
    assert_eq!(node.secrets.reload(), Settled::NotYet);
    node.write("jwt", "key", NEXT);
    assert_eq!(node.secrets.reload(), Settled::NotYet);
    assert_eq!(node.secrets.report(&named("jwt", "key")).generation, first);
    // One poll looks as often as it takes.
    node.secrets.settle().await;
    assert!(node.secrets.report(&named("jwt", "key")).generation > first);
}

#[tokio::test]
async fn a_broken_or_deleted_file_keeps_the_key_and_is_told() {
    let node = Node::new();
    node.write("jwt", "key", KEY);
    let good = node.require("jwt", "key");
    let changes = node.secrets.subscribe();

    node.write("jwt", "key", "-----BEGIN PRIVATE KEY-----\nbroken\n");
    node.secrets.settle().await;
    let broken = node.secrets.report(&named("jwt", "key"));
    assert!(broken.resolved && broken.generation == good.generation, "{broken:?}");
    assert!(broken.problem.is_some());
    assert!(changes.has_changed().unwrap());
    assert_eq!(node.metrics.secret_errors.get(), 1);
    // The same trouble again is no news.
    node.secrets.settle().await;
    assert_eq!(node.metrics.secret_errors.get(), 1);

    fs::remove_file(node.root.path().join("jwt/key")).unwrap();
    node.secrets.settle().await;
    let missing = node.secrets.report(&named("jwt", "key"));
    assert!(missing.resolved);
    assert_eq!(missing.problem.map(|(code, _)| code), Some("secret_missing"));

    node.write("jwt", "key", KEY);
    node.secrets.settle().await;
    let mended = node.secrets.report(&named("jwt", "key"));
    assert!(mended.problem.is_none() && mended.generation == good.generation, "{mended:?}");
}

#[tokio::test]
async fn a_key_that_comes_late_is_found_by_the_poll() {
    let node = Node::new();
    assert_eq!(node.code("late", "key"), Some("secret_missing"));
    let mut changes = node.secrets.subscribe();
    changes.mark_unchanged();
    let poll = tokio::spawn(Arc::clone(&node.secrets).poll(Duration::from_millis(5)));
    node.write("late", "key", KEY);
    let resolved = || node.secrets.report(&named("late", "key")).resolved;
    while !resolved() {
        changes.changed().await.unwrap();
    }
    poll.abort();
    node.secrets.retain(&BTreeSet::new());
    assert!(node.secrets.reports().is_empty() && node.snapshots.load().replays.is_empty());
}

#[test]
fn all_keys_of_a_secret_come_from_one_generation() {
    let node = Node::new();
    let keys = BTreeSet::from(["key", "kid"]);
    for generation in 1..50 {
        let content = generation.to_string();
        mount(node.root.path(), "jwt", generation, &[("key", &content), ("kid", &content)]);
        let found = node.secrets.read_secret("jwt", &keys);
        let contents: Vec<_> = found.iter().map(|(_, f)| f.content.as_ref().unwrap()).collect();
        assert_eq!(contents[0].bytes, contents[1].bytes);
    }
}

#[test]
fn what_is_known_is_told_while_files_are_read() {
    let node = Node::new();
    node.write("jwt", "key", KEY);
    node.require("jwt", "key");
    // As long as a mount hangs.
    let _reading = node.secrets.reading.lock().unwrap();
    assert!(node.secrets.report(&named("jwt", "key")).resolved);
    assert_eq!(node.secrets.reports().len(), 1);
}

#[test]
fn half_of_a_first_file_does_not_count() {
    let node = Node::new();
    let key = named("jwt", "key");
    node.secrets.lock().keys.entry(key.clone()).or_default();
    node.write("jwt", "key", KEY.split_at(20).0);
    assert_eq!(node.secrets.reload(), Settled::NotYet);
    assert!(!node.secrets.report(&key).resolved);
    node.write("jwt", "key", KEY);
    assert_eq!(node.secrets.reload(), Settled::NotYet);
    assert_eq!(node.secrets.reload(), Settled::Yes);
    let ring = node.secrets.lock().ring();
    assert_eq!(ring.get(&key).unwrap().text.as_deref().unwrap().as_slice(), KEY.as_bytes());
}

#[test]
fn keys_that_nothing_needs_are_in_no_ring() {
    let node = Node::new();
    node.write("jwt", "key", KEY);
    node.write("jwt", "other", NEXT);
    node.require("jwt", "key");
    node.require("jwt", "other");
    let known =
        || node.snapshots.keys().iter().map(|(name, _)| name.key.clone()).collect::<Vec<_>>();
    assert_eq!(known(), ["key", "other"]);
    node.secrets.retain(&BTreeSet::from([named("jwt", "other")]));
    assert_eq!(known(), ["other"]);
}

#[test]
fn of_a_private_key_no_text_is_kept() {
    const RSA: &str = include_str!("../../engine/src/jwt/vectors/rfc7515-a2.pem");
    let node = Node::new();
    node.write("jwt", "key", RSA);
    node.write("jwt", "shared", KEY);
    let told = |key: &str| {
        assert!(node.require("jwt", key).resolved, "{key}");
        let ring = node.secrets.lock().ring();
        ring.get(&named("jwt", key)).unwrap().text.is_some()
    };
    node.write("jwt", "jwk", &format!(r#"{{"kty":"oct","k":"{}"}}"#, "a".repeat(64)));
    assert!(!told("key"));
    assert!(!told("jwk"), "its text is not the secret");
    assert!(told("shared"), "templates may put it into answers");
}

#[test]
fn links_and_names_that_lead_outside_are_refused() {
    let node = Node::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("key"), KEY).unwrap();
    let root = node.root.path();
    fs::create_dir_all(root.join("s")).unwrap();
    symlink(outside.path().join("key"), root.join("s/absolute")).unwrap();
    symlink("../../../../../../../etc/passwd", root.join("s/up")).unwrap();
    symlink("/proc/self/root/etc/passwd", root.join("s/magic")).unwrap();
    symlink(outside.path(), root.join("elsewhere")).unwrap();
    fs::create_dir_all(root.join("switched")).unwrap();
    symlink(outside.path(), root.join("switched").join(DATA_LINK)).unwrap();
    for (secret, key) in [
        ("s", "absolute"),
        ("s", "up"),
        ("s", "magic"),
        ("elsewhere", "key"),
        ("switched", "key"),
        ("..", "key"),
        ("s", ".."),
        ("s", "../s/up"),
        ("s", ""),
        ("", "key"),
        (".", "key"),
        ("s", "nul\0"),
    ] {
        assert_eq!(node.code(secret, key), Some("secret_path_escape"), "{secret:?}/{key:?}");
    }
}

#[test]
fn only_regular_files_of_bounded_size_are_read() {
    let node = Node::new();
    node.write("s", "largest", &"x".repeat(64 * 1024));
    node.write("s", "larger", &"x".repeat(64 * 1024 + 1));
    let dir = node.root.path().join("s");
    fs::create_dir(dir.join("directory")).unwrap();
    // Opening it must not wait for a writer.
    mknodat(CWD, dir.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    for (key, code) in [
        ("larger", "secret_too_large"),
        ("directory", "secret_wrong_type"),
        ("fifo", "secret_wrong_type"),
        ("nothing", "secret_missing"),
    ] {
        assert_eq!(node.code("s", key), Some(code), "{key}");
    }
    assert!(!node.code("s", "largest").is_some_and(|code| code.starts_with("secret_")));

    node.write("s", "locked", KEY);
    fs::set_permissions(dir.join("locked"), fs::Permissions::from_mode(0o0)).unwrap();
    // A superuser may read it all the same.
    if fs::read(dir.join("locked")).is_err() {
        assert_eq!(node.code("s", "locked"), Some("secret_permission"));
    }
}
