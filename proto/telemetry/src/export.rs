//! Sends spans in batches. What a collector does not take is lost; only that it began and ended to fail is worth a line.

use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tonic::{Request, Status, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use crate::{
    Record,
    wire::{ExportTraceServiceRequest, ExportTraceServiceResponse, Resource, request},
};

/// So many spans go into a message.
const BATCH: usize = 512;
/// How long spans wait for others.
const GATHER: Duration = Duration::from_millis(500);
/// How long a message may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Where OTLP takes traces.
const PATH: PathAndQuery =
    PathAndQuery::from_static("/opentelemetry.proto.collector.trace.v1.TraceService/Export");

/// What the sender is told.
pub(crate) enum Order {
    /// Sends a span.
    Span(Box<Record>),
    /// Sends all before this at once, and says so.
    Flush(oneshot::Sender<()>),
}

/// Goes on until nobody can have a span any more.
pub(crate) async fn run(channel: Channel, resource: Resource, mut orders: mpsc::Receiver<Order>) {
    let mut client = Grpc::new(channel);
    let mut failing = false;
    while let Some(first) = orders.recv().await {
        let (mut batch, mut flushed) = (Vec::new(), None);
        let mut take = |order: Order, batch: &mut Vec<Record>| match order {
            Order::Span(record) => {
                batch.push(*record);
                batch.len() < BATCH
            }
            Order::Flush(done) => {
                flushed = Some(done);
                false
            }
        };
        if take(first, &mut batch) {
            let gather = async {
                while let Some(order) = orders.recv().await {
                    if !take(order, &mut batch) {
                        break;
                    }
                }
            };
            // That nothing more came in time is what it is for.
            drop(timeout(GATHER, gather).await);
        }
        if !batch.is_empty() {
            let sent = send(&mut client, request(&resource, &batch)).await;
            match sent {
                Err(status) if !failing => {
                    tracing::warn!(%status, "the collector takes no spans; they are lost until it does");
                    failing = true;
                }
                Ok(()) if failing => {
                    tracing::info!("the collector takes spans again");
                    failing = false;
                }
                _ => {}
            }
        }
        if let Some(done) = flushed {
            // Whoever asked may have given up.
            let _given_up = done.send(());
        }
    }
}

async fn send(
    client: &mut Grpc<Channel>,
    message: ExportTraceServiceRequest,
) -> Result<(), Status> {
    let sent = async {
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec: ProstCodec<ExportTraceServiceRequest, ExportTraceServiceResponse> =
            ProstCodec::default();
        client.unary(Request::new(message), PATH, codec).await
    };
    timeout(DEADLINE, sent).await.map_err(|_| Status::deadline_exceeded("no answer"))?.map(drop)
}
