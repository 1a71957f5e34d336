//! Trials: each fence meets a breach made up for it, and what only looks like one.

use super::code::Source;
use super::{broken, mark_test_files, parts};

const ARCHITECTURE: &str = "**R1 Minimum.** ...\n### 3.6 Undeliverable\n";

/// A file with a head and `code`.
fn file(path: &str, code: &str) -> Source {
    Source::new(path, &format!("//! A file.\n\n{code}\n"))
}

/// Where it lies, the code, and a piece of what is said of it.
const BREACHES: &[(&str, &str, &str)] = &[
    ("engine/src/log/store.rs", "fn f() { std::thread::spawn(|| ()); }", "threads.rs"),
    ("engine/src/shard/pump.rs", "use std::{fmt, thread::{self, Builder}};", "std::thread"),
    ("engine/src/run/runner.rs", "use std::thread as t;", "std::thread"),
    ("engine/src/route/mod.rs", "use rayon::prelude::ParallelIterator;", "façade"),
    ("engine/src/run/watch.rs", "fn f() -> Instant { Instant::now() }", "argument"),
    ("engine/src/flush/owed.rs", "use std::time::Instant as Clock;", "Instant::now"),
    ("engine/src/log/read.rs", "fn f() { std::time::SystemTime::now(); }", "SystemTime"),
    ("engine/src/feed/feeder.rs", "fn f(since: Instant) { g(since.elapsed()); }", ".elapsed"),
    ("engine/src/log/read.rs", "use std::fs::File;", "log::Device"),
    ("engine/src/engine/open.rs", "fn f() { std::fs::remove_file(\"x\"); }", "log::Device"),
    ("engine/src/engine/builder.rs", "fn f() { std::env::var(\"SHARDS\"); }", "setting"),
    ("engine/src/control/events.rs", "use std::process::exit;", "setting"),
    ("engine/src/engine/mod.rs", "fn f() { println!(\"x\"); }", "Event"),
    ("engine/src/shard/mod.rs", "fn f() { std::dbg!(1); }", "dbg!"),
    ("engine/src/engine/mod.rs", "use std::io::{self, stderr};", "io::stderr"),
    ("engine/src/shard/mod.rs", "use std::sync::{Arc, atomic::AtomicU64};", "crate::sync"),
    ("engine/src/report/wake.rs", "#[cfg(test)] mod t { use loom::thread::spawn; }", "loom"),
    ("engine/src/shard/mod.rs", "use parking_lot::Mutex;", "parking_lot"),
    ("engine/src/consumer/seat.rs", "use std::sync::Mutex;", "sync::Mutex"),
    ("engine/src/route/mod.rs", "static COUNT: Count = Count::new();", "two engines"),
    ("engine/src/words/lsn.rs", "fn f() { unsafe { g() } }", "unsafe"),
    ("loadgen/src/main.rs", "fn f() { unsafe { g() } }", "unsafe"),
    ("engine/src/shard/mod.rs", "async fn f() {}", "runtime"),
    ("engine/src/engine/open.rs", "use tokio::runtime::Runtime;", "runtime"),
    ("engine/src/engine/mod.rs", "use clap::Parser;", "binaries"),
    ("engine/src/lib.rs", "#[global_allocator] fn f() {}", "loadgen and bench use"),
    ("engine/src/engine/mod.rs", "#[doc(hidden)] pub fn f() {}", "doc(hidden"),
    ("loadgen/src/run/mod.rs", "fn f() { todo!() }", "todo!"),
    ("engine/tests/death.rs", "#[test] #[ignore] fn f() {}", "delete it"),
    ("engine/tests/death.rs", "#[ignore = \"slow\"] #[test] fn f() {}", "delete it"),
    ("engine/src/words/lsn.rs", "use crate::shard::Shard;", "words must not see shard"),
    ("engine/src/flush/mod.rs", "fn f(x: &crate::log::Log) {}", "flush must not see log"),
    ("engine/src/route/mod.rs", "use crate::{consumer::Ack, words::Lsn};", "not see consumer"),
    ("engine/src/log/read.rs", "use super::super::control::Control;", "log must not see control"),
    ("engine/src/predicate/mod.rs", "use super::route::Router;", "predicate must not see route"),
    ("engine/src/source/mod.rs", "use crate::control::Control;", "source must not see control"),
    ("engine/src/lib.rs", "pub mod shard;", "only `pub use`"),
    ("engine/src/lib.rs", "pub use words::*;", "a glob"),
    ("engine/src/shard/mod.rs", "// Fast enough for loadgen.", "speaks of loadgen"),
    ("loadgen/src/main.rs", "#[path = \"../../engine/src/log/wire.rs\"] mod wire;", "embedder"),
    ("engine/src/shard/mod.rs", "#[allow(dead_code)] fn f() {}", "without a reason"),
    ("engine/src/shard/mod.rs", "// As in R2.", "R2 is not written"),
    ("engine/src/shard/mod.rs", "/// See INV12.", "INV12 is not written"),
    ("engine/src/shard/mod.rs", "// See section 3.7.", "3.7 is not written"),
];

#[test]
fn a_breach_is_seen_and_what_to_use_instead_is_said() {
    for (path, code, said) in BREACHES {
        let found = broken(&file(path, code), ARCHITECTURE);
        assert_eq!(found.len(), 1, "{path}: {code}: {found:#?}");
        assert!(found[0].starts_with(&format!("{path}:3: ")), "{}", found[0]);
        assert!(found[0].contains(said), "{said:?} is not in {}", found[0]);
    }
}

/// Where it lies, and code that is allowed there.
const HARMLESS: &[(&str, &str)] = &[
    ("engine/src/engine/threads.rs", "use std::thread::{self, JoinHandle};"),
    ("engine/src/engine/builder.rs", "fn f() { std::thread::available_parallelism(); }"),
    ("engine/src/engine/stop.rs", "fn f() { Instant::now(); }"),
    ("engine/src/run/watch.rs", "use std::time::{Duration, Instant};"),
    ("engine/src/log/directory.rs", "use std::fs::{self, File}; fn f() { std::process::id(); }"),
    ("engine/src/sync.rs", "use std::sync::atomic::AtomicU64;"),
    ("engine/src/shard/mod.rs", "// std::thread, unsafe and println!(\"x\") in a comment, R1."),
    ("engine/src/shard/mod.rs", "/* std::fs /* nested */ unsafe */ fn f() {}"),
    ("engine/src/shard/mod.rs", "const X: &str = \"unsafe std::fs \\\" todo!() \";"),
    ("engine/src/shard/mod.rs", "const X: &str = r#\"unsafe \" async\"#; const Y: char = '\"';"),
    ("engine/src/shard/mod.rs", "fn f<'a>(x: &'static str) -> &'a str { x }"),
    ("engine/src/shard/mod.rs", "#[cfg(test)] mod tests { use std::fs; fn f() { dbg!(1); } }"),
    ("engine/src/shard/mod.rs", "#[cfg(all(test, not(loom)))] use std::thread;"),
    ("engine/src/shard/mod.rs", "use crate::sync::{Arc, AtomicU64}; use super::super::words::Lsn;"),
    ("engine/src/shard/mod.rs", "#[allow(dead_code, reason = \"shown\")] fn f() {}"),
    ("engine/src/words/lsn.rs", "#[cfg(test)] mod t { use super::super::shape; }"),
    ("engine/src/source/postgres/run.rs", "async fn f() { tokio::time::sleep(x).await; }"),
    ("engine/tests/death.rs", "use std::thread; fn f() { println!(\"x\"); Instant::now(); }"),
    ("engine/src/shard/mod.rs", "// As section 3.6 of R1 says."),
    ("loadgen/src/main.rs", "#[global_allocator] static A: M = M; fn f() { println!(\"x\"); }"),
];

#[test]
fn what_only_looks_like_a_breach_is_none() {
    for (path, code) in HARMLESS {
        let found = broken(&file(path, code), ARCHITECTURE);
        assert!(found.is_empty(), "{path}: {code}: {found:#?}");
    }
}

#[test]
fn a_new_part_is_asked_what_it_may_see() {
    let found = broken(&file("engine/src/utils/mod.rs", "fn f() {}"), ARCHITECTURE);
    assert!(found.len() == 1 && found[0].contains("the part utils is unknown"), "{found:?}");
}

#[test]
fn what_follows_test_code_is_looked_at_again() {
    let code = "#[cfg(test)]\nmod tests { fn f() { dbg!(1); } }\nfn g() { dbg!(2); }";
    let found = broken(&file("engine/src/shard/mod.rs", code), ARCHITECTURE);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("engine/src/shard/mod.rs:5: "), "{}", found[0]);
}

#[test]
fn a_file_that_only_tests_compile_is_known_by_who_declares_it() {
    let mut sources = [
        file("engine/src/report/dirty.rs", "#[cfg(all(test, loom))]\nmod models;"),
        file("engine/src/report/dirty/models.rs", "use std::fs;"),
        file("engine/src/report/dirty/other.rs", "use std::fs;"),
    ];
    mark_test_files(&mut sources);
    let found = sources.map(|source| broken(&source, ARCHITECTURE).len());
    assert_eq!(found, [0, 0, 1]);
}

#[test]
fn sizes_have_a_stop() {
    let path = "engine/src/shard/mod.rs";
    let long = |lines: usize| format!("fn f() {{{}}}", "\n    g();".repeat(lines));
    let cases = [
        (format!("//! Head.\n{}", "\n".repeat(500)), "split the file"),
        (format!("//! Head.\n// {}\n", "x".repeat(98)), "101 columns"),
        (format!("//! Head.\n{}\n", long(70)), "`f` has 71 lines"),
        ("// No head.\n".to_owned(), "no head"),
    ];
    for (text, said) in cases {
        let found = broken(&Source::new(path, &text), ARCHITECTURE);
        assert!(found.len() == 1 && found[0].contains(said), "{said:?}: {found:?}");
    }
    let fits = format!("//! Head.\n// {}\n{}\n{}", "é".repeat(97), long(69), "\n".repeat(420));
    let found = broken(&Source::new(path, &fits), ARCHITECTURE);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_engine_s_manifest_is_looked_at() {
    let of = |lines: &str| parts::broken_manifest(&format!("[dependencies]\n{lines}\n"));
    assert!(of("anyhow = \"1\"")[0].contains("engine/Cargo.toml:2: "));
    assert!(of("tokio.workspace = true")[0].contains("optional"));
    assert!(of("tokio = { workspace = true, optional = true }\nroaring = \"1\"").is_empty());
    assert!(parts::broken_manifest("[dev-dependencies]\ncriterion = \"1\"\n").is_empty());
}
