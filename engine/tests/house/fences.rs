//! Fences: what may not appear where, and what to use instead. Each exception has its reason.

use super::code::{Source, Token};
use super::paths::{Path, paths};

/// One fence.
struct Fence {
    /// A piece of a path (`std::thread`), a macro (`dbg!`), a method (`.elapsed`), an attribute
    /// (`#[ignore`), or a word.
    forbidden: &'static [&'static str],
    /// Files and folders in which it is forbidden, and those among them in which it is not.
    within: &'static [&'static str],
    except: &'static [&'static str],
    /// Longer pieces that are no breach.
    harmless: &'static [&'static str],
    /// Whether it holds in what only tests compile.
    tests_too: bool,
    instead: &'static str,
}

const FENCE: Fence = Fence {
    forbidden: &[],
    within: ENGINE,
    except: &[],
    harmless: &[],
    tests_too: false,
    instead: "",
};

const ENGINE: &[&str] = &["engine/src"];
const ALL: &[&str] = &["engine", "bench", "loadgen"];
/// The one place that starts the engine's threads. A source has a thread of its own.
const THREADS: &[&str] = &[
    "engine/src/engine/threads.rs",
    "engine/src/source/postgres/source.rs",
    // A handler of the simulator that does not return: what waits in it is a thread.
    "engine/src/engine/sim/nap.rs",
];
/// The façade pumps machines and hands them the time. `control` is what its callers wait in, and a
/// source pumps itself.
const CLOCK: &[&str] = &[
    "engine/src/engine",
    "engine/src/control/mod.rs",
    "engine/src/control/flushed.rs",
    "engine/src/source",
];
/// The log's door to the disk.
const FILES: &[&str] =
    &["engine/src/log/device.rs", "engine/src/log/directory.rs", "engine/src/log/floor.rs"];
/// What a delivery passes through, and what only ever belongs to one thread.
const LOCKLESS: &[&str] = &[
    "engine/src/words",
    "engine/src/predicate",
    "engine/src/route",
    "engine/src/flush",
    "engine/src/report",
    "engine/src/consumer",
    "engine/src/feed",
    "engine/src/shard",
];

const FENCES: &[Fence] = &[
    Fence {
        forbidden: &["std::thread", "thread::spawn", "thread::scope", "crossbeam::thread"],
        except: THREADS,
        // A number, not a thread.
        harmless: &["std::thread::available_parallelism"],
        instead: "make it a machine with a step function, and have engine/src/engine/threads.rs \
                  pump it",
        ..FENCE
    },
    Fence {
        forbidden: &["rayon"],
        except: &["engine/src/engine"],
        tests_too: true,
        instead: "bulk work is done in the façade (compiling shapes, opening logs); hand the parts \
                  one item at a time",
        ..FENCE
    },
    Fence {
        forbidden: &["Instant::now", "SystemTime", ".elapsed"],
        except: CLOCK,
        instead: "take `now: Instant` as an argument; whoever pumps the machine reads the clock",
        ..FENCE
    },
    Fence {
        forbidden: &["std::fs", "unix::fs"],
        except: FILES,
        instead: "go through log::Device, log::Directory or log::Floor",
        ..FENCE
    },
    Fence {
        forbidden: &["std::env", "std::process", "std::net", "unix::net"],
        // A number to draw an id with.
        harmless: &["std::process::id"],
        instead: "make it a setting of Builder, or of the source's config",
        ..FENCE
    },
    Fence {
        forbidden: &[
            "println!",
            "print!",
            "eprintln!",
            "eprint!",
            "dbg!",
            "io::stdout",
            "io::stderr",
            "io::stdin",
        ],
        instead: "say it with an Event, a metric or a tracing event",
        ..FENCE
    },
    Fence {
        forbidden: &[
            "sync::atomic",
            "core::sync",
            "crossbeam::atomic",
            "loom::sync",
            "loom::thread",
            "loom::model",
        ],
        except: &["engine/src/sync.rs"],
        tests_too: true,
        instead: "import it from crate::sync, where loom can take its place",
        ..FENCE
    },
    Fence {
        forbidden: &["parking_lot", "sync::Mutex", "sync::RwLock", "sync::Condvar"],
        within: LOCKLESS,
        instead: "let one thread own it and send it messages, or share a word through crate::sync",
        ..FENCE
    },
    Fence {
        forbidden: &["static", "thread_local!", "LazyLock"],
        instead: "keep it in the engine, so that two engines of one process share nothing",
        ..FENCE
    },
    Fence {
        forbidden: &["unsafe"],
        within: ALL,
        except: &["engine/src/prefetch.rs"],
        tests_too: true,
        instead: "find a crate whose job it is, as crossbeam's cells and rustix's calls",
        ..FENCE
    },
    Fence {
        forbidden: &["async", "await", "tokio", "futures", "async_std", "smol", "pg_walstream"],
        except: &["engine/src/source"],
        tests_too: true,
        instead: "block on a crossbeam channel; an async runtime lives in a source, on its thread",
        ..FENCE
    },
    Fence {
        forbidden: &["clap", "indicatif", "criterion", "anyhow", "eyre", "mimalloc"],
        tests_too: true,
        instead: "leave it to the binaries; an error is an enum of its operation, with thiserror",
        ..FENCE
    },
    Fence {
        forbidden: &["global_allocator", "walfan_bench", "walfan_loadgen"],
        tests_too: true,
        instead: "turn it round: loadgen and bench use the engine",
        ..FENCE
    },
    Fence {
        forbidden: &["#[doc(hidden"],
        instead: "keep it private, or export and document it in engine/src/lib.rs",
        ..FENCE
    },
    Fence {
        forbidden: &["todo!", "unimplemented!"],
        within: ALL,
        tests_too: true,
        instead: "write it, or return an error that says what is not supported",
        ..FENCE
    },
    Fence {
        forbidden: &["#[ignore"],
        within: ALL,
        tests_too: true,
        instead: "make the test run, or delete it",
        ..FENCE
    },
];

/// Where the fences are broken.
pub(crate) fn broken_fences(source: &Source) -> Vec<String> {
    let inside = |places: &[&str]| places.iter().any(|place| is_in(&source.path, place));
    let paths = paths(&source.tokens);
    let mut broken = Vec::new();
    for fence in FENCES.iter().filter(|fence| inside(fence.within) && !inside(fence.except)) {
        let mut lines = Vec::new();
        for forbidden in fence.forbidden {
            lines.extend(breaches(forbidden, &source.tokens, &paths, fence));
        }
        lines.sort();
        lines.dedup_by_key(|(line, _)| *line);
        broken.extend(lines.into_iter().map(|(line, what)| {
            format!("{}:{line}: {what} is not for this place: {}", source.path, fence.instead)
        }));
    }
    broken
}

/// Whether `path` is `place` or lies in it.
pub(crate) fn is_in(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn breaches(
    forbidden: &'static str,
    tokens: &[Token],
    paths: &[Path],
    fence: &Fence,
) -> Vec<(usize, &'static str)> {
    let counts = |test: bool| fence.tests_too || !test;
    let harmless = |path: &&Path| !fence.harmless.iter().any(|piece| path.contains(piece));
    let lines: Vec<usize> = if let Some(attribute) = forbidden.strip_prefix("#[") {
        let words: Vec<_> = attribute.split('(').collect();
        let starts = |index: usize| {
            let inner = tokens[index..].iter().filter(|token| token.is_word());
            tokens[index].is("#") && inner.zip(&words).all(|(token, word)| token.is(word))
        };
        let found = (0..tokens.len()).filter(|index| starts(*index) && counts(tokens[*index].test));
        found.map(|index| tokens[index].line).collect()
    } else if let Some(method) = forbidden.strip_prefix('.') {
        let calls = tokens.windows(2).filter(|two| two[0].is(".") && two[1].is(method));
        calls.filter(|two| counts(two[1].test)).map(|two| two[1].line).collect()
    } else if let Some(name) = forbidden.strip_suffix('!') {
        let is_it = |path: &&Path| path.is_macro && path.segments.last().is_some_and(|s| s == name);
        let found = paths.iter().filter(is_it).filter(|path| counts(path.test));
        found.map(|path| path.line).collect()
    } else {
        // A type under another name, whose calls would go unseen.
        let type_name =
            forbidden.split("::").next().filter(|name| name.starts_with(char::is_uppercase));
        let hides =
            |path: &Path| path.is_renamed && type_name.is_some_and(|name| path.contains(name));
        let is_it = |path: &&Path| path.contains(forbidden) || hides(path);
        let found = paths.iter().filter(is_it).filter(harmless).filter(|path| counts(path.test));
        found.map(|path| path.line).collect()
    };
    lines.into_iter().map(|line| (line, forbidden)).collect()
}
