//! What is stored is read through now and then, and what rots is told.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{interval, timeout},
};

use super::{Server, config, pair, with_config};
use crate::config::Config;

/// Waits until a metric has this value.
async fn counts(server: &Server, metric: &str) {
    let addr = server.running.admin_addr().unwrap();
    let wanted = format!("\n{metric}\n");
    let told = async {
        let mut looks = interval(Duration::from_millis(20));
        loop {
            looks.tick().await;
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut page = String::new();
            stream.read_to_string(&mut page).await.unwrap();
            if page.contains(&wanted) {
                return;
            }
        }
    };
    assert!(timeout(Duration::from_secs(30), told).await.is_ok(), "in vain for {metric}");
}

/// The files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn what_rots_is_found_without_anybody_asking() {
    let dir = TempDir::new().unwrap();
    let config = Config {
        scrub_every: Some(Duration::from_millis(100)),
        admin_listen: Some("127.0.0.1:0".parse().unwrap()),
        ..config(&dir)
    };
    let server = with_config(dir, config).await;
    server.import("s", &[("a.jsonl", pair("OUT", "/a"))]).await;
    counts(&server, "countersign_store_damaged_blobs 0").await;
    counts(&server, "countersign_store_missing_blobs 0").await;
    let stored = files(&server.dir.path().join("data/blobs"));
    let damaged = stored.first().unwrap();
    let mut bytes = fs::read(damaged).unwrap();
    bytes[0] ^= 1;
    fs::write(damaged, bytes).unwrap();
    counts(&server, "countersign_store_damaged_blobs 1").await;
    for file in stored {
        fs::remove_file(file).unwrap();
    }
    counts(&server, "countersign_store_damaged_blobs 0").await;
    counts(&server, "countersign_store_missing_blobs 1").await;
}
