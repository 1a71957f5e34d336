//! Parts: who may see whom. A part is a folder of engine/src; what it may use of the engine stands
//! here in full, and so the order in which the parts can be read. What is inside a part the
//! compiler keeps: its modules are private.

use super::code::Source;
use super::fences::is_in;
use super::paths::{Path, paths};

/// Each part and the parts that it may see.
const SEES: &[(&str, &[&str])] = &[
    ("sync", &[]),
    ("prefetch", &[]),
    ("words", &[]),
    ("predicate", &["words"]),
    ("route", &["words", "predicate"]),
    ("flush", &["sync", "words"]),
    ("report", &["sync", "words"]),
    ("log", &["sync", "words"]),
    ("snapshot", &["sync", "words", "log"]),
    ("catalog", &["words", "log", "snapshot"]),
    ("consumer", &["sync", "prefetch", "words", "report", "log", "snapshot"]),
    ("control", &["sync", "words", "flush", "predicate", "snapshot", "consumer"]),
    ("feed", &["words", "consumer", "log"]),
    ("run", &["sync", "words", "consumer", "control", "feed", "log"]),
    (
        "shard",
        &[
            "sync",
            "words",
            "predicate",
            "route",
            "flush",
            "report",
            "log",
            "snapshot",
            "consumer",
            "control",
            "run",
        ],
    ),
    (
        "engine",
        &[
            "sync",
            // For a bench.
            "prefetch",
            "words",
            "predicate",
            "report",
            "log",
            "snapshot",
            "catalog",
            "consumer",
            "control",
            "feed",
            "run",
            "shard",
        ],
    ),
    // As an embedder does, by what lib.rs exports of them.
    ("source", &["words", "engine"]),
];

/// What the engine's crate root may have beside comments, and how long it may be.
const ROOT: &str = "engine/src/lib.rs";
const ROOT_LINES_MAX: usize = 150;

/// What sees something that it must not.
pub(crate) fn broken_walls(source: &Source) -> Vec<String> {
    if source.path == ROOT {
        return broken_root(source);
    }
    if ["bench", "loadgen"].iter().any(|place| is_in(&source.path, place)) {
        return reaches_inside(source);
    }
    let Some(inner) = source.path.strip_prefix("engine/src/") else { return Vec::new() };
    let part = inner.split(['/', '.']).next().unwrap_or_default();
    let Some((_, sees)) = SEES.iter().find(|(known, _)| *known == part) else {
        return vec![format!(
            "{}:1: the part {part} is unknown: say in engine/tests/house/parts.rs what it may see",
            source.path
        )];
    };
    let depth = inner.trim_end_matches("/mod.rs").split('/').count();
    let names = paths(&source.tokens).into_iter().filter(|path| !path.test);
    let seen = names.filter_map(|path| Some((path.line, seen_part(&path, depth)?)));
    seen.filter(|(_, seen)| seen != part && !sees.contains(&seen.as_str()))
        .map(|(line, seen)| {
            format!(
                "{}:{line}: {part} must not see {seen}: take what it needs as an argument, or \
                 move the word to engine/src/words",
                source.path
            )
        })
        .collect()
}

/// The part that a path of a module at `depth` leads into, from the crate's root.
fn seen_part(path: &Path, depth: usize) -> Option<String> {
    let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
    let from_root = match path.segments.first()?.as_str() {
        "crate" => path.segments.get(1),
        "super" if supers >= depth => path.segments.get(supers),
        _ => None,
    };
    from_root.filter(|name| SEES.iter().any(|(part, _)| part == *name)).cloned()
}

/// The façade is short: private modules, and one list of names.
fn broken_root(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    let mut say = |line: usize, what: &str| {
        broken.push(format!("{}:{line}: {what}", source.path));
    };
    if source.text.lines().count() > ROOT_LINES_MAX {
        say(1, "the crate's root passes 150 lines: move what it does into a part");
    }
    for two in source.tokens.windows(2).filter(|two| two[0].is("pub")) {
        if !two[1].is("use") {
            say(two[1].line, "only `pub use` is public here: keep modules private, export names");
        }
    }
    for path in paths(&source.tokens).iter().filter(|path| path.contains("*")) {
        say(path.line, "a glob: export each name by itself, so that the list is the public API");
    }
    broken
}

/// Loadgen and bench are embedders.
fn reaches_inside(source: &Source) -> Vec<String> {
    let lines = source.text.lines().enumerate();
    let reaches = lines.filter(|(_, line)| line.contains("engine/src"));
    reaches
        .map(|(index, _)| {
            format!(
                "{}:{}: engine/src is named: use walfan::.., as any embedder does",
                source.path,
                index + 1
            )
        })
        .collect()
}

/// What of the engine's sources and manifest names those who use it, or depends on what is theirs.
pub(crate) fn broken_manifest(manifest: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let mut section = "";
    for (index, line) in manifest.lines().enumerate() {
        let mut say = |what: &str| {
            broken.push(format!("engine/Cargo.toml:{}: {what}", index + 1));
        };
        if line.starts_with('[') {
            section = line.trim();
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        let runtime = ["tokio", "pg_walstream", "tokio-postgres"].contains(&name);
        if section != "[dependencies]" || name.is_empty() {
            continue;
        }
        if ["clap", "indicatif", "criterion", "anyhow", "eyre", "mimalloc"].contains(&name) {
            say("this is for the binaries: the engine does without");
        }
        if runtime && !line.contains("optional = true") {
            say("a source's dependency: make it optional, behind the source's feature");
        }
    }
    broken
}

/// The engine speaks of nobody who uses it.
pub(crate) fn broken_silence(source: &Source) -> Vec<String> {
    if !is_in(&source.path, "engine/src") {
        return Vec::new();
    }
    let lines = source.text.lines().enumerate();
    let speaks = lines.filter(|(_, line)| {
        let line = line.to_lowercase();
        let mut words = line.split(|c: char| !c.is_alphanumeric());
        words.any(|word| ["loadgen", "bench", "benches", "criterion"].contains(&word))
    });
    speaks
        .map(|(index, _)| {
            format!(
                "{}:{}: the engine speaks of loadgen or bench: say what any embedder would see",
                source.path,
                index + 1
            )
        })
        .collect()
}
