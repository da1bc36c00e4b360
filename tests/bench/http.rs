//! Rows P1 to P6: responses per second, latency, CPU time and memory over real sockets, beside bare servers that send the same bytes.

pub(crate) mod ask;
pub(crate) mod bare;
pub(crate) mod contest;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod memory;
pub(crate) mod rows;
pub(crate) mod stage;

use self::contest::{Effort, Verdict, print_head};

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// The rows to measure; all if not given.
    #[arg(long, value_delimiter = ',', value_name = "P1,…")]
    pub(crate) rows: Vec<String>,
    #[command(flatten)]
    pub(crate) effort: Effort,
    /// P1, P5: different tokens per algorithm; each is signed once a second.
    #[arg(long, default_value_t = 1000)]
    pub(crate) tokens: usize,
    /// P2: pairs of each snapshot; the first is what others are compared with. 1000000 takes a minute to import.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1000, 200_000])]
    pub(crate) sizes: Vec<usize>,
    /// P6 alone: memory of a snapshot and of idle connections.
    #[arg(long)]
    pub(crate) memory: bool,
    /// P6: pairs in memory.
    #[arg(long, default_value_t = 200_000)]
    pub(crate) pairs: usize,
    /// P6: connections that do nothing.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) idle: usize,
}

/// All verdicts, and throughput and p99 for each size of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) by_size: Vec<(usize, f64, f64)>,
}

/// Measures and prints.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Results> {
    const ROWS: [&str; 6] = ["P1", "P2", "P3", "P4", "P5", "P6"];
    for row in &plan.rows {
        anyhow::ensure!(ROWS.contains(&row.as_str()), "there is no row {row} here, but {ROWS:?}");
    }
    let wants = |row: &str| {
        let listed = plan.rows.is_empty() || plan.rows.iter().any(|wanted| wanted == row);
        if plan.memory { row == "P6" } else { listed }
    };
    let mut results = Results::default();
    if ["P1", "P4", "P5"].into_iter().any(wants) {
        print_head();
        let shared = rows::Shared::start(plan)?;
        if wants("P1") {
            results.verdicts.extend(shared.resigned(plan)?);
        }
        if wants("P4") {
            results.verdicts.extend(shared.posted(plan)?);
        }
        if wants("P5") {
            results.verdicts.extend(shared.protocols(plan)?);
        }
    }
    if wants("P2") {
        print_head();
        rows::sizes(plan, &mut results)?;
    }
    if wants("P3") {
        print_head();
        results.verdicts.extend(rows::fresh(plan)?);
    }
    if wants("P6") {
        results.verdicts.extend(memory::run(plan)?);
    }
    Ok(results)
}
