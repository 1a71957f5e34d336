//! Memory: this process's resident set, from /proc.

use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::Duration;

/// The allocator keeps pages that are free for a second, and then looks for them once in 10,000
/// times that it goes to its pages. An idle process would wait for that for ever.
const SETTLE: Duration = Duration::from_millis(1_500);
const LOOKS: usize = 20_000;
/// So much has pages of its own, which are not touched.
const LARGE_BYTES: usize = 1 << 20;

/// Has the allocator give back what is free.
pub(crate) fn give_back() {
    thread::sleep(SETTLE);
    (0..LOOKS).for_each(|_| drop(black_box(Vec::<u8>::with_capacity(LARGE_BYTES))));
}

/// Bytes of anonymous memory that are resident: the heap and stacks, without files.
pub(crate) fn anonymous_bytes() -> u64 {
    status("RssAnon:")
}

/// Bytes that are resident.
pub(crate) fn resident_bytes() -> u64 {
    status("VmRSS:")
}

/// The most bytes that were ever resident.
pub(crate) fn peak_bytes() -> u64 {
    status("VmHWM:")
}

/// 0 where the kernel does not say.
fn status(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    kib(&status, key).unwrap_or(0) * 1024
}

fn kib(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_taken_is_seen() {
        assert_eq!(kib("VmRSS:\t  12 kB\nRssAnon:\t 7 kB\n", "RssAnon:"), Some(7));
        assert_eq!(kib("VmRSS:\t  12 kB\n", "RssAnon:"), None);
        let before = anonymous_bytes();
        let taken = vec![1u8; 64 << 20];
        assert!(anonymous_bytes() >= before + (60 << 20));
        assert!(peak_bytes() >= resident_bytes());
        drop(taken);
    }
}
