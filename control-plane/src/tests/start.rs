//! Starting and stopping, and why it is refused.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, time::Duration};

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::{config, pair, server};
use crate::{
    app,
    config::{Config, Timing, Ui},
    service::chain,
};

async fn refusal(config: Config) -> String {
    chain(&app::start(config).await.unwrap_err())
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = holder.local_addr().unwrap();
    let message = refusal(Config { listen, ..config(&dir) }).await;
    assert!(message.starts_with(&format!("address already in use: {listen}")), "{message}");
    assert!(!dir.path().join("data").exists(), "the data is left alone");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let timing = Timing { opening: Duration::from_millis(50), ..config.timing };
    let ui = Ui::At("127.0.0.1:0".parse().unwrap());
    let running = app::start(Config { timing, ui, ..config }).await.unwrap();
    for address in [running.addr(), running.ui_addr().unwrap()] {
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut heard = Vec::new();
        // Whatever it says before, it ends.
        drop(silent.read_to_end(&mut heard).await);
    }
    running.shutdown().await;
}

#[tokio::test]
async fn nobody_else_looks_into_what_is_stored() {
    let server = server().await;
    server.import("s", &[("a.jsonl", pair("OUT", "/a"))]).await;
    let data = server.dir.path().join("data");
    let (mut places, mut seen) = (vec![data.clone()], 0);
    while let Some(place) = places.pop() {
        let mode = fs::metadata(&place).unwrap().permissions().mode() & 0o777;
        let (is_dir, is_db) = (place.is_dir(), place.starts_with(data.join("meta.db")));
        assert!(!is_dir || mode == 0o700, "{} is {mode:o}", place.display());
        assert!(!is_db || mode == 0o600, "{} is {mode:o}", place.display());
        seen += usize::from(is_dir);
        if is_dir {
            places.extend(fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert!(seen > 4, "{seen}");
}

#[tokio::test]
async fn off_loopback_is_refused_unless_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let exposed = Config { listen: "0.0.0.0:0".parse().unwrap(), ..config(&dir) };
    let error = app::start(exposed.clone()).await.unwrap_err();
    assert!(error.is_config() && error.to_string().contains("--allow-insecure"), "{error}");
    app::start(Config { allow_insecure: true, ..exposed }).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn an_unusable_data_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::write(&data, "a file").unwrap();
    let message = refusal(config(&dir)).await;
    assert!(message.contains(data.to_str().unwrap()), "{message}");
    fs::remove_file(&data).unwrap();

    fs::create_dir(&data).unwrap();
    fs::write(
        data.join("meta.db"),
        "not a database at all, but long enough to be looked at as one".repeat(20),
    )
    .unwrap();
    let message = refusal(config(&dir)).await;
    assert!(message.contains("meta.db"), "{message}");
    fs::remove_file(data.join("meta.db")).unwrap();

    fs::set_permissions(&data, fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write anywhere.
    if fs::write(data.join("probe"), "").is_err() {
        let message = refusal(config(&dir)).await;
        assert!(
            message.contains("Permission denied") && message.contains(data.to_str().unwrap()),
            "{message}"
        );
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_directory_in_use_is_refused_with_the_holder() {
    let server = server().await;
    let message = refusal(config(&server.dir)).await;
    assert!(
        message.contains("in use") && message.contains(&std::process::id().to_string()),
        "{message}"
    );
    server.restart().await;
}

#[tokio::test]
async fn health_and_reflection_know_every_service() {
    let server = server().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(server.channel())
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services");
    };
    let mut names: Vec<String> = list
        .service
        .into_iter()
        .map(|s| s.name)
        .filter(|name| name.starts_with("countersign."))
        .collect();
    assert_eq!(names.len(), 11, "{names:?}");
    names.push(String::new());
    for service in names {
        let health = HealthClient::new(server.channel())
            .check(HealthCheckRequest { service: service.clone() })
            .await
            .unwrap();
        assert_eq!(health.into_inner().status(), ServingStatus::Serving, "{service}");
    }
}
