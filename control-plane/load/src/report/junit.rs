//! The report for build servers: a suite of endpoints, each of which fails when an assertion or an answer did, and a suite of goals.

use std::fmt::Write as _;

use super::Report;

impl Report {
    /// The report as JUnit XML.
    #[must_use]
    pub fn junit(&self) -> String {
        let mut out = String::from(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"countersign load\">\n",
        );
        // Writing to a string cannot fail.
        self.junit_to(&mut out).ok();
        out
    }

    fn junit_to(&self, out: &mut String) -> std::fmt::Result {
        let rows = self.rows();
        let fails = |row: &super::Row<'_>| row.counts.failed > 0 || row.counts.errors > 0;
        let failed = rows.iter().filter(|row| fails(row)).count();
        writeln!(
            out,
            "  <testsuite name=\"endpoints\" tests=\"{}\" failures=\"{failed}\" time=\"{:.3}\">",
            rows.len(),
            self.totals.elapsed.as_secs_f64()
        )?;
        let findings = self.findings();
        for row in &rows {
            let [mean, ..] = row.times;
            write!(
                out,
                "    <testcase classname=\"endpoints\" name=\"{}\" time=\"{:.6}\"",
                escaped(row.name),
                mean / 1000.0
            )?;
            if !fails(row) {
                writeln!(out, "/>")?;
                continue;
            }
            let own = findings.iter().filter(|(endpoint, ..)| *endpoint == row.name);
            let told: Vec<String> = own
                .map(|(_, difference, count)| {
                    format!("{count} × {}: {}", difference.check, difference.at)
                })
                .collect();
            writeln!(
                out,
                ">\n      <failure message=\"{} of {} failed, {} errors\">{}</failure>\n    </testcase>",
                row.counts.failed,
                row.counts.requests,
                row.counts.errors,
                escaped(&told.join("\n"))
            )?;
        }
        writeln!(out, "  </testsuite>")?;
        let missed = self.verdicts.iter().filter(|verdict| !verdict.reached).count();
        writeln!(
            out,
            "  <testsuite name=\"goals\" tests=\"{}\" failures=\"{missed}\">",
            self.verdicts.len()
        )?;
        for verdict in &self.verdicts {
            let name = escaped(&verdict.goal.to_string());
            write!(out, "    <testcase classname=\"goals\" name=\"{name}\"")?;
            if verdict.reached {
                writeln!(out, "/>")?;
            } else {
                let figure = escaped(&verdict.figure());
                writeln!(out, ">\n      <failure message=\"{figure}\"/>\n    </testcase>")?;
            }
        }
        writeln!(out, "  </testsuite>\n</testsuites>")
    }
}

/// A text in an attribute or an element of XML or HTML. Characters that XML cannot hold are left out.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}
