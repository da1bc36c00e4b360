//! Reports as JSON: the fields of the API by their JSON names, times in microseconds.

use countersign_proto::control::v1::{
    EndpointReport, LatencyReport, NearMissGroup, ReasonCount, ReplayReport, ReportComparison,
    ReportTotals, TokenCounts,
};
use serde_json::{Map, Value, json};

use crate::view::time;

/// A report.
pub(super) fn report(report: &ReplayReport) -> Value {
    let bundle = report.bundle.as_ref().map(countersign_engine::snapshot::wire::decode_digest);
    let bounds = report.bounds.clone().unwrap_or_default();
    json!({
        "replay": report.replay,
        "run": report.run,
        "isLast": report.is_last,
        "bundle": bundle.and_then(Result::ok).map(|digest| digest.to_string()),
        "since": time(report.since),
        "until": time(report.until),
        "totals": report.totals.as_ref().map(totals),
        "endpoints": report.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "tokens": report.tokens.as_ref().map(tokens),
        "nearMisses": report.near_misses.iter().map(near_miss).collect::<Vec<_>>(),
        "responders": report.responders.iter().map(|it| json!({
            "responder": it.responder,
            "lastReport": time(it.last_report),
            "processes": it.processes,
            "totals": it.totals.as_ref().map(totals),
            "tokens": it.tokens.as_ref().map(tokens),
        })).collect::<Vec<_>>(),
        "series": report.series.iter().map(|it| json!({
            "startTime": time(it.start_time),
            "requests": it.requests,
            "misses": it.misses,
            "requestsPerSecond": it.requests_per_second,
            "missesPerSecond": it.misses_per_second,
            "p50Us": it.p50_us,
            "p99Us": it.p99_us,
        })).collect::<Vec<_>>(),
        "bounds": {
            "maxEndpoints": bounds.max_endpoints,
            "otherRequests": bounds.other_requests,
            "maxNearMisses": bounds.max_near_misses,
            "ungroupedMisses": bounds.ungrouped_misses,
            "unexplainedMisses": bounds.unexplained_misses,
            "totalsOnly": bounds.totals_only,
            "maxResponders": bounds.max_responders,
            "otherResponders": bounds.other_responders,
        },
    })
}

/// Two runs.
pub(super) fn comparison(compared: &ReportComparison) -> Value {
    let groups = |all: &[NearMissGroup]| all.iter().map(near_miss).collect::<Vec<_>>();
    json!({
        "base": compared.base.as_ref().map(report),
        "run": compared.run.as_ref().map(report),
        "endpoints": compared.endpoints.iter().map(|it| json!({
            "base": it.base.as_ref().map(endpoint),
            "run": it.run.as_ref().map(endpoint),
        })).collect::<Vec<_>>(),
        "newNearMisses": groups(&compared.new_near_misses),
        "goneNearMisses": groups(&compared.gone_near_misses),
    })
}

fn totals(totals: &ReportTotals) -> Value {
    json!({
        "requests": totals.requests,
        "hits": totals.hits,
        "misses": totals.misses,
        "passthrough": totals.passthrough,
        "errors": totals.errors,
        "borrowed": totals.borrowed,
        "ownAnswerRate": totals.own_answer_rate,
        "latency": totals.latency.as_ref().map(latency),
        "requestBytes": totals.request_bytes,
        "responseBytes": totals.response_bytes,
    })
}

fn latency(latency: &LatencyReport) -> Value {
    json!({
        "count": latency.count,
        "p50Us": latency.p50_us,
        "p90Us": latency.p90_us,
        "p99Us": latency.p99_us,
        "p999Us": latency.p999_us,
        "maxUs": latency.max_us,
        "meanUs": latency.mean_us,
    })
}

fn endpoint(endpoint: &EndpointReport) -> Value {
    let statuses = endpoint.statuses.iter().map(|it| (it.status.to_string(), it.count.into()));
    json!({
        "method": endpoint.method,
        "host": endpoint.host,
        "path": endpoint.path,
        "other": endpoint.other,
        "hits": endpoint.hits,
        "misses": endpoint.misses,
        "passthrough": endpoint.passthrough,
        "statuses": Value::Object(statuses.collect::<Map<_, _>>()),
        "latency": endpoint.latency.as_ref().map(latency),
        "recordedPairs": endpoint.recorded_pairs,
    })
}

fn tokens(tokens: &TokenCounts) -> Value {
    let reasons = |all: &[ReasonCount]| -> Value {
        let named = all.iter().map(|it| (it.reason.clone(), Value::from(it.count)));
        Value::Object(named.collect::<Map<_, _>>())
    };
    json!({
        "signed": tokens.signed,
        "made": tokens.made,
        "cached": tokens.cached,
        "unsigned": tokens.unsigned,
        "unsignedReasons": reasons(&tokens.unsigned_reasons),
        "checked": tokens.checked,
        "accepted": tokens.accepted,
        "refused": reasons(&tokens.refused),
    })
}

fn near_miss(group: &NearMissGroup) -> Value {
    let rule: Option<Value> = serde_json::from_str(&group.suggested_rule).ok();
    json!({
        "id": group.id,
        "method": group.method,
        "path": group.path,
        "differing": group.differing.iter().map(|it| json!({
            "key": it.key,
            "recorded": it.recorded,
            "presented": it.presented,
        })).collect::<Vec<_>>(),
        "count": group.count,
        "firstSeen": time(group.first_seen),
        "lastSeen": time(group.last_seen),
        "exampleResponder": group.example_responder,
        "exampleId": group.example_id,
        "suggestedRule": rule,
        "advice": group.advice,
    })
}
