//! Prefetch: has the core fetch memory that somebody will look at soon. The engine's one `unsafe`.
//!
//! It pays where many things lie anywhere and are looked at one after another, each at the end of a
//! chain of reads: with two behind each other 4 times (measured as `scattered`).

/// Bytes that come together.
pub(crate) const LINE: usize = 64;

/// Asks for the [`LINE`] around `address`, whatever lies there by now: nothing is read, and nobody
/// can tell that it was asked for but by a clock.
#[inline]
pub(crate) fn prefetch(address: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[allow(unsafe_code, reason = "there is no safe prefetch of what somebody else may own")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint. It dereferences nothing, changes nothing, and faults at no
        // address, mapped or not; SSE is there on every x86_64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address as *const i8) }
    }
    // Elsewhere whoever looks at it waits for it.
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
