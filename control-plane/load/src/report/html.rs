//! The report as one HTML file: tables and plots, no script, nothing from elsewhere.

use std::fmt::Write as _;

use super::{About, Report, figure, junit::escaped, plot, shown};
use crate::{goal::Metric, number::float};

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:920px;padding:0 1rem;color:#1c2330;background:#fff}\
h1{font-size:1.4rem}h2{font-size:1.05rem;margin-top:2rem}table{border-collapse:collapse;width:100%}th,td{padding:.25rem .6rem;border-bottom:1px solid #dde2ea;text-align:left}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.tiles{display:flex;flex-wrap:wrap;gap:.8rem}.tile{border:1px solid #dde2ea;border-radius:6px;padding:.6rem 1rem;min-width:9rem}\
.tile b{display:block;font-size:1.3rem}.good{color:#147a3d}.bad{color:#b3261e}figure{margin:1rem 0}figcaption{font-weight:600}svg{width:100%;height:auto}svg text{font-size:11px;fill:#5a6475}\
.grid{stroke:#e6e9ef}.quiet{color:#5a6475}td.w{overflow-wrap:anywhere}\
@media(prefers-color-scheme:dark){body{background:#14181f;color:#e4e8ef}th,td,.tile{border-color:#333b48}.grid{stroke:#2a313c}.good{color:#58c98a}.bad{color:#ff8a80}}";

impl Report {
    /// The report as an HTML document.
    #[must_use]
    pub fn html(&self) -> String {
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
             <title>Load on {0}</title><style>{STYLE}</style></head><body>\n<h1>Load on {0}</h1>\n",
            escaped(&self.about.target)
        );
        // Writing to a string cannot fail.
        self.head_to(&mut out).ok();
        self.goals_to(&mut out).ok();
        out.push_str(&self.plots());
        self.latency_to(&mut out).ok();
        self.table_to(&mut out).ok();
        self.differences_to(&mut out).ok();
        out.push_str("</body></html>\n");
        out
    }

    fn head_to(&self, out: &mut String) -> std::fmt::Result {
        let About { source, pattern, began, test_config, transform, interrupted, .. } = &self.about;
        let config = test_config.as_ref().map_or(String::new(), |id| format!(", test config {id}"));
        let chains = transform.as_ref().map_or(String::new(), |id| format!(", transform {id}"));
        let stopped = if *interrupted { " It was interrupted." } else { "" };
        writeln!(
            out,
            "<p class=\"quiet\">{}</p>",
            escaped(&format!(
                "{source}: {} requests of {} users in {} sessions; {pattern}{config}{chains}. Began {began}, took {}.{stopped}",
                self.summary.requests,
                self.summary.users,
                self.summary.sessions,
                shown(self.totals.elapsed)
            ))
        )?;
        writeln!(out, "<div class=\"tiles\">")?;
        let counts = &self.totals.counts;
        let rate = figure(Metric::Rate.of(&self.totals), "/s");
        writeln!(out, "<div class=\"tile\"><b>{}</b>requests, {rate}</div>", counts.requests)?;
        for (name, rate, part) in self.rates() {
            writeln!(
                out,
                "<div class=\"tile\"><b>{}</b>{name}<br><span class=\"quiet\">{part}</span></div>",
                figure(rate, " %")
            )?;
        }
        writeln!(out, "</div>")
    }

    fn goals_to(&self, out: &mut String) -> std::fmt::Result {
        if self.verdicts.is_empty() {
            return Ok(());
        }
        writeln!(out, "<h2>Goals</h2><table><tr><th>goal<th>measured<th>verdict</tr>")?;
        for verdict in &self.verdicts {
            let (class, word) =
                if verdict.reached { ("good", "reached") } else { ("bad", "missed") };
            writeln!(
                out,
                "<tr><td>{}<td>{}<td class=\"{class}\">{word}</tr>",
                escaped(&verdict.goal.to_string()),
                escaped(&verdict.figure())
            )?;
        }
        writeln!(out, "</table>")
    }

    fn plots(&self) -> String {
        let seconds = &self.totals.seconds;
        let line = |name, colour, figure: &dyn Fn(&crate::measure::Second) -> f64| plot::Line {
            name,
            colour,
            figures: seconds.iter().map(figure).collect(),
        };
        let requests = [
            line("requests", "#2563eb", &|second| float(second.requests)),
            line("errors", "#dc2626", &|second| float(second.errors)),
        ];
        let latency = [
            line("p50", "#16a34a", &|second| second.quantiles[0]),
            line("p95", "#d97706", &|second| second.quantiles[1]),
            line("p99", "#dc2626", &|second| second.quantiles[2]),
        ];
        format!(
            "{}\n{}\n",
            plot::draw("Requests a second", "", &requests),
            plot::draw("Response time by second", " ms", &latency)
        )
    }

    fn latency_to(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "<h2>Latency</h2><p class=\"quiet\">Response time counts from the moment a request was to begin, service time from when it was sent.</p>\
             <table><tr><th>percentile<th class=\"n\">response ms<th class=\"n\">service ms</tr>"
        )?;
        for (name, response, service) in self.latencies() {
            writeln!(
                out,
                "<tr><td>{name}<td class=\"n\">{}<td class=\"n\">{}</tr>",
                figure(response, ""),
                figure(service, "")
            )?;
        }
        writeln!(out, "</table>")
    }

    fn table_to(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "<h2>Endpoints</h2><table><tr><th>endpoint<th class=\"n\">requests<th class=\"n\">errors<th class=\"n\">failed<th class=\"n\">own\
             <th class=\"n\">p50 ms<th class=\"n\">p95 ms<th class=\"n\">p99 ms<th class=\"n\">max ms</tr>"
        )?;
        for row in self.rows() {
            let [_, p50, p95, p99, max] = row.times;
            let counts = &row.counts;
            writeln!(
                out,
                "<tr><td class=\"w\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}\
                 <td class=\"n\">{p50:.2}<td class=\"n\">{p95:.2}<td class=\"n\">{p99:.2}<td class=\"n\">{max:.2}</tr>",
                escaped(row.name),
                counts.requests,
                counts.errors,
                counts.failed,
                counts.own
            )?;
        }
        writeln!(out, "</table>")
    }

    fn differences_to(&self, out: &mut String) -> std::fmt::Result {
        let statuses =
            self.totals.statuses.iter().map(|(status, count)| (status.to_string(), count));
        let errors =
            self.totals.errors.iter().map(|(why, count)| (format!("no answer: {why}"), count));
        writeln!(out, "<h2>Answers</h2><table><tr><th>status<th class=\"n\">requests</tr>")?;
        for (name, count) in statuses.chain(errors) {
            writeln!(out, "<tr><td>{}<td class=\"n\">{count}</tr>", escaped(&name))?;
        }
        writeln!(out, "</table>")?;
        let findings = self.findings();
        if findings.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "<h2>What differs</h2><table><tr><th class=\"n\">times<th>endpoint<th>assertion<th>where</tr>"
        )?;
        for (endpoint, difference, count) in findings {
            writeln!(
                out,
                "<tr><td class=\"n\">{count}<td class=\"w\">{}<td>{}<td class=\"w\">{}</tr>",
                escaped(endpoint),
                difference.check,
                escaped(&difference.at)
            )?;
        }
        writeln!(out, "</table>")
    }
}
