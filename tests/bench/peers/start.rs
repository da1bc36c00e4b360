//! Starting peers with the stubs, tuned as their own documents advise: no journal, no verbose log, keep-alive.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    STUBS,
    install::{Place, on_path},
};
use crate::{
    http::{
        ask::{Ask, stub},
        stage,
    },
    server::{self, Server},
};

/// What the one listener of a peer is called.
pub(super) const LISTENER: &str = "peer";
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn wiremock(place: &Place) -> anyhow::Result<Server> {
    let jar = place.wiremock()?;
    let root = place.file("wiremock-root");
    fs::create_dir_all(root.join("mappings"))?;
    let mapping = |nth: usize| {
        json!({
            "request": {"method": "GET", "urlPath": "/api/v1/items", "queryParameters": {"id": {"equalTo": nth.to_string()}}},
            "response": {"status": 200, "headers": {"Content-Type": "application/json"}, "body": stub(nth).to_string()}
        })
    };
    let all: Vec<Value> = (0..STUBS).map(mapping).collect();
    fs::write(root.join("mappings/all.json"), json!({"mappings": all}).to_string())?;
    let port = free_port()?;
    let arguments = [
        "-jar",
        &stage::text(&jar),
        "--port",
        &port.port().to_string(),
        "--root-dir",
        &stage::text(&root),
        "--no-request-journal",
        "--disable-banner",
        "--use-chunked-encoding",
        "never",
    ];
    start(&on_path("java").context("there is no java")?, &arguments, port)
}

pub(super) fn mountebank(place: &Place) -> anyhow::Result<Server> {
    let script = place.mountebank()?;
    let stub = |nth: usize| {
        let body = stub(nth).to_string();
        json!({
            "predicates": [{"equals": {"method": "GET", "path": "/api/v1/items", "query": {"id": nth.to_string()}}}],
            "responses": [{"is": {"statusCode": 200, "body": body,
                "headers": {"Content-Type": "application/json", "Connection": "keep-alive", "Content-Length": body.len()}}}]
        })
    };
    let (admin, port) = (free_port()?, free_port()?);
    let stubs: Vec<Value> = (0..STUBS).map(stub).collect();
    let imposter =
        json!({"port": port.port(), "protocol": "http", "recordRequests": false, "stubs": stubs});
    let config = place.file("mountebank.json");
    fs::write(&config, json!({"imposters": [imposter]}).to_string())?;
    let (config, pid) = (stage::text(&config), stage::text(&place.file("mb.pid")));
    let admin = admin.port().to_string();
    let script = stage::text(&script);
    let arguments = [
        &*script,
        "start",
        "--port",
        &admin,
        "--configfile",
        &config,
        "--pidfile",
        &pid,
        "--nologfile",
        "--loglevel",
        "error",
    ];
    start(&on_path("node").context("there is no Node.js")?, &arguments, port)
}

pub(super) fn hoverfly(place: &Place) -> anyhow::Result<Server> {
    let program = place.hoverfly()?;
    let exact = |value: &str| json!([{"matcher": "exact", "value": value}]);
    let pair = |nth: usize| {
        json!({
            "request": {"method": exact("GET"), "path": exact("/api/v1/items"), "query": {"id": exact(&nth.to_string())}},
            "response": {"status": 200, "body": stub(nth).to_string(), "encodedBody": false, "headers": {"Content-Type": ["application/json"]}}
        })
    };
    let pairs: Vec<Value> = (0..STUBS).map(pair).collect();
    let simulation = json!({
        "data": {"pairs": pairs, "globalActions": {"delays": []}},
        "meta": {"schemaVersion": "v5"}
    });
    let file = place.file("hoverfly.json");
    fs::write(&file, simulation.to_string())?;
    let (admin, port) = (free_port()?, free_port()?);
    let (admin, number) = (admin.port().to_string(), port.port().to_string());
    let file = stage::text(&file);
    let arguments = [
        "-webserver",
        "-pp",
        &number,
        "-ap",
        &admin,
        "-import",
        &file,
        "-log-level",
        "error",
        "-journal-size",
        "0",
        "-cache-size",
        "2000",
    ];
    start(&program, &arguments, port)
}

pub(super) fn nginx(place: &Place) -> anyhow::Result<Server> {
    use std::fmt::Write as _;
    let program = on_path("nginx").context("there is no nginx (apt-get install nginx-light)")?;
    let port = free_port()?;
    let mut bodies = String::new();
    for nth in 0..STUBS {
        writeln!(bodies, "        {nth} '{}';", stub(nth))?;
    }
    let config = format!(
        "daemon off;\nmaster_process off;\npid {};\nerror_log stderr crit;\nworker_rlimit_nofile 4096;\nevents {{ worker_connections 2048; }}\n\
         http {{\n    access_log off;\n    keepalive_requests 100000000;\n    default_type application/json;\n    map_hash_bucket_size 1024;\n    \
         map_hash_max_size 8192;\n    map $arg_id $found {{\n{bodies}    }}\n    server {{\n        listen {port};\n        \
         location = /api/v1/items {{ return 200 $found; }}\n    }}\n}}\n",
        stage::text(&place.file("nginx.pid"))
    );
    let file = place.file("nginx.conf");
    fs::write(&file, config)?;
    start(&program, &["-p", &stage::text(&place.file("")), "-c", &stage::text(&file)], port)
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Starts a peer and waits until it answers as it should.
fn start(program: &Path, arguments: &[&str], port: SocketAddr) -> anyhow::Result<Server> {
    let command = server::pinned(server::SERVER_CORE, program);
    let server = Server::silent(command, arguments, (LISTENER, port))?;
    let mut request = Vec::new();
    Ask::Stub.write(STUBS - 1, &mut request)?;
    let begin = Instant::now();
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    clock.block_on(async {
        let mut look = tokio::time::interval(Duration::from_millis(200));
        loop {
            look.tick().await;
            match stage::fetch(port, &request) {
                Ok(_) => return Ok(server),
                Err(why) if begin.elapsed() > PATIENCE => {
                    return Err(why).context("it does not answer");
                }
                Err(_) => {}
            }
        }
    })
}
