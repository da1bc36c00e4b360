//! Keys that may not be read, are gone, are of another kind, do not change, can be read by everybody, or should be in memory no more.

use std::{
    os::unix::fs::{PermissionsExt as _, chown},
    path::PathBuf,
};

use super::*;

/// What is said of a secret, once it is so.
async fn secret_as(world: &World, name: &str, so: impl Fn(&Value) -> bool) -> Value {
    let name = format!("keys/{name}");
    wait_until(&format!("{name} is told of"), || async {
        let status = world.status().await;
        let mut known = status["secrets"].as_array().unwrap().iter();
        known.find(|secret| secret["ref"] == *name && so(secret)).cloned()
    })
    .await
}

fn set_mode(file: &Path, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn k03_a_file_that_may_not_be_read_keeps_the_key_and_says_whose_it_is() {
    const NOBODY: u32 = 65_534;
    let is_root = rustix::process::geteuid().is_root();
    if is_root && Command::new("setpriv").arg("--version").output().is_err() {
        harness::notice("there is no setpriv, so that a file that may not be read is not tried");
        return;
    }
    // Root reads everything, so that another has to be the responder.
    let uid = is_root.then_some(NOBODY);
    let world = World::serve_with(vec![case("locked")], &Setup { uid, ..Setup::default() }).await;
    world.signed("locked", OLD).await;
    let file = world.keys().join("locked");
    chown(&file, is_root.then_some(0), None).unwrap();
    set_mode(&file, if is_root { 0o600 } else { 0o000 });
    let told = world.secret("locked", Some("secret_permission")).await;
    assert_eq!(told["resolved"], true, "{told}");
    let message = told["problem"]["message"].as_str().unwrap();
    if is_root {
        assert!(message.contains("this process (uid 65534, gid 65534)"), "{message}");
        assert!(message.contains("is of uid 0, gid 0, mode 0600"), "{message}");
    } else {
        assert!(message.contains("mode 0000"), "{message}");
    }
    world.signed("locked", OLD).await;
    drop(world.end().await);
}

#[tokio::test]
async fn k04_a_deleted_key_signs_on_for_its_grace_and_not_longer() {
    let cases = || vec![case("gone"), case("never").without_key()];
    // An hour is the default.
    let world = World::serve(cases()).await;
    world.unchanged("never", "secret_missing").await;
    fs::remove_file(world.keys().join("gone")).unwrap();
    let told = world.secret("gone", Some("secret_missing")).await;
    assert_eq!(told["resolved"], true, "{told}");
    world.signed("gone", OLD).await;
    world.told("gone", "secret_missing").await;
    drop(world.end().await);
    for grace in ["2s", "0s"] {
        let world =
            World::serve_with(cases(), &Setup::flags(&format!("--secret-grace {grace}"))).await;
        world.signed("gone", OLD).await;
        fs::remove_file(world.keys().join("gone")).unwrap();
        let told = secret_as(&world, "gone", |secret| secret["resolved"] == false).await;
        assert_eq!(told["problem"]["code"], "secret_missing", "{told}");
        world.unchanged("gone", "secret_missing").await;
        // Another one, when it comes, signs at once.
        fs::write(world.keys().join("gone"), NEW).unwrap();
        until_signed(&world, "gone", NEW).await;
        assert!(world.end().await.contains("signing key given up"));
    }
}

#[tokio::test]
async fn k08_a_key_of_another_kind_is_told_and_the_one_before_does_not_outlive_its_grace() {
    if !has_openssl() {
        return;
    }
    let (rsa, public) = pair("genrsa 2048");
    let (ec, _) = pair("ecparam -name prime256v1 -genkey -noout");
    let cases = ["kind", "unfit"].map(|name| Case::new(name, of_alg("RS256"), &rsa));
    let world = World::serve_with(cases.to_vec(), &Setup::flags("--secret-grace 2s")).await;
    for case in ["kind", "unfit"] {
        world.signed_by(case, "RS256", &public).await;
    }
    // A good key takes the place of the one before, whatever it signs: tokens of the old algorithm are left alone from then on.
    replace(&world.keys().join("kind"), &ec);
    wait_until("the other key is told of", || async {
        (!world.findings("key_alg_mismatch").await.is_empty()).then_some(())
    })
    .await;
    world.unchanged("kind", "key_alg_mismatch").await;
    // One that is none leaves the one before in its place for its grace.
    replace(&world.keys().join("unfit"), public.as_bytes());
    let told = world.secret("unfit", Some("key_is_public")).await;
    assert_eq!(told["kind"], "RSA 2048", "{told}");
    let told = secret_as(&world, "unfit", |secret| secret["resolved"] == false).await;
    assert_eq!(told["problem"]["code"], "key_is_public", "{told}");
    world.unchanged("unfit", "key_is_public").await;
    drop(world.end().await);
}

/// A file that is mounted over another one, as the kubelet does it for `subPath`.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this process may not mount anything.
    fn over(file: &Path, content: &Path) -> Option<Self> {
        let done = Command::new("mount").arg("--bind").args([content, file]).output().ok()?;
        done.status.success().then(|| Self(file.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).output());
    }
}

#[tokio::test]
async fn k09_a_file_that_is_mounted_by_itself_is_used_with_a_warning_that_it_stays_as_it_is() {
    let world = World::serve(vec![case("plain"), case("mounted")]).await;
    let plain = world.secret("plain", None).await;
    assert_eq!(plain["note"], Value::Null, "a file that is no mount is read like any: {plain}");
    let content = world.dir.path().join("content");
    fs::write(&content, NEW).unwrap();
    set_mode(&content, 0o600);
    let Some(mounted) = Mounted::over(&world.keys().join("mounted"), &content) else {
        harness::notice("nothing may be mounted here, so that a subPath is not tried");
        return drop(world.end().await);
    };
    let told = secret_as(&world, "mounted", |secret| !secret["note"].is_null()).await;
    assert_eq!(told["note"]["code"], "secret_will_not_rotate", "{told}");
    until_signed(&world, "mounted", NEW).await;
    drop(mounted);
    assert!(world.end().await.contains("a change of the secret never reaches it"));
}

#[tokio::test]
async fn k13_a_key_that_everybody_may_read_is_told_of_and_refused_where_that_is_asked_for() {
    let path = "${{secret:kube/mounted}}";
    let cases = || vec![case("open"), case("mounted").without_key().with("secretPath", path)];
    for strict in [false, true] {
        let flags = if strict { "--strict-perms" } else { "" };
        let world = World::serve_with(cases(), &Setup::flags(flags)).await;
        // What the kubelet mounts everybody in the container may read, and that is no fault.
        let secret = world.dir.path().join("secrets/kube");
        fs::create_dir_all(secret.join("..2026")).unwrap();
        fs::write(secret.join("..2026/mounted"), NEW).unwrap();
        set_mode(&secret.join("..2026/mounted"), 0o644);
        symlink("..2026", secret.join("..data")).unwrap();
        until_signed(&world, "mounted", NEW).await;

        let file = world.keys().join("open");
        set_mode(&file, 0o644);
        if strict {
            let told = world.secret("open", Some("secret_world_readable")).await;
            assert!(told["problem"]["message"].as_str().unwrap().contains("mode 0644"), "{told}");
            set_mode(&file, 0o400);
            drop(world.secret("open", None).await);
        } else {
            let told = secret_as(&world, "open", |secret| !secret["note"].is_null()).await;
            assert_eq!(told["note"]["code"], "secret_world_readable", "{told}");
        }
        world.signed("open", OLD).await;
        drop(world.end().await);
    }
}

/// Whether these bytes are in a process's memory; `None` where it may not be looked at.
fn is_in_memory(pid: u32, bytes: &[u8]) -> Option<bool> {
    Some(memmem(&harness::memory::of(pid)?, bytes))
}

fn memmem(haystack: &[u8], needle: &[u8]) -> bool {
    let Some((first, _)) = needle.split_first() else { return true };
    let mut at = 0;
    while let Some(next) = haystack[at..].iter().position(|byte| byte == first) {
        at += next;
        if haystack[at..].starts_with(needle) {
            return true;
        }
        at += 1;
    }
    false
}

#[tokio::test]
async fn k14_a_key_that_is_used_no_more_is_in_memory_no_more() {
    let secret = |word: &str| {
        format!("{word} of a secret, long enough for HS256, and only here").into_bytes()
    };
    let (old, new) = (secret("the first canary"), secret("the second canary"));
    let world = World::serve(vec![Case::new("dropped", of_alg("HS256"), &old)]).await;
    world.signed("dropped", &old).await;
    let pid = world.responder.id();
    match is_in_memory(pid, &old) {
        None => {
            harness::notice(
                "another process's memory may not be read here, so that it is not searched",
            );
            return drop(world.end().await);
        }
        // Templates may put a secret into an answer, so that its text is kept while it is used: the search finds what is there.
        Some(found) => assert!(found, "the search does not find the key that is used"),
    }
    replace(&world.keys().join("dropped"), &new);
    until_signed(&world, "dropped", &new).await;
    wait_until("the first one is gone", || async {
        (is_in_memory(pid, &old) == Some(false)).then_some(())
    })
    .await;
    assert_eq!(is_in_memory(pid, &new), Some(true));
    drop(world.end().await);
}
