//! Files of keys that are torn, of the wrong kind, somewhere else, or replaced; `lost` has those that are gone or open to others.

mod lost;

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use harness::{
    has_openssl, python,
    rotation::{self, Verifier},
};

use super::*;

const OLD: &[u8] = b"the first secret, long enough for HS256";
const NEW: &[u8] = b"the second secret, long enough for HS256";

fn case(name: &str) -> Case {
    Case::new(name, of_alg("HS256"), OLD)
}

/// Waits until a case is signed with this secret.
async fn until_signed(world: &World, name: &str, secret: &[u8]) {
    wait_until(&format!("{name} is signed with the other key"), || async {
        verifies(&world.token(name).await, secret).then_some(())
    })
    .await;
}

#[tokio::test]
async fn k01_a_switched_mount_never_mixes_generations() {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("secrets");
    rotation::mount(&secrets, 0);
    rotation::write_recording(dir.path());
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let grpc = plane.address("grpc").await;
    let server = format!("http://{grpc}");
    let times = ["--key-overlap", "2s", "--key-grace", "60s"];
    let own = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--name", "r"];
    let from = ["--control-plane", &server, "--secret-dir", &path("secrets")];
    let mut responder = Process::start("countersign-responder", [&own[..], &from, &times].concat());
    let data = responder.address("data").await;
    for arguments in [
        &["snapshot", "import", &path("all.jsonl"), "--id", "all"][..],
        &["transform", "put", &path("t.json")],
        &["replay", "start", "all", "--transform", "t", "--wait"],
    ] {
        drop(process::run("countersign", ["--server", &server].iter().chain(arguments)).ok());
    }
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    // Keeps a key set for less than the overlap, as docs/tokens.md asks for.
    let client = Verifier::new(data, Duration::from_secs(1));
    let client = tokio::spawn(client.run(move || end.load(Ordering::Relaxed)));
    let admin = Client::new(responder.address("admin").await);
    let generation = async || {
        let status = admin.get("/status").await.json();
        status["secrets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["generation"].as_u64())
            .max()
            .unwrap()
    };
    let signer = async || {
        let token = rotation::login(&Client::new(data), "RS256").await;
        jsonwebtoken::decode_header(token).unwrap().kid
    };
    for nth in 1..=3 {
        let (before, signed) = (generation().await, signer().await);
        rotation::prepare(&secrets, nth);
        rotation::switch(&secrets, nth);
        // A key is replaced twice: published, and then signing.
        wait_until("the next keys sign", || async {
            let now = generation().await;
            // Where time is short, tokens whose signatures take long are signed anew a little later.
            let is_next = now >= before.map(|before| before + 2) && signer().await != signed;
            is_next.then_some(())
        })
        .await;
    }
    ended.store(true, Ordering::Relaxed);
    let tally = client.await.unwrap();
    assert!(tally.refused.is_empty(), "{:?}", tally.refused);
    assert!(tally.fresh > 20 && tally.kids.values().all(|kids| kids.len() >= 3), "{tally:?}");
    assert!(responder.terminate().await.success());
}

#[tokio::test]
async fn k02_a_half_written_file_does_not_replace_a_good_key() {
    if !has_openssl() {
        return;
    }
    let (key, public) = pair("ecparam -name prime256v1 -genkey -noout");
    let (next, next_public) = pair("ecparam -name prime256v1 -genkey -noout");
    let world = World::serve(vec![Case::new("half", of_alg("ES256"), &key)]).await;
    world.signed_by("half", "ES256", &public).await;
    fs::write(world.keys().join("half"), &next[..next.len() / 2]).unwrap();
    let told = world.secret("half", Some("key_malformed")).await;
    assert_eq!(told["resolved"], true, "{told}");
    world.signed_by("half", "ES256", &public).await;
    world.told("half", "key_malformed").await;
    fs::write(world.keys().join("half"), &next).unwrap();
    drop(world.secret("half", None).await);
    wait_until("the whole key signs", || async {
        let ask = python::Ask {
            token: world.token("half").await,
            key: next_public.clone(),
            alg: "ES256".into(),
        };
        python::verify(&[ask])[0].is_ok().then_some(())
    })
    .await;
    drop(world.end().await);
}

#[tokio::test]
async fn k05_what_is_no_regular_file_of_bounded_size_is_not_read() {
    let names = ["directory", "fifo", "socket", "device", "large"];
    let world = World::serve(names.map(|name| case(name).without_key()).to_vec()).await;
    let at = |name: &str| world.keys().join(name);
    fs::create_dir(at("directory")).unwrap();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    symlink("/dev/zero", at("device")).unwrap();
    fs::File::create(at("large")).unwrap().set_len(2 << 30).unwrap();
    for (name, code) in [
        ("directory", "secret_wrong_type"),
        ("fifo", "secret_wrong_type"),
        ("socket", "secret_wrong_type"),
        // It leads outside before it is a device.
        ("device", "secret_path_escape"),
        ("large", "secret_too_large"),
    ] {
        drop(world.secret(name, Some(code)).await);
        world.unchanged(name, code).await;
    }
    drop(socket);
    drop(world.end().await);
}

#[tokio::test]
async fn k06_links_that_lead_outside_are_not_followed() {
    let names = ["absolute", "up", "magic", "inside"];
    let world = World::serve(names.map(|name| case(name).without_key()).to_vec()).await;
    let outside = world.dir.path().join("outside");
    fs::write(&outside, NEW).unwrap();
    let at = |name: &str| world.keys().join(name);
    symlink(&outside, at("absolute")).unwrap();
    symlink("../../outside", at("up")).unwrap();
    symlink("/proc/self/root/etc/passwd", at("magic")).unwrap();
    fs::write(at("real"), OLD).unwrap();
    symlink("real", at("inside")).unwrap();
    for name in ["absolute", "up", "magic"] {
        drop(world.secret(name, Some("secret_path_escape")).await);
        world.unchanged(name, "secret_path_escape").await;
    }
    until_signed(&world, "inside", OLD).await;
    drop(world.end().await);
}

#[tokio::test]
async fn k07_names_that_could_lead_elsewhere_are_refused_at_upload() {
    let long = format!("a/{}", "x".repeat(300));
    let world = World::serve(Vec::new()).await;
    for path in [
        "..",
        "../x/y",
        ".",
        "a/..",
        "a/b/c",
        "a/",
        "/b",
        "/etc/passwd",
        "/home/speedscale/secret/../x/y",
        "a/%2e%2e",
        "a/b\u{0}",
        "a/b.\u{2024}",
        "a/b ",
        &long,
    ] {
        let chain = json!({"extractor": {"type": "res_body"}, "transforms": [
            {"type": "json_path", "config": {"path": "a"}},
            {"type": "jwt_resign", "config": {"secretPath": format!("${{{{secret:{path}}}}}")}}]});
        let file = world.dir.path().join("bad.json");
        fs::write(&file, json!({"id": "bad", "responder": [chain]}).to_string()).unwrap();
        let out = world.cli(&["transform", "validate", &file.to_string_lossy()]);
        // White space around a path is none of it.
        let expected = if path == "a/b " { 0 } else { 2 };
        assert_eq!(out.code(), expected, "{path:?}: {}", out.text());
        if expected == 2 {
            let says = "responder[0].transforms[1].config.secretPath";
            assert!(out.text().contains(says), "{path:?}: {}", out.text());
            assert!(out.text().contains("[secret_path_"), "{path:?}: {}", out.text());
        }
    }
    drop(world.end().await);
}

#[tokio::test]
async fn k10_no_event_is_needed_to_see_a_change() {
    // Files are read each second, whatever becomes of inotify: the responder has no watch at all.
    let world = World::serve(vec![case("polled")]).await;
    let watches = fs::read_dir(format!("/proc/{}/fd", world.responder.id())).unwrap();
    let names = watches.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().contains("inotify")));
    replace(&world.keys().join("polled"), NEW);
    until_signed(&world, "polled", NEW).await;
    drop(world.end().await);
}

#[tokio::test]
async fn k11_two_names_of_one_file_and_names_that_differ_in_case_are_independent() {
    let world = World::serve(vec![case("twin"), case("Twin"), case("link").without_key()]).await;
    fs::hard_link(world.keys().join("twin"), world.keys().join("link")).unwrap();
    until_signed(&world, "link", OLD).await;
    replace(&world.keys().join("twin"), NEW);
    until_signed(&world, "twin", NEW).await;
    for name in ["Twin", "link"] {
        world.signed(name, OLD).await;
    }
    drop(world.end().await);
}

#[tokio::test]
async fn k12_a_storm_of_changes_is_read_at_the_pace_of_the_poll() {
    let world = World::serve(vec![case("storm")]).await;
    let first = world.secret("storm", None).await["generation"].as_u64().unwrap();
    let begin = Instant::now();
    let mut written = 0_u64;
    while begin.elapsed() < Duration::from_secs(3) {
        let key = format!("secret number {written:04}, long enough for HS256");
        replace(&world.keys().join("storm"), key.as_bytes());
        written += 1;
    }
    replace(&world.keys().join("storm"), NEW);
    until_signed(&world, "storm", NEW).await;
    let last = world.secret("storm", None).await["generation"].as_u64().unwrap();
    assert!(written > 50, "{written} changes are no storm");
    // Each poll takes one at the most, and a few while it settles.
    assert!(last - first < written / 2, "{written} changes were read {} times", last - first);
    drop(world.end().await);
}

/// What everybody may be told of a world: pages, commands, and the answers to requests with a token.
async fn told(world: &World, shown: &str) -> String {
    let mut told = String::new();
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", format!("Bearer {shown}").parse().unwrap());
    for path in ["/hmac", "/nothing/like/it", "/rsa/but/not"] {
        let get = http::Method::GET;
        let answer = world.client.send(get, path, headers.clone(), Default::default()).await;
        if answer.status != 200 {
            told.push_str(&String::from_utf8_lossy(&answer.body));
        }
    }
    for page in ["/status", "/metrics", "/readyz", "/healthz", "/journal"] {
        told.push_str(&String::from_utf8_lossy(&world.admin.get(page).await.body));
    }
    for arguments in [
        &["replay", "status", "all"][..],
        &["replay", "list"],
        &["responder", "list"],
        &["snapshot", "show", "all"],
        &["snapshot", "tokens", "all"],
        &["transform", "get", "t"],
        &["transform", "suggest", "all"],
        &["snapshot", "explain", "all", "http://api.example/hmac"],
    ] {
        for output in ["table", "json"] {
            let flags = ["--output", output];
            told.push_str(&world.cli(&[arguments, &flags].concat()).text());
        }
    }
    told
}

/// A canary as it may be written.
fn forms(canary: &[u8]) -> Vec<String> {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let hex: String = canary.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        String::from_utf8_lossy(canary).into_owned(),
        STANDARD.encode(canary),
        URL_SAFE_NO_PAD.encode(canary),
        hex,
    ]
}

/// The files below a directory that hold a text.
fn holding(text: &str, dir: &Path) -> String {
    let dir = dir.to_string_lossy();
    let found = Command::new("grep").args(["-rlaF", "--", text, &dir]).output().unwrap();
    String::from_utf8(found.stdout).unwrap()
}

#[tokio::test]
async fn k14_keys_are_nowhere_and_recorded_signatures_are_told_to_nobody() {
    if !has_openssl() {
        return;
    }
    let (rsa, public) = pair("genrsa 2048");
    let secret: &[u8] = b"canary-of-an-hmac-secret-0123456789abcdef";
    let signature = URL_SAFE_NO_PAD.encode("a recorded signature that is nobody's business");
    let recorded = |alg: &str| {
        let whole = of_alg(alg);
        let (message, _) = whole.rsplit_once('.').unwrap();
        format!("{message}.{signature}")
    };
    let world = World::serve(vec![
        Case::new("rsa", recorded("RS256"), &rsa),
        Case::new("hmac", recorded("HS256"), secret),
        Case::new("broken", recorded("HS256"), &rsa),
    ])
    .await;
    world.signed_by("rsa", "RS256", &public).await;
    world.signed("hmac", secret).await;
    world.unchanged("broken", "key_alg_mismatch").await;
    let shown = told(&world, &recorded("HS256")).await;
    assert!(shown.contains("hmac") && shown.len() > 5_000, "much was told: {shown}");
    // What a process that crashes leaves: nothing.
    let pid = world.responder.id();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{limits}");
    // A line of the PEM in the middle of the key.
    let line = String::from_utf8(rsa).unwrap().lines().nth(9).unwrap().to_owned();
    let canaries: Vec<String> = [secret, line.as_bytes()].into_iter().flat_map(forms).collect();
    for canary in &canaries {
        for place in ["data", "cache"] {
            let found = holding(canary, &world.dir.path().join(place));
            assert_eq!(found, "", "{canary} is stored");
        }
    }
    // The searching finds what is there.
    assert_ne!(holding(&line, &world.keys()), "");
    let printed = format!("{shown}{}", world.end().await);
    for canary in canaries.iter().chain([&signature]) {
        assert!(!printed.contains(&**canary), "{canary} was told");
    }
}
