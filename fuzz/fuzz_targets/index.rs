//! Any bytes in the place of a log's sealed index: built anew, or at least read without a fault.
//! The checks are in the engine, where its tests use them too.

#![no_main]

use libfuzzer_sys::fuzz_target;
use walfan::testing::IndexTrial;

thread_local! {
    static TRIAL: IndexTrial = IndexTrial::new();
}

fuzz_target!(|bytes: &[u8]| TRIAL.with(|trial| trial.run(bytes)));
