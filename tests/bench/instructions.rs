//! Instructions of an answer, as callgrind counts them: they do not depend on what else the machine does, so that CI can compare them.
//!
//! Each case runs twice in a process of its own, with few and with many iterations. What both have in common, setting up and valgrind's own
//! start, is gone from the difference, and what is left is divided by the difference of the iterations.
//!
//! Gungraun would measure the same, but keeps its baseline as profiles below `target`, so that there is nothing to commit, and needs a
//! runner of the very same version to be installed.

mod cases;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;
pub(crate) use cases::Case;
use clap::ValueEnum as _;

use crate::{http::stage, server};

/// Iterations of the shorter and of the longer run.
const FEW: u32 = 500;
const MANY: u32 = 4500;

/// What is compared.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// The cases; all if not given.
    #[arg(long, value_delimiter = ',')]
    case: Vec<Case>,
    /// The percentage by which a count may differ from the baseline, in either direction.
    #[arg(long, default_value_t = 2.0)]
    within: f64,
    /// Writes the counts into the baseline instead of comparing them.
    #[arg(long)]
    update: bool,
    /// Where callgrind's profiles of the longer runs are kept.
    #[arg(long, value_name = "DIR")]
    profiles: Option<PathBuf>,
}

/// Counts, and the compiler that they come from: another one makes other instructions.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Baseline {
    rustc: String,
    instructions: BTreeMap<String, u64>,
}

/// Counts, and compares with the baseline that is part of the repository.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/instructions.json");
    let mut baseline: Baseline = match fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).context("the baseline")?,
        Err(_) => Baseline::default(),
    };
    let rustc = rustc()?;
    let cases = if plan.case.is_empty() { Case::value_variants() } else { &plan.case };
    println!("| case | instructions | baseline | difference |\n|---|---|---|---|");
    let mut differ = Vec::new();
    for case in cases {
        let name = case.name();
        let counted = count(*case, plan.profiles.as_deref())?;
        match baseline.instructions.get(&name) {
            Some(known) => {
                let percent = (float(counted)? / float(*known)? - 1.0) * 100.0;
                println!("| {name} | {counted} | {known} | {percent:+.1} % |");
                if percent.abs() > plan.within {
                    differ.push(name.clone());
                }
            }
            None => {
                println!("| {name} | {counted} | none | |");
                differ.push(name.clone());
            }
        }
        if plan.update {
            baseline.instructions.insert(name, counted);
        }
    }
    if plan.update {
        baseline.rustc = rustc;
        fs::write(&file, format!("{}\n", serde_json::to_string_pretty(&baseline)?))?;
        return Ok(());
    }
    let compiler = if baseline.rustc == rustc {
        String::new()
    } else {
        format!("; the baseline is of {}, this is {rustc}", baseline.rustc)
    };
    anyhow::ensure!(
        differ.is_empty(),
        "more than {} % off the baseline: {}{compiler}. What is meant to be so is recorded with --update",
        plan.within,
        differ.join(", ")
    );
    Ok(())
}

/// The instructions of one iteration: the median of three runs, since each hashes with a seed of its own, and signatures that meet in the
/// table by chance are compared once more.
fn count(case: Case, keep: Option<&Path>) -> anyhow::Result<u64> {
    let mut counts = [0; 3];
    for count in &mut counts {
        let (few, many) = (total(case, FEW, None)?, total(case, MANY, keep)?);
        *count = many.saturating_sub(few) / u64::from(MANY - FEW);
    }
    counts.sort_unstable();
    Ok(counts[1])
}

fn total(case: Case, iterations: u32, keep: Option<&Path>) -> anyhow::Result<u64> {
    let dir = stage::temporary()?;
    let name = format!("callgrind.out.{}", case.name());
    let file = keep.unwrap_or_else(|| dir.path()).join(name);
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet"]);
    valgrind.arg(format!("--callgrind-out-file={}", file.display()));
    valgrind.arg(server::own()?).args(["answer", &case.name(), &iterations.to_string()]);
    let out = valgrind.stdin(Stdio::null()).output().context("valgrind is needed")?;
    let told = String::from_utf8_lossy(&out.stderr);
    anyhow::ensure!(out.status.success(), "{}: {told}", case.name());
    let profile = fs::read_to_string(&file)?;
    let totals = profile.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    Ok(totals.context("callgrind's totals")?.trim().parse()?)
}

fn float(count: u64) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(count).context("a case that is too long")?))
}

fn rustc() -> anyhow::Result<String> {
    let out = Command::new("rustc").arg("--version").output().context("there is no rustc")?;
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}
