//! The journal as the API tells it: what is asked for most as fields, and all of it as the JSON that the admin listener tells.

use std::sync::Arc;

use countersign_proto::responder::v1::{JournalEntry, ListJournalRequest, ListJournalResponse};
use serde_json::Value;

use super::{MAX_PAGE, Problem, blocking};
use crate::{admin::Admin, journal::Filter};

/// The entries that are asked for.
pub(super) async fn list(
    admin: &Admin,
    asked: ListJournalRequest,
) -> Result<ListJournalResponse, Problem> {
    let Some(journal) = &admin.journal else {
        let message = "nothing is noted: this responder was started with --journal 0".to_owned();
        let reason = "NO_JOURNAL".to_owned();
        return Err(Problem::Said { code: tonic::Code::FailedPrecondition, reason, message });
    };
    let journal = Arc::clone(journal);
    let filter = filter(asked)?;
    let table = admin.snapshots.load_full();
    let dropped = journal.dropped();
    let told = blocking(move || journal.tell(&filter, &table)).await?;
    Ok(ListJournalResponse { entries: told.iter().map(entry).collect(), dropped })
}

fn filter(asked: ListJournalRequest) -> Result<Filter, Problem> {
    let mut filter = match asked.outcome.as_str() {
        "" => Filter::default(),
        outcome => Filter::parse(&format!("outcome={outcome}"))
            .map_err(|message| Problem::field("outcome", "INVALID", message))?,
    };
    match usize::try_from(asked.limit) {
        Ok(0) => {}
        Ok(limit) => filter.limit = limit.min(MAX_PAGE),
        Err(_) => return Err(Problem::field("limit", "INVALID", "it is not negative")),
    }
    let wanted = |text: String| (!text.is_empty()).then_some(text);
    filter.host = wanted(asked.host);
    filter.path = wanted(asked.path);
    Ok(filter)
}

fn entry(told: &Value) -> JournalEntry {
    let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let status = told.get("status").and_then(Value::as_u64).unwrap_or_default();
    JournalEntry {
        outcome: text("outcome"),
        status: u32::try_from(status).unwrap_or_default(),
        replay: text("replay"),
        method: text("method"),
        host: text("host"),
        path: text("path"),
        json: told.to_string(),
    }
}
