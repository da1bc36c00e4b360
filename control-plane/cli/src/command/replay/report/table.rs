//! Reports for people.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::NOTHING};
use countersign_proto::control::v1::{
    EndpointReport, LatencyReport, NearMissGroup, ReasonCount, ReplayReport, ReportComparison,
    ReportTotals, TokenCounts,
};

use crate::{connect::id, view::time};

/// The longest value that is shown of a difference.
const VALUE: usize = 60;

/// A report, with so many endpoints and near misses at the most.
pub(super) fn report(report: &ReplayReport, top: usize) -> String {
    let mut out = head(report);
    let totals = report.totals.clone().unwrap_or_default();
    if totals.requests == 0 {
        out.push_str("no request yet\n");
        return out;
    }
    sum(&mut out, &totals);
    if let Some(counts) = &report.tokens {
        tokens(&mut out, counts);
    }
    endpoints(&mut out, &report.endpoints, top);
    near_misses(&mut out, "why requests missed", &report.near_misses, top);
    responders(&mut out, report);
    left_out(&mut out, report);
    out
}

/// The runs that are kept.
pub(super) fn runs(reports: &[ReplayReport]) -> String {
    if reports.is_empty() {
        return "nothing is kept of any run".to_owned();
    }
    let headings = ["RUN", "SINCE", "UNTIL", "REQUESTS", "HITS", "MISSES", "OWN", "P50", "P99"];
    let mut table = plain(&headings, 3);
    for report in reports {
        let totals = report.totals.clone().unwrap_or_default();
        let latency = totals.latency.unwrap_or_default();
        table.add_row([
            report.run.to_string(),
            time(report.since).unwrap_or_default(),
            time(report.until).unwrap_or_default(),
            totals.requests.to_string(),
            totals.hits.to_string(),
            totals.misses.to_string(),
            percent(totals.own_answer_rate),
            micros(latency.p50_us),
            micros(latency.p99_us),
        ]);
    }
    text(&table)
}

/// Two runs side by side.
pub(super) fn comparison(compared: &ReportComparison, top: usize) -> String {
    let (base, run) =
        (compared.base.clone().unwrap_or_default(), compared.run.clone().unwrap_or_default());
    let mut out = format!("{}  run {} beside run {}\n\n", id(&run.replay), run.run, base.run);
    let totals = |report: &ReplayReport| report.totals.clone().unwrap_or_default();
    let mut sums = plain(&["", &format!("RUN {}", base.run), &format!("RUN {}", run.run)], 1);
    let (a, b) = (totals(&base), totals(&run));
    let (x, y) = (a.latency.unwrap_or_default(), b.latency.unwrap_or_default());
    for (what, a, b) in [
        ("requests", a.requests.to_string(), b.requests.to_string()),
        ("hits", a.hits.to_string(), b.hits.to_string()),
        ("misses", a.misses.to_string(), b.misses.to_string()),
        ("own answers", percent(a.own_answer_rate), percent(b.own_answer_rate)),
        ("p50", micros(x.p50_us), micros(y.p50_us)),
        ("p99", micros(x.p99_us), micros(y.p99_us)),
    ] {
        sums.add_row([what.to_owned(), a, b]);
    }
    out.push_str(&text(&sums));
    let mut table = plain(&["METHOD", "PATH", "HITS", "MISSES", "P50", "P99"], 2);
    for change in compared.endpoints.iter().take(top) {
        let (a, b) =
            (change.base.clone().unwrap_or_default(), change.run.clone().unwrap_or_default());
        let either = if change.run.is_some() { &b } else { &a };
        let (x, y) = (a.latency.unwrap_or_default(), b.latency.unwrap_or_default());
        table.add_row([
            either.method.clone(),
            path(either),
            both(a.hits.to_string(), b.hits.to_string()),
            both(a.misses.to_string(), b.misses.to_string()),
            both(micros(x.p50_us), micros(y.p50_us)),
            both(micros(x.p99_us), micros(y.p99_us)),
        ]);
    }
    let _ = write!(out, "\n{}", text(&table));
    near_misses(&mut out, "new near misses", &compared.new_near_misses, top);
    near_misses(&mut out, "near misses that are gone", &compared.gone_near_misses, top);
    out
}

fn head(report: &ReplayReport) -> String {
    let since = time(report.since).unwrap_or_else(|| "not started".to_owned());
    let until = time(report.until).map(|until| format!(" until {until}")).unwrap_or_default();
    let last = if report.is_last { "" } else { ", not the last" };
    format!("{}  run {}{last}, since {since}{until}\n\n", id(&report.replay), report.run)
}

fn sum(out: &mut String, totals: &ReportTotals) {
    let _ = writeln!(
        out,
        "requests {}   hits {}   misses {}   passed through {}   own answers {}",
        totals.requests,
        totals.hits,
        totals.misses,
        totals.passthrough,
        percent(totals.own_answer_rate)
    );
    if totals.borrowed > 0 || totals.errors > 0 {
        let _ = writeln!(
            out,
            "recorded for somebody else {}   cut off by faults {}",
            totals.borrowed, totals.errors
        );
    }
    let latency = totals.latency.unwrap_or_default();
    let _ = writeln!(
        out,
        "times    p50 {}   p90 {}   p99 {}   p99.9 {}   max {}",
        micros(latency.p50_us),
        micros(latency.p90_us),
        micros(latency.p99_us),
        micros(latency.p999_us),
        micros(latency.max_us)
    );
}

fn tokens(out: &mut String, tokens: &TokenCounts) {
    if tokens.signed + tokens.unsigned + tokens.checked == 0 {
        return;
    }
    let _ = writeln!(
        out,
        "tokens   signed {} ({} from memory)   served as recorded {}{}",
        tokens.signed,
        tokens.cached,
        tokens.unsigned,
        reasons(&tokens.unsigned_reasons)
    );
    if tokens.checked > 0 {
        let _ = writeln!(
            out,
            "         of {} that clients presented and were looked at, {} are sound{}",
            tokens.checked,
            tokens.accepted,
            reasons(&tokens.refused)
        );
    }
}

fn reasons(all: &[ReasonCount]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let told: Vec<String> = all.iter().map(|it| format!("{} {}", it.reason, it.count)).collect();
    format!(" ({})", told.join(", "))
}

fn endpoints(out: &mut String, all: &[EndpointReport], top: usize) {
    if all.is_empty() {
        return;
    }
    let headings =
        ["METHOD", "PATH", "HITS", "MISSES", "PASSED", "STATUS", "P50", "P90", "P99", "MAX"];
    let mut table = plain(&headings, 2);
    for endpoint in all.iter().take(top) {
        let LatencyReport { p50_us, p90_us, p99_us, max_us, .. } =
            endpoint.latency.unwrap_or_default();
        let statuses = endpoint.statuses.iter().map(|it| match it.status {
            0 => format!("others×{}", it.count),
            status => format!("{status}×{}", it.count),
        });
        table.add_row([
            endpoint.method.clone(),
            path(endpoint),
            endpoint.hits.to_string(),
            endpoint.misses.to_string(),
            endpoint.passthrough.to_string(),
            statuses.collect::<Vec<_>>().join(" "),
            micros(p50_us),
            micros(p90_us),
            micros(p99_us),
            micros(max_us),
        ]);
    }
    let _ = write!(out, "\n{}", text(&table));
    more(out, all.len(), top);
}

fn near_misses(out: &mut String, title: &str, all: &[NearMissGroup], top: usize) {
    if all.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}:");
    for group in all.iter().take(top) {
        let last = time(group.last_seen).unwrap_or_default();
        let _ = writeln!(out, "  {}× {} {}   last {last}", group.count, group.method, group.path);
        for difference in &group.differing {
            let shown = |value: &Option<String>| {
                value.as_ref().map_or_else(|| "nothing".to_owned(), |value| shortened(value))
            };
            let (recorded, presented) = (shown(&difference.recorded), shown(&difference.presented));
            let _ =
                writeln!(out, "     {}: {recorded} recorded, {presented} asked", difference.key);
        }
        let _ = writeln!(out, "     {}", group.advice);
        if !group.suggested_rule.is_empty() {
            let _ = writeln!(out, "     {}", group.suggested_rule);
        }
    }
    more(out, all.len(), top);
}

fn responders(out: &mut String, report: &ReplayReport) {
    if report.responders.len() < 2 {
        return;
    }
    let headings = ["RESPONDER", "REQUESTS", "HITS", "MISSES", "P50", "P99", "LAST REPORT"];
    let mut table = plain(&headings, 1);
    for responder in &report.responders {
        let totals = responder.totals.clone().unwrap_or_default();
        let latency = totals.latency.unwrap_or_default();
        table.add_row([
            responder.responder.clone(),
            totals.requests.to_string(),
            totals.hits.to_string(),
            totals.misses.to_string(),
            micros(latency.p50_us),
            micros(latency.p99_us),
            time(responder.last_report).unwrap_or_default(),
        ]);
    }
    let _ = write!(out, "\n{}", text(&table));
}

fn left_out(out: &mut String, report: &ReplayReport) {
    let bounds = report.bounds.clone().unwrap_or_default();
    for (count, what) in [
        (bounds.unexplained_misses, "misses were not explained"),
        (bounds.ungrouped_misses, "misses are in none of the groups that are kept"),
        (u64::from(bounds.other_responders), "responders have no row of their own"),
    ] {
        if count > 0 {
            let _ = writeln!(out, "\n{count} {what}");
        }
    }
    if !bounds.totals_only.is_empty() {
        let _ = writeln!(out, "\ntotals only: {}", bounds.totals_only.join(", "));
    }
}

fn more(out: &mut String, all: usize, top: usize) {
    let left = all.saturating_sub(top);
    if left > 0 {
        let _ = writeln!(out, "  … and {left} more; --top 0 shows all");
    }
}

fn path(endpoint: &EndpointReport) -> String {
    if endpoint.other { "(others)".to_owned() } else { endpoint.path.clone() }
}

fn both(a: String, b: String) -> String {
    if a == b { a } else { format!("{a} → {b}") }
}

/// Microseconds in a unit that fits.
fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

/// A rate in percent; what is not all never shows as all.
fn percent(rate: f64) -> String {
    let thousandths = (rate * 100_000.0).floor() / 1000.0;
    format!("{thousandths:.3} %")
}

fn shortened(value: &str) -> String {
    if value.chars().count() <= VALUE {
        format!("`{value}`")
    } else {
        format!("`{}…`", value.chars().take(VALUE).collect::<String>())
    }
}

/// A table whose columns from this one on hold numbers.
fn plain(headings: &[&str], numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.to_vec());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn text(table: &Table) -> String {
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_told_in_units_that_fit() {
        for (value, shown) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_250, "1.2 ms"),
            (999_999, "999.9 ms"),
            (2_500_000, "2.5 s"),
        ] {
            assert_eq!(micros(value), shown);
        }
        assert_eq!(percent(1.0), "100.000 %");
        assert_eq!(percent(0.999_999_9), "99.999 %", "what is not all is not told as all");
        assert_eq!(percent(0.0), "0.000 %");
    }

    #[test]
    fn a_report_says_what_missed_and_why() {
        let group = NearMissGroup {
            method: "GET".into(),
            path: "/a".into(),
            count: 3,
            advice: "do this".into(),
            suggested_rule: "{}".into(),
            ..NearMissGroup::default()
        };
        let endpoint = EndpointReport {
            method: "GET".into(),
            path: "/a/{id}".into(),
            hits: 7,
            misses: 3,
            ..EndpointReport::default()
        };
        let report = ReplayReport {
            replay: "projects/p/replays/r".into(),
            run: 2,
            totals: Some(ReportTotals {
                requests: 10,
                hits: 7,
                misses: 3,
                own_answer_rate: 0.7,
                ..ReportTotals::default()
            }),
            endpoints: vec![endpoint.clone(), endpoint],
            near_misses: vec![group],
            ..ReplayReport::default()
        };
        let text = super::report(&report, 1);
        for part in
            ["r  run 2", "own answers 70.000 %", "/a/{id}", "3× GET /a", "do this", "and 1 more"]
        {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
    }
}
