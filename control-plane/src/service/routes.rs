//! The services on one server: health, reflection and ours.

use std::{sync::Arc, time::Duration};

use countersign_proto::{
    FILE_DESCRIPTOR_SET,
    control::v1::{
        console_service_server::ConsoleServiceServer, inspect_service_server::InspectServiceServer,
        replay_service_server::ReplayServiceServer, report_service_server::ReportServiceServer,
        snapshot_service_server::SnapshotServiceServer,
        test_config_service_server::TestConfigServiceServer,
        traffic_service_server::TrafficServiceServer,
        transform_service_server::TransformServiceServer,
    },
    discovery::v1::{
        chunk_service_server::ChunkServiceServer, discovery_service_server::DiscoveryServiceServer,
        tally_service_server::TallyServiceServer,
    },
};
use tonic::{server::NamedService, service::Routes, transport::Server};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_reflection::server::{Builder, Error};
use tower_layer::{Identity, Stack};

use crate::metrics::Observe;

use super::{
    Plane,
    access::Guard,
    chunk::Chunks,
    console::Console,
    discovery::Discovery,
    inspect::Inspect,
    replay::Replays,
    report::{Intake, Reports, Tallies},
    snapshot::Snapshots,
    test_config::TestConfigs,
    traffic::Traffic,
    transform::Transforms,
};

/// Discovery needs room for acknowledgements that are small but many.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Uploads fill their stream with pieces of half a MiB, in as few frames as may be.
const STREAM_WINDOW: u32 = 1024 * 1024;
const FRAME: u32 = 256 * 1024;

/// The server of the gRPC port, with the limits of its connections.
pub(crate) fn server(
    (observe, guard): (Observe, Guard),
) -> Server<Stack<Guard, Stack<Observe, Identity>>> {
    Server::builder()
        .layer(observe)
        .layer(guard)
        .max_concurrent_streams(100)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_frame_size(FRAME)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
}

/// Every service; each of ours is reported as serving.
pub(crate) async fn all(plane: &Arc<Plane>, health: &HealthReporter) -> Result<Routes, Error> {
    let shared = || Arc::clone(plane);
    let snapshots = SnapshotServiceServer::new(Snapshots { plane: shared() });
    let transforms = TransformServiceServer::new(Transforms { plane: shared() });
    let test_configs = TestConfigServiceServer::new(TestConfigs { plane: shared() });
    let replays = ReplayServiceServer::new(Replays::new(shared()));
    let reports = ReportServiceServer::new(Reports { plane: shared() });
    let tallies = Tallies { plane: shared(), intake: Intake::default() };
    let tallies = TallyServiceServer::new(tallies);
    let inspect = InspectServiceServer::new(Inspect { plane: shared() });
    let traffic = TrafficServiceServer::new(Traffic::new(shared()));
    let console = ConsoleServiceServer::new(Console { plane: shared() });
    let discovery = DiscoveryServiceServer::new(Discovery { plane: shared() });
    let chunks = ChunkServiceServer::new(Chunks::new(shared()));
    let ours = [
        named(&snapshots),
        named(&transforms),
        named(&test_configs),
        named(&replays),
        named(&reports),
        named(&tallies),
        named(&inspect),
        named(&traffic),
        named(&console),
        named(&discovery),
        named(&chunks),
    ];
    for name in ours {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    // The descriptors are those of all planes; only what is served here is told of.
    let describe = || {
        let described =
            Builder::configure().register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET);
        ours.into_iter().fold(described, Builder::with_service_name)
    };
    let health = HealthServer::new(HealthService::from_health_reporter(health.clone()));
    Ok(Routes::new(health)
        .add_service(describe().build_v1()?)
        .add_service(describe().build_v1alpha()?)
        .add_service(snapshots)
        .add_service(transforms)
        .add_service(test_configs)
        .add_service(replays)
        .add_service(reports)
        .add_service(tallies)
        .add_service(inspect)
        .add_service(traffic)
        .add_service(console)
        .add_service(discovery)
        .add_service(chunks))
}

fn named<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}
