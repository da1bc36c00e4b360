//! `docs/promises.md` lists every promise of bad input and faults with the test that holds it. `UPDATE_DOCS=1 cargo test` writes it anew.
//!
//! A promise is a letter and a number, which its tests begin with; their names are the sentences of the page. None may be without a test.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The letter, what it is about, and how many there are.
const TOPICS: [(char, &str, u8); 10] = [
    ('j', "Tokens and keys", 30),
    ('k', "Files of keys", 14),
    ('t', "Templates", 14),
    ('s', "Recordings that are imported", 12),
    ('h', "HTTP and TLS", 16),
    ('g', "gRPC", 10),
    ('d', "What a control plane stores", 15),
    ('c', "Several nodes, and what is between them", 16),
    ('r', "What is used up", 10),
    ('u', "Users, and the web UI", 10),
];

/// Tests whose names cannot begin with a number.
const ELSEWHERE: [(&str, &str, &str); 2] = [
    ("r09", "A panic of the engine costs its own request", "responder/src/serve_request/tests.rs"),
    ("r09", "What panics begins again until it comes to an end", "responder/src/supervise.rs"),
];

/// How words are spelled that are no plain ones.
const SPELLED: [(&str, &str); 15] = [
    ("hmac", "HMAC"),
    ("rsa", "RSA"),
    ("pss", "PSS"),
    ("pkcs1", "PKCS#1"),
    ("sec1", "SEC1"),
    ("ed448", "Ed448"),
    ("ed25519", "Ed25519"),
    ("eddsa", "EdDSA"),
    ("urls", "URLs"),
    ("url", "URL"),
    ("kib", "KiB"),
    ("kid", "`kid`"),
    ("alg", "`alg`"),
    ("s", "’s"),
    ("ui", "UI"),
];

const HEAD: &str = "# What is promised of bad input and faults

Each promise has a number, and at least one test that holds it, whose name is the sentence here. All of them run with `cargo test`, in front of the real binaries where
the place is `tests/system`: the test brings about what the sentence says, and asserts the code that is told, the place that is named, and that another route is served with
good tokens all the while. Faults at random, under load, are what `bench faults` is for; see [benchmarks](BENCHMARKS.md).
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect();
    all.sort();
    let inner = |path: PathBuf| if path.is_dir() { sources(&path) } else { vec![path] };
    let files = all.into_iter().filter(|path| !path.ends_with("node_modules")).flat_map(inner);
    let is_code = |path: &PathBuf| path.extension().is_some_and(|it| it == "rs" || it == "mjs");
    files.filter(is_code).collect()
}

/// The number and the sentence that the name of a test is.
fn promise(line: &str) -> Option<(String, String)> {
    let line = line.trim_start();
    let (_, rest) = line.split_once("fn ").or_else(|| line.split_once("it(\""))?;
    let name = rest.split(['(', '"']).next()?;
    let (number, words) = name.split_once('_')?;
    let (letter, digits) = number.split_at_checked(1)?;
    let (.., count) = TOPICS.iter().find(|(topic, ..)| letter.starts_with(*topic))?;
    // A function may read a `u16` or a `u32`.
    if digits.len() != 2 || digits.parse::<u8>().ok().is_none_or(|nth| nth == 0 || nth > *count) {
        return None;
    }
    let spelled = |word: &str| {
        let known = SPELLED.iter().find(|(plain, _)| *plain == word);
        known.map_or_else(|| word.to_owned(), |(_, spelled)| (*spelled).to_owned())
    };
    let sentence = words.split('_').map(spelled).collect::<Vec<_>>().join(" ").replace(" ’s", "’s");
    let mut letters = sentence.chars();
    let first = letters.next()?.to_uppercase();
    Some((number.to_owned(), first.chain(letters).collect()))
}

#[test]
fn every_promise_has_a_test_and_stands_on_the_page() {
    let mut promises: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (number, sentence, place) in ELSEWHERE {
        assert!(root().join(place).is_file(), "{place}");
        let entry = promises.entry(number.to_owned()).or_default();
        entry.push((sentence.to_owned(), place.to_owned()));
    }
    for dir in ["control-plane", "responder", "tests/system", "tests/ui"] {
        for path in sources(&root().join(dir)) {
            let place = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            for (number, sentence) in text.lines().filter_map(promise) {
                promises.entry(number).or_default().push((sentence, place.clone()));
            }
        }
    }
    let mut page = HEAD.to_owned();
    for (letter, topic, count) in TOPICS {
        write!(page, "\n## {topic}\n\n| | what is promised | held in |\n|---|---|---|\n").unwrap();
        for nth in 1..=count {
            let number = format!("{letter}{nth:02}");
            let tests = promises.remove(&number).unwrap_or_default();
            assert!(!tests.is_empty(), "{number} has no test");
            for (sentence, place) in tests {
                let number = number.to_uppercase();
                writeln!(page, "| {number} | {sentence} | `{place}` |").unwrap();
            }
        }
    }
    let path = root().join("docs/promises.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, page).unwrap();
    } else {
        let known = fs::read_to_string(path).unwrap_or_default();
        assert!(
            known == page,
            "docs/promises.md is not what the tests say: run UPDATE_DOCS=1 cargo test"
        );
    }
}
