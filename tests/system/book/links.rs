//! Links of pages lead to files and headings that are there, and the book's table of contents has every page.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Component, Path, PathBuf},
};

/// The anchors of a page, as mdBook and GitHub make them of headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut found = BTreeSet::new();
    for line in outside_of_blocks(text) {
        let Some(title) = line.strip_prefix('#') else { continue };
        let Some(title) = title.trim_start_matches('#').strip_prefix(' ') else { continue };
        let anchor = anchor(title);
        let count = seen.entry(anchor.clone()).or_default();
        found.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    found
}

/// The anchor of a heading.
pub(super) fn anchor(title: &str) -> String {
    title
        .trim()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

fn outside_of_blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut fence = String::new();
    text.lines().filter(move |line| {
        let trimmed = line.trim_start();
        let ticks: String = trimmed.chars().take_while(|c| *c == '`').collect();
        if fence.is_empty() && ticks.len() >= 3 {
            fence = ticks;
            return false;
        }
        if !fence.is_empty() {
            if trimmed.trim_end() == fence {
                fence.clear();
            }
            return false;
        }
        true
    })
}

/// Where links of a page go.
fn targets(text: &str) -> Vec<String> {
    let prose: Vec<&str> = outside_of_blocks(text).collect();
    let prose = prose.join("\n");
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

/// The path without `.` and `..`.
fn settled(path: &Path) -> PathBuf {
    let mut settled = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(settled.pop()),
            Component::CurDir => {}
            part => settled.push(part),
        }
    }
    settled
}

fn dead(pages: &[(String, String)], is_there: impl Fn(&Path) -> bool) -> Vec<String> {
    let anchors: BTreeMap<PathBuf, _> =
        pages.iter().map(|(name, text)| (PathBuf::from(name), anchors(text))).collect();
    let mut dead = Vec::new();
    for (name, text) in pages {
        for target in targets(text) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let dir = Path::new(name).parent().unwrap_or_else(|| Path::new(""));
            let path = if file.is_empty() { PathBuf::from(name) } else { settled(&dir.join(file)) };
            let leads = is_there(&path)
                && (anchor.is_empty()
                    || anchors.get(&path).is_none_or(|there| there.contains(anchor)));
            if !leads {
                dead.push(format!("{name}: {target}"));
            }
        }
    }
    dead
}

#[test]
fn links_and_anchors_of_pages_lead_somewhere() {
    let root = super::root();
    let found = dead(&super::pages(), |path| root.join(path).exists());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_table_of_contents_has_every_page() {
    let pages = super::pages();
    let summary = &pages.iter().find(|(name, _)| name == "docs/SUMMARY.md").unwrap().1;
    let listed: BTreeSet<String> =
        targets(summary).iter().map(|target| format!("docs/{target}")).collect();
    let there: BTreeSet<String> = pages
        .iter()
        .map(|(name, _)| name.clone())
        .filter(|name| name.starts_with("docs/") && name != "docs/SUMMARY.md")
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn a_dead_link_is_found_out() {
    let page =
        |text: &str| vec![("docs/a.md".to_owned(), format!("# Two Words\n\n## `x`: (y)\n{text}"))];
    let here = |path: &Path| path == Path::new("docs/a.md");
    for good in [
        "[a](a.md)",
        "[a](#two-words)",
        "[a](../docs/a.md#x-y)",
        "```\n[a](no.md)\n```",
        "[a](https://x.example)",
    ] {
        assert!(dead(&page(good), here).is_empty(), "{good}");
    }
    for bad in ["[a](b.md)", "[a](#words)", "[a](a.md#no)"] {
        assert_eq!(dead(&page(bad), here).len(), 1, "{bad}");
    }
}
