//! House: the fences that keep this workspace as ARCHITECTURE.md draws it. A failure names the
//! place and what to use instead. The fences themselves are tried on made-up breaches.

mod citations;
mod code;
mod fences;
mod parts;
mod paths;
mod scenarios;
mod sizes;
mod trials;

use code::Source;
use std::path::{Path, PathBuf};

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the engine lies in it").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file of the three crates.
fn workspace() -> Vec<Source> {
    let root = root();
    let mut sources = Vec::new();
    let mut folders = ["engine", "bench", "loadgen"].map(|member| root.join(member)).to_vec();
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).expect("a member's folder can be listed");
        for entry in entries {
            let path = entry.expect("its entries can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("it lies in the workspace");
                sources.push(Source::new(&name.to_string_lossy().replace('\\', "/"), &read(&path)));
            }
        }
    }
    mark_test_files(&mut sources);
    sources
}

/// Marks the files whose module is declared for tests alone.
fn mark_test_files(sources: &mut [Source]) {
    let modules: Vec<_> = sources.iter().flat_map(Source::test_modules).collect();
    for source in sources {
        let stem = source.path.trim_end_matches(".rs").to_owned();
        if modules.iter().any(|module| fences::is_in(&stem, module)) {
            source.become_test();
        }
    }
}

/// Everything that is wrong with one file.
fn broken(source: &Source, architecture: &str) -> Vec<String> {
    let mut broken = fences::broken_fences(source);
    broken.extend(parts::broken_walls(source));
    broken.extend(parts::broken_silence(source));
    broken.extend(sizes::broken_sizes(source));
    broken.extend(citations::broken_citations(source, architecture));
    broken
}

#[test]
fn the_fences_hold() {
    let sources = workspace();
    for known in ["engine/src/lib.rs", "engine/src/shard/mod.rs", "loadgen/src/main.rs"] {
        assert!(sources.iter().any(|source| source.path == known), "{known} was not looked at");
    }
    let architecture = read(&root().join("ARCHITECTURE.md"));
    let mut all: Vec<_> = sources.iter().flat_map(|source| broken(source, &architecture)).collect();
    all.extend(parts::broken_manifest(&read(&root().join("engine/Cargo.toml"))));
    all.sort();
    assert!(all.is_empty(), "{} fences are broken:\n{}", all.len(), all.join("\n"));
}

#[test]
fn every_rule_is_written_down() {
    let written = citations::written(&read(&root().join("ARCHITECTURE.md")));
    for rule in (1..=17).map(|n| format!("R{n}")).chain((1..=12).map(|n| format!("INV{n}"))) {
        assert!(written.contains(&rule), "ARCHITECTURE.md does not say what {rule} is");
    }
}

#[test]
fn no_page_has_the_marks_of_a_merge() {
    for page in ["ARCHITECTURE.md", "README.md", "results/README.md", "engine/tests/README.md"] {
        let text = read(&root().join(page));
        let marked = text.lines().find(|l| l.starts_with("<<<<<<< ") || l.starts_with(">>>>>>> "));
        assert_eq!(marked, None, "in {page}");
    }
}

#[test]
fn every_test_that_the_table_of_scenarios_names_is_there() {
    let table = read(&root().join("engine/tests/README.md"));
    let broken = scenarios::broken_scenarios(&table, &workspace());
    assert!(broken.is_empty(), "engine/tests/README.md:\n{}", broken.join("\n"));
}
