//! Recordings that break off, come twice, hold damage, unfold, are too large, or say what no server may send.

mod archive;
mod quotas;
mod upload;

use std::path::PathBuf;

use countersign_proto::discovery::v1::{
    Hello, SubscribeRequest, discovery_service_client::DiscoveryServiceClient,
    subscribe_request::Message as Say,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use self::archive::{Entry, million_entries, zip};
use super::*;

const PROJECT: &str = "projects/default";

/// Lines of so many pairs.
fn lines(count: usize) -> String {
    (0..count)
        .map(|nth| recording::line("GET", &format!("/n/{nth}"), &json!({"n": nth})) + "\n")
        .collect()
}

/// A pair of JSON with something of its own in it.
fn pair(edit: impl FnOnce(&mut Value)) -> Value {
    let line = recording::line("GET", "/pair", &json!({"a": 1}));
    let mut pair = serde_json::from_str(&line).unwrap_or_default();
    edit(&mut pair);
    pair
}

impl World {
    /// Imports a file of this name and content.
    fn import(&self, name: &str, content: impl AsRef<[u8]>, more: &[&str]) -> Finished {
        let file = self.dir.path().join(name);
        fs::write(&file, content).unwrap();
        let id = name.split('.').next().unwrap();
        let arguments =
            ["snapshot", "import", &file.to_string_lossy(), "--id", id, "--output", "json"];
        self.cli(&[&arguments, more].concat())
    }

    /// What is known of a snapshot; nothing when there is none.
    fn snapshot(&self, id: &str) -> Option<Value> {
        let shown = self.cli(&["snapshot", "show", id, "--output", "json"]);
        (shown.code() == 0).then(|| serde_json::from_str(&shown.stdout()).unwrap())
    }

    /// What a lenient import found, by code and place.
    fn report(&self, name: &str, content: impl AsRef<[u8]>) -> Value {
        let out = self.import(name, content, &[]).ok();
        serde_json::from_str::<Value>(&out.stdout()).unwrap()["report"].clone()
    }

    /// Asserts that a strict import is refused for this, at this place, and that nothing is left of it.
    fn refuses_recording(
        &self,
        name: &str,
        content: impl AsRef<[u8]>,
        (code, place): (&str, &str),
    ) {
        let out = self.import(name, content, &["--strict"]);
        assert_eq!(out.code(), 2, "{name}: {}", out.text());
        let text = out.text();
        assert!(text.contains(&format!("[{code}]")), "{name}: no {code} in {text}");
        assert!(text.contains(place), "{name}: no {place} in {text}");
        let id = name.split('.').next().unwrap();
        assert_eq!(self.snapshot(id), None, "{name} is stored");
    }

    /// The files of uploads that are not committed.
    fn staged(&self) -> Vec<PathBuf> {
        let snapshots = fs::read_dir(self.dir.path().join("data/staging")).unwrap();
        let uploads = snapshots.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap());
        uploads.map(|upload| upload.unwrap().path()).collect()
    }
}

#[tokio::test]
async fn s01_an_upload_that_breaks_off_anywhere_shows_nothing_and_can_be_begun_again() {
    let world = World::serve(Vec::new()).await;
    let recording = lines(200);
    let mut uploads = world.uploads().await;
    for cut in [1, 100, recording.len() / 2, recording.len() - 1] {
        let id = format!("cut{cut}");
        uploads.create(&id).await;
        uploads.send(&id, &recording.as_bytes()[..cut], 1000).await.unwrap();
        let shown = world.snapshot(&id).unwrap();
        assert_eq!((&shown["state"], &shown["manifest"]), (&json!("IMPORTING"), &Value::Null));
        let early = world.cli(&["replay", "start", &id]);
        assert_eq!(early.code(), 2, "{}", early.text());
        assert!(early.text().contains("still being imported"), "{}", early.text());
    }
    // What is durable is kept, so that an upload can go on; a new one of the whole takes its place.
    assert_eq!(world.staged().len(), 4);
    for cut in [1, 100, recording.len() / 2, recording.len() - 1] {
        let out = world.import(&format!("cut{cut}.jsonl"), &recording, &[]).ok();
        let snapshot: Value = serde_json::from_str(&out.stdout()).unwrap();
        assert_eq!(snapshot["report"]["imported"], 200, "{snapshot}");
    }
    // The command itself, killed while it is at it.
    let file = world.dir.path().join("killed.jsonl");
    fs::write(&file, lines(5_000)).unwrap();
    let words = [
        "--server",
        &world.server,
        "snapshot",
        "import",
        &file.to_string_lossy(),
        "--id",
        "killed",
    ];
    let mut command = Process::start("countersign", words);
    wait_until("it has begun", || async { world.snapshot("killed").map(drop) }).await;
    command.kill();
    // What it had sent may be committed all the same meanwhile, in which case another import is refused; sooner or later it is there, whole and once.
    wait_until("it is imported", || async {
        drop(world.cli(&["snapshot", "import", &file.to_string_lossy(), "--id", "killed"]));
        let shown = world.snapshot("killed")?;
        (shown["state"] == "READY").then(|| assert_eq!(shown["pairCount"], 5_000, "{shown}"))
    })
    .await;
    assert_eq!(world.staged(), Vec::<PathBuf>::new(), "the space is free again");
    drop(world.end().await);
}

#[tokio::test]
async fn s02_what_is_uploaded_or_committed_twice_is_there_once() {
    let world = World::serve(Vec::new()).await;
    let recording = lines(50);
    let mut uploads = world.uploads().await;
    uploads.create("twice").await;
    // The second one is what a client does that has not heard of the first.
    for _ in 0..2 {
        let durable = uploads.send("twice", recording.as_bytes(), 4_000).await.unwrap();
        assert_eq!(usize::try_from(durable).unwrap(), recording.len().div_ceil(4_000));
    }
    let first = uploads.commit("twice").await.unwrap();
    let second = uploads.commit("twice").await.unwrap();
    assert_eq!((first.pair_count, &first.etag), (50, &second.etag));
    assert_eq!(first.manifest, second.manifest);
    let late = uploads.send("twice", recording.as_bytes(), 4_000).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition);
    assert_eq!(late.get_details_error_info().unwrap().reason, "SNAPSHOT_COMMITTED");
    // The same content has the same address under any name.
    let out = world.import("other.jsonl", recording, &[]).ok();
    let other: Value = serde_json::from_str(&out.stdout()).unwrap();
    assert_eq!(other["manifest"], world.snapshot("twice").unwrap()["manifest"]);
    drop(world.end().await);
}

#[tokio::test]
async fn s03_one_bad_record_among_many_is_told_by_number_and_byte_and_costs_itself_only() {
    let world = World::serve(Vec::new()).await;
    let (before, after) = (lines(2_500), lines(2_499));
    let bad = r#"{"msgType":"rrpair","http":{"req":{"method":"GET","url":"/x"},"res":{"statusCode":"many"}}}"#;
    let recording = format!("{before}{bad}\n{after}");
    let place = format!("strict.jsonl:2501 (record 2501, byte {})", before.len());
    world.refuses_recording("strict.jsonl", &recording, ("invalid_field", &place));
    let report = world.report("lenient.jsonl", &recording);
    assert_eq!((&report["imported"], &report["refused"]), (&json!(4_999), &json!(1)), "{report}");
    let found = &report["findings"][0];
    assert_eq!((&found["record"], &found["byteOffset"]), (&json!(2501), &json!(before.len())));
    assert_eq!(
        (&found["code"], &found["fieldPath"]),
        (&json!("invalid_field"), &json!("http.res.statusCode"))
    );
    // In one line there are no line numbers to go by.
    let one: Vec<String> = lines(3).lines().map(str::to_owned).collect();
    let array = format!("[{},{bad},{}]", one[0], one[1]);
    let found = world.report("array.json", &array)["findings"][0].clone();
    assert_eq!((&found["record"], &found["byteOffset"]), (&json!(2), &json!(one[0].len() + 2)));
    drop(world.end().await);
}

#[tokio::test]
async fn s04_what_unfolds_without_measure_or_is_packed_otherwise_is_refused() {
    let world = World::serve(Vec::new()).await;
    let good = || Entry::file("raw.jsonl", lines(3));
    // Zeros are packed a thousand times over.
    let bomb = zip(&[good(), Entry::file("zeros.jsonl", vec![0; 64 * 1024 * 1024])]);
    assert!(bomb.len() < 1024 * 1024, "{}", bomb.len());
    world.refuses_recording("bomb.zip", &bomb, ("limit_exceeded", "bomb.zip/zeros.jsonl"));
    let nested = zip(&[good(), Entry::file("inner.zip", bomb)]);
    world.refuses_recording("nested.zip", nested, ("archive_unsafe_entry", "nested.zip/inner.zip"));
    let sound = zip(&[good()]);
    world.refuses_recording("cut.zip", &sound[..sound.len() - 40], ("archive_damaged", "cut.zip"));
    let mut wrong = sound.clone();
    // The checksum in the directory.
    let directory = wrong.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    wrong[directory + 16] ^= 1;
    world.refuses_recording("checksum.zip", wrong, ("archive_damaged", "checksum.zip/raw.jsonl"));
    // Streams of gzip and zstd are no recordings: nothing of them is unfolded.
    for (name, magic) in
        [("raw.jsonl.gz", &b"\x1f\x8b\x08\0"[..]), ("raw2.zst", b"\x28\xb5\x2f\xfd")]
    {
        let packed = [magic, &[0; 64]].concat();
        world.refuses_recording(name, packed, ("packed_file", name));
    }
    assert_eq!(world.report("sound.zip", sound)["imported"], 3);
    drop(world.end().await);
}

#[tokio::test]
async fn s05_entries_that_would_be_written_elsewhere_are_refused_by_their_escaped_names() {
    let world = World::serve(Vec::new()).await;
    let line = || lines(1);
    let bad = [
        ("up", "../../up.jsonl", 0o100_644, "up.zip/../../up.jsonl"),
        ("absolute", "/etc/cron.d/x.jsonl", 0o100_644, "absolute.zip//etc/cron.d/x.jsonl"),
        ("drive", "C:\\x.jsonl", 0o100_644, "drive.zip/C:/x.jsonl"),
        ("back", "..\\..\\x.jsonl", 0o100_644, "back.zip/../../x.jsonl"),
        ("link", "passwd.jsonl", 0o120_777, "link.zip/passwd.jsonl"),
        ("device", "null.jsonl", 0o020_666, "device.zip/null.jsonl"),
        ("screen", "../\u{1b}[2J.jsonl", 0o100_644, "screen.zip/../\u{fffd}[2J.jsonl"),
    ];
    for (id, name, mode, shown) in bad {
        let file =
            zip(&[Entry::file("raw.jsonl", line()), Entry::file(name, line()).of_mode(mode)]);
        world.refuses_recording(&format!("{id}.zip"), &file, ("archive_unsafe_entry", shown));
        // What is sound beside it is taken, if not all has to be.
        let report = world.report(&format!("{id}2.zip"), file);
        assert_eq!(
            (&report["imported"], &report["refused"]),
            (&json!(1), &json!(1)),
            "{id}: {report}"
        );
    }
    let twice = zip(&[Entry::file("raw.jsonl", line()), Entry::file("raw.jsonl", line())]);
    world.refuses_recording("twice.zip", twice, ("archive_unsafe_entry", "twice.zip/raw.jsonl"));
    let mut places = zip(&[Entry::file("raw.jsonl", line())]);
    let end = places.len() - 6;
    places[end..end + 4].copy_from_slice(&7_u32.to_le_bytes());
    world.refuses_recording("places.zip", places, ("archive_damaged", "places.zip"));
    // More entries than the usual form can count: the form that can is refused by its number before any is looked at.
    let many = million_entries();
    world.refuses_recording("many.zip", many, ("limit_exceeded", "many.zip"));
    drop(world.end().await);
}

#[tokio::test]
async fn s06_large_deep_and_odd_text_is_read_within_bounds_and_bytes_stay_as_they_are() {
    let world = World::serve(Vec::new()).await;
    let (before, _) = memory(world.plane.id());
    let body = |text: &str| {
        format!(
            r#"{{"msgType":"rrpair","http":{{"req":{{"method":"GET","url":"/x"}},"res":{{"statusCode":200,"body":{text}}}}}}}"#
        )
    };
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    world.refuses_recording("deep.jsonl", body(&deep), ("limit_exceeded", "deep.jsonl:1"));
    let har = format!(r#"{{"log":{{"entries":[{{"x":{deep}}}]}}}}"#);
    world.refuses_recording(
        "deephar.har",
        har,
        ("limit_exceeded", "deephar.har:1 (record 1, byte 19)"),
    );
    let long = "x".repeat(70 * 1024 * 1024);
    world.refuses_recording(
        "long.jsonl",
        body(&format!("\"{long}\"")),
        ("limit_exceeded", "long.jsonl:1"),
    );
    let zeros = format!("\"[{}0]\"", "0,".repeat(5_000_000));
    assert_eq!(world.report("zeros.jsonl", body(&zeros))["imported"], 1);
    // 64 MiB, and twice the largest record that is held.
    let (_, most) = memory(world.plane.id());
    assert!(most < before + (64 + 2 * 64) * 1024 * 1024, "{before} bytes became {most}");
    let mut invalid = body("\"@\"").into_bytes();
    let at = invalid.iter().position(|byte| *byte == b'@').unwrap();
    invalid[at] = 0xff;
    world.refuses_recording("utf8.jsonl", invalid, ("invalid_utf8", "utf8.jsonl:1"));
    world.refuses_recording("lone.jsonl", body("\"\\ud800\""), ("invalid_field", "http.res.body"));
    world.refuses_recording("nul.jsonl", body("\"\0\""), ("not_json", "nul.jsonl:1"));
    // In base64 any bytes come, and go out again.
    let bytes: Vec<u8> = (0..=255).chain([0xed, 0xa0, 0x80, 0]).collect();
    let binary = pair(|pair| {
        pair["http"]["res"]["bodyBase64"] =
            json!(base64::engine::general_purpose::STANDARD.encode(&bytes));
    });
    let served = World::serve(vec![Case::of_line("pair", binary.to_string())]).await;
    assert_eq!(served.client.get("/pair").await.body, bytes);
    drop(served.end().await);
    drop(world.end().await);
}

#[tokio::test]
async fn s08_fields_that_could_not_be_sent_are_refused_with_their_record_and_the_rest_is_normalised()
 {
    let world = World::serve(Vec::new()).await;
    let with = |side: &str, name: &str, value: &str| {
        pair(|pair| pair["http"][side]["headers"][name] = json!([value]))
    };
    let status = |status: i64| pair(|pair| pair["http"]["res"]["statusCode"] = json!(status));
    let many = pair(|pair| {
        let fields = (0..10_000).map(|nth| (format!("X-{nth}"), json!(["1"])));
        pair["http"]["res"]["headers"] = Value::Object(fields.collect());
    });
    let bad = [
        (with("res", "X\r\nSet-Cookie", "a"), "header_invalid", "http.res.headers"),
        (with("req", "X:Y", "a"), "header_invalid", "http.req.headers"),
        (with("res", "X Y", "a"), "header_invalid", "http.res.headers"),
        (with("res", "X", "a\r\nSet-Cookie: b"), "header_invalid", "http.res.headers.X"),
        (status(99), "invalid_field", "http.res.statusCode"),
        (status(1000), "invalid_field", "http.res.statusCode"),
        (status(-200), "invalid_field", "http.res.statusCode"),
        (many, "limit_exceeded", "http.res.headers"),
        (
            pair(|pair| pair["http"]["req"]["method"] = json!("G T")),
            "invalid_field",
            "http.req.method",
        ),
        (
            pair(|pair| pair["http"]["req"]["uri"] = json!("/a\r\nb")),
            "invalid_field",
            "http.req.url",
        ),
    ];
    let text: String = bad.iter().map(|(pair, ..)| format!("{pair}\n")).collect();
    let report = world.report("bad.jsonl", format!("{text}{}", lines(1)));
    let found = report["findings"].as_array().unwrap();
    assert_eq!((&report["imported"], found.len()), (&json!(1), bad.len()), "{report}");
    for (nth, (found, (_, code, path))) in found.iter().zip(&bad).enumerate() {
        assert_eq!((&found["code"], &found["fieldPath"]), (&json!(code), &json!(path)), "{nth}");
        assert_eq!(found["record"], json!(nth + 1), "{found}");
    }
    // Names are compared without their case, and sent in lower case; what lasted less than nothing takes no time.
    let odd = pair(|pair| {
        pair["http"]["req"]["version"] = json!("2.0");
        pair["http"]["res"]["headers"]["X-Upper"] = json!(["kept"]);
        pair["duration"] = json!(-5_000);
    });
    let served = World::serve(vec![Case::of_line("pair", odd.to_string())]).await;
    let answer = served.client.get("/pair").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["x-upper"]),
        (200, &"kept".parse().unwrap())
    );
    drop(served.end().await);
    drop(world.end().await);
}

#[tokio::test]
async fn s09_answers_that_no_server_may_send_are_sent_in_a_form_that_desynchronises_nobody() {
    let of = |name: &str, edit: &dyn Fn(&mut Value)| {
        let line = recording::line("GET", &format!("/{name}"), &json!("hello"));
        let mut pair: Value = serde_json::from_str(&line).unwrap();
        edit(&mut pair);
        Case::of_line(name, pair.to_string())
    };
    let fields = |pair: &mut Value, fields: &[(&str, &str)]| {
        for (name, value) in fields {
            pair["http"]["res"]["headers"][*name] = json!([value]);
        }
    };
    let world = World::serve(vec![
        of("head", &|pair| pair["http"]["req"]["method"] = json!("HEAD")),
        of("empty", &|pair| pair["http"]["res"]["statusCode"] = json!(204)),
        of("same", &|pair| pair["http"]["res"]["statusCode"] = json!(304)),
        of("length", &|pair| fields(pair, &[("Content-Length", "3")])),
        of("both", &|pair| {
            fields(pair, &[("Content-Length", "3"), ("Transfer-Encoding", "chunked")]);
        }),
    ])
    .await;
    let data = world.client.server();
    for (method, case, status, body) in [
        ("HEAD", "head", "200", ""),
        ("GET", "empty", "204", ""),
        ("GET", "same", "304", ""),
        ("GET", "length", "200", "\"hello\""),
        ("GET", "both", "200", "\"hello\""),
    ] {
        let ask = |method: &str, path: &str, more: &str| {
            format!("{method} {path} HTTP/1.1\r\nHost: api.example\r\n{more}\r\n")
        };
        // What a client takes for the next answer has to be the next answer.
        let asked =
            ask(method, &format!("/{case}"), "") + &ask("GET", "/probe", "Connection: close\r\n");
        let mut stream = TcpStream::connect(data).await.unwrap();
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        let (head, rest) = answers.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {head}");
        let head = head.to_ascii_lowercase();
        assert!(!head.contains("transfer-encoding"), "{case}: {head}");
        assert!(head.matches("content-length").count() <= 1, "{case}: {head}");
        let next = rest.strip_prefix(body).unwrap_or_default();
        assert!(
            next.starts_with("HTTP/1.1 200 ") && next.contains("access_token"),
            "{case}: {rest}"
        );
    }
    let report = world.snapshot("all").unwrap()["report"].clone();
    let codes = |code: &str| {
        report["findings"].as_array().unwrap().iter().filter(|found| found["code"] == code).count()
    };
    assert_eq!((codes("body_not_served"), codes("length_not_served")), (3, 2), "{report}");
    drop(world.end().await);
}

#[tokio::test]
async fn s10_equal_requests_are_answered_in_recorded_order_and_shown_as_several() {
    let of = |nth: u32| {
        let mut pair = pair(|_| {});
        pair["ts"] = json!(format!("2024-01-02T03:04:0{nth}Z"));
        let body = json!({"n": nth}).to_string();
        pair["http"]["res"]["bodyBase64"] =
            json!(base64::engine::general_purpose::STANDARD.encode(body));
        Case::of_line("pair", pair.to_string())
    };
    // The order of time, not that of the file.
    let world = World::serve(vec![of(3), of(1), of(2)]).await;
    let arguments = ["snapshot", "explain", "all", "http://api.example/pair", "--output", "json"];
    let explained: Value = serde_json::from_str(&world.cli(&arguments).ok().stdout()).unwrap();
    assert_eq!(
        (explained["candidates"].as_array().unwrap().len(), &explained["chosen"]),
        (3, &json!(0))
    );
    let told = explained["narrowing"].as_str().unwrap();
    assert!(told.contains("all 3 recorded pairs of this signature take turns"), "{told}");
    for expected in [1, 2, 3, 1, 2] {
        assert_eq!(world.client.get("/pair").await.json()["n"], expected);
    }
    drop(world.end().await);
}

#[tokio::test]
async fn s11_an_export_of_an_import_of_an_export_is_the_same_bytes() {
    let world = World::serve(Vec::new()).await;
    let imported = |name: &str, content: &str| {
        let out = world.import(name, content, &[]).ok();
        serde_json::from_str::<Value>(&out.stdout()).unwrap()["manifest"].clone()
    };
    let exported = |id: &str| world.cli(&["snapshot", "export", id, "--out", "-"]).ok().stdout();
    let odd = pair(|pair| pair["unknown"] = json!({"kept": [1.5, "\u{202e}"]}));
    let manifest = imported("first.jsonl", &format!("{}{odd}\n", lines(20)));
    let first = exported("first");
    assert_eq!(imported("second.jsonl", &first), manifest);
    assert_eq!(exported("second"), first);
    assert_eq!(first.lines().count(), 21);
    drop(world.end().await);
}

#[tokio::test]
async fn s12_a_layout_that_is_newer_than_a_node_reads_is_refused_with_both_numbers() {
    let world = World::serve(Vec::new()).await;
    let mut client = DiscoveryServiceClient::connect(world.server.clone()).await.unwrap();
    let hello = Hello {
        responder: "old".into(),
        project: PROJECT.into(),
        max_schema: 1,
        ..Hello::default()
    };
    let said = tokio_stream::iter([SubscribeRequest { message: Some(Say::Hello(hello)) }]);
    let refused = match client.subscribe(said).await {
        Err(refused) => refused,
        Ok(heard) => heard.into_inner().message().await.unwrap_err(),
    };
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert_eq!(refused.get_details_error_info().unwrap().reason, "SCHEMA_TOO_OLD");
    let told = refused.message();
    assert!(
        told.contains("layout 2") && told.contains("up to 1") && told.contains("upgrade"),
        "{told}"
    );
    // Recordings of a version that is not known are not read in half either.
    let newer = json!({"meta": {"schemaVersion": "v7"}, "data": {"pairs": []}});
    let out = world.import("newer.json", newer.to_string(), &["--strict"]);
    assert!(out.code() == 2 || out.text().contains("v7"), "{}", out.text());
    drop(world.end().await);
}
