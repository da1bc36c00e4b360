//! All rows of performance, one after the other, and a table of what is reached and what is not.

use std::path::PathBuf;

use crate::{
    compile,
    http::{self, contest::Verdict},
    import, peers, plot, soak,
};

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) http: http::Plan,
    /// P7: pairs that are compiled, and P11: pairs that are imported.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) large: usize,
    /// Minutes of the soak; 0 leaves it out.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) soak: f64,
    /// Leaves the peers out.
    #[arg(long)]
    pub(crate) no_peers: bool,
    /// Where the plot of P2 is written to.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
}

/// Rows that this program does not measure.
const ELSEWHERE: [(&str, &str); 2] = [
    ("P9", "fan-out: `bench swarm`"),
    ("P10", "edits refetch what changed: the system test `edits`"),
];

/// Runs everything. What cannot be measured says so in its row, and the rest goes on.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Vec<Verdict>> {
    let mut all = Vec::new();
    match http::run(&plan.http) {
        Ok(results) => {
            all.extend(results.verdicts);
            if let Some(path) = &plan.plot {
                std::fs::write(path, plot::draw(&results.by_size)?)?;
            }
        }
        Err(why) => all.push(failed("P1 to P6", &why)),
    }
    let rounds = if plan.http.effort.quick { 1 } else { plan.http.effort.rounds };
    let compiled = compile::run(compile::Plan { pairs: plan.large, rounds });
    all.extend(compiled.unwrap_or_else(|why| vec![failed("P7", &why)]));
    if !plan.no_peers {
        let peers = peers::run(&peers::Plan { effort: plan.http.effort.clone(), dir: None });
        all.extend(peers.unwrap_or_else(|why| vec![failed("P8", &why)]));
    }
    all.extend(ELSEWHERE.map(|(row, goal)| Verdict::absent(row, goal, "no part of this program")));
    all.push(import::run(plan.large).unwrap_or_else(|why| failed("P11", &why)));
    if plan.soak > 0.0 {
        let soaked = soak::run(soak::Plan {
            minutes: plan.soak,
            window: 30.0_f64.min(plan.soak * 10.0),
            rotate: 5,
            swap: 10,
            connections: plan.http.effort.connections,
            tokens: plan.http.tokens,
        });
        all.extend(soaked.unwrap_or_else(|why| vec![failed("soak", &why)]));
    }
    Ok(all)
}

fn failed(row: &str, why: &anyhow::Error) -> Verdict {
    Verdict::absent(row, "", &format!("{why:#}"))
}
