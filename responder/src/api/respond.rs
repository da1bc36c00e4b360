//! Answers requests that come as messages, by the same way as those of the HTTP listener.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use countersign_proto::{
    responder::v1::{
        Answer, MatchRequest, MatchResponse, Miss, RespondRequest, RespondResponse,
        respond_response::Outcome, responder_service_server::ResponderService,
    },
    snapshot::v1::Header,
};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Shared, explain, problem::Problem, request};
use crate::{
    serve_request::respond,
    server::write::{self, MISS_HEADER, Ours},
};

/// Requests of one stream that are worked on at a time.
const IN_FLIGHT: usize = 32;

/// The service.
#[derive(Debug)]
pub(super) struct Responder {
    pub(super) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl ResponderService for Responder {
    type RespondStreamStream =
        Pin<Box<dyn Stream<Item = Result<RespondResponse, Status>> + Send + 'static>>;

    async fn r#match(
        &self,
        request: Request<MatchRequest>,
    ) -> Result<Response<MatchResponse>, Status> {
        Ok(Response::new(explain::explain(&self.shared, request.into_inner()).await?))
    }

    async fn respond(
        &self,
        request: Request<RespondRequest>,
    ) -> Result<Response<RespondResponse>, Status> {
        let request = request.into_inner();
        let request_id = request.request_id.clone();
        let outcome = answer(&self.shared, request).await?;
        Ok(Response::new(RespondResponse { request_id, outcome: Some(outcome) }))
    }

    async fn respond_stream(
        &self,
        requests: Request<Streaming<RespondRequest>>,
    ) -> Result<Response<Self::RespondStreamStream>, Status> {
        let shared = Arc::clone(&self.shared);
        let stopping = shared.stopping.clone().cancelled_owned();
        let answers = requests
            .into_inner()
            // No further requests are taken once the responder is about to end.
            .take_until(stopping)
            .map(move |request| {
                let shared = Arc::clone(&shared);
                async move {
                    let request = request?;
                    let request_id = request.request_id.clone();
                    let outcome = match answer(&shared, request).await {
                        Ok(outcome) => outcome,
                        Err(problem) => Outcome::Failure(problem.into()),
                    };
                    Ok(RespondResponse { request_id, outcome: Some(outcome) })
                }
            })
            .buffered(IN_FLIGHT);
        Ok(Response::new(Box::pin(answers)))
    }
}

async fn answer(shared: &Shared, request: RespondRequest) -> Result<Outcome, Problem> {
    let RespondRequest { replay, request, trailers, .. } = request;
    let received = request::read(request, &trailers, replay, shared.plane.limits.body)?;
    let is_head = received.request().method == Method::HEAD;
    let response =
        respond(received, &shared.plane, &shared.lane).await.map_err(|_| Problem::Cut)?;
    let (head, body) = response.into_parts();
    let collected = body.collect().await.map_err(|_| Problem::Cut)?;
    let trailers = collected.trailers().map(fields).unwrap_or_default();
    let body = collected.to_bytes();
    if head.extensions.get::<Ours>().is_some() {
        return said(head.status, &head.headers, &body).map(Outcome::Miss);
    }
    Ok(Outcome::Answer(Answer {
        status: head.status.as_u16().into(),
        headers: fields(&head.headers),
        body: if is_head { Bytes::new() } else { body },
        trailers,
    }))
}

fn fields(fields: &HeaderMap) -> Vec<Header> {
    let field = |(name, value): (&HeaderName, &HeaderValue)| Header {
        name: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    fields.iter().map(field).collect()
}

/// What the HTTP listener would say in words of its own.
fn said(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Result<Miss, Problem> {
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let code = text("error");
    let message = match text("message") {
        none if none.is_empty() => code.replace('_', " "),
        message => message,
    };
    match code.as_str() {
        write::UNKNOWN_REPLAY => {
            let served = told.get("served").and_then(Value::as_array).into_iter().flatten();
            let served = served.filter_map(|name| name.as_str().map(str::to_owned)).collect();
            Err(Problem::UnknownReplay { wanted: text("replay"), served })
        }
        write::NOTHING_TO_SERVE => Err(Problem::NothingToServe { message }),
        write::DEFECT => Err(Problem::Defect),
        write::BUNDLE_NOT_SERVED => Err(Problem::Said {
            code: Code::FailedPrecondition,
            reason: code.to_uppercase(),
            message,
        }),
        _ if headers.contains_key(MISS_HEADER) => Ok(Miss {
            replay: text("replay"),
            near_miss_json: String::from_utf8_lossy(body).into_owned(),
            code,
        }),
        _ => Err(Problem::Said {
            code: match status.as_u16() {
                502..=504 => Code::Unavailable,
                500..=599 => Code::Internal,
                _ => Code::FailedPrecondition,
            },
            reason: code.to_uppercase(),
            message,
        }),
    }
}
