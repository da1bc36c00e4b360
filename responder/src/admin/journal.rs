//! `/journal`: the last requests as one JSON document or as JSON lines, and `DELETE` to forget them.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response as HttpResponse, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;

use super::Admin;
use crate::{
    journal::{Filter, Journal},
    server::{
        body::Outgoing,
        write::{Response, ours},
    },
};

impl Admin {
    /// Tells what was noted, or forgets it.
    pub(super) async fn tell_journal(&self, request: &Request<Incoming>) -> Response {
        let problem = |status, message: &str| {
            ours(status, &json!({ "error": "journal", "message": message }))
        };
        let Some(journal) = &self.journal else {
            let message = "nothing is noted: this responder was started with --journal 0";
            return problem(StatusCode::NOT_FOUND, message);
        };
        if request.method() == Method::DELETE {
            return match self.may_change(request) {
                Ok(()) => ours(StatusCode::OK, &json!({ "forgotten": journal.clear() })),
                Err(message) => problem(StatusCode::FORBIDDEN, message),
            };
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return problem(StatusCode::METHOD_NOT_ALLOWED, "only GET and DELETE");
        }
        let query = request.uri().query().unwrap_or_default();
        let filter = match Filter::parse(query) {
            Ok(filter) => filter,
            Err(message) => return problem(StatusCode::BAD_REQUEST, &message),
        };
        self.entries(Arc::clone(journal), filter, wants_lines(request, query)).await
    }

    async fn entries(&self, journal: Arc<Journal>, filter: Filter, lines: bool) -> Response {
        let table = self.snapshots.load_full();
        let dropped = journal.dropped();
        let told = tokio::task::spawn_blocking(move || journal.tell(&filter, &table)).await;
        let Ok(told) = told else {
            let message = "the journal could not be told";
            return ours(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({ "error": "journal", "message": message }),
            );
        };
        if !lines {
            return ours(StatusCode::OK, &json!({ "requests": told, "dropped": dropped }));
        }
        let mut text = String::new();
        for entry in &told {
            text.push_str(&entry.to_string());
            text.push('\n');
        }
        let mut response = HttpResponse::new(Outgoing::whole(text.into()));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
        response
    }
}

/// Whether a line for each request is asked for rather than one document.
fn wants_lines(request: &Request<Incoming>, query: &str) -> bool {
    let accepted = request.headers().get_all(header::ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    query.split('&').any(|pair| pair == "format=jsonl")
        || (accepted.any(|value| value.contains("jsonl") || value.contains("ndjson"))
            && !query.split('&').any(|pair| pair == "format=json"))
}
